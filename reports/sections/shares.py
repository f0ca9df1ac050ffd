"""Relevance that lies where no anatomy is."""

from __future__ import annotations

from pipeline.record import Figure
from reports.blocks import Block, Column, Picture, Section, Table
from reports.context import Context
from reports.glossary import method, share
from reports.words import clean, counted, figure


def build(context: Context) -> Section | None:
    """Build shares of relevance outside the field and in its rim, per method."""
    from reports.figures.charts import Panel, Row, intervals

    shares = {name: values for name, values in context.record.shares.items() if values}
    if not shares:
        return None
    kinds = list(dict.fromkeys(kind for values in shares.values() for kind in values))
    panels = [
        Panel(
            clean(share(kind).title),
            [Row(clean(method(name).title), values.get(kind, Figure())) for name, values in shares.items()],
            0.0,
        )
        for kind in kinds
    ]
    anatomy = "brain" if context.record.modality == "mri" else "camera’s field of view"
    titles = ", ".join(share(kind).title for kind in kinds)
    blocks: list[Block] = []
    if any(row.figure.value is not None for panel in panels for row in panel.rows):
        path, relative = context.figure_path("shares.svg")
        intervals(path, panels, main="this method", per_row=3)
        blocks.append(
            Picture(
                relative,
                alt=f"{titles}, for each method with its 95 % interval. All numbers are in the next table.",
                caption="Mean over cases with its 95 % interval by patient. Much relevance outside the "
                "anatomy points to a shortcut such as a label burnt into the image.",
            )
        )
    return Section(
        "shares",
        "Relevance where no anatomy is",
        f"How much of the relevance, of either sign, lies outside the {anatomy} or in its rim?",
        [
            *blocks,
            Table(
                caption="The same in numbers.",
                columns=[
                    Column("Method", 1.4),
                    *(Column(f"{share(k).title} [95 %]", 1.6) for k in kinds),
                    Column("n", 0.6),
                ],
                rows=[
                    [
                        method(name).title,
                        *(figure(values.get(kind, Figure())) for kind in kinds),
                        counted(next(iter(values.values()))),
                    ]
                    for name, values in shares.items()
                ],
            ),
        ],
    )
