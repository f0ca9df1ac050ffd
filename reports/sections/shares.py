"""Relevance that lies where no anatomy is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pipeline.record.schema import Figure
from reports.blocks import Block, Column, Picture, Section, Table
from reports.context import Context
from reports.glossary import METHODS, method, null, share
from reports.plainly import TWINS
from reports.words import clean, compact, counted

if TYPE_CHECKING:
    from reports.figures.charts import Row


def build(context: Context) -> Section | None:
    """Build shares of relevance outside the field and in its rim: methods, then maps without a model."""
    from reports.figures.charts import Panel, intervals

    record = context.record
    shares = {kind: values for kind, values in record.shares.items() if values}
    if not shares:
        return None
    own = [row.name for row in record.methods]
    names = sorted(
        dict.fromkeys(name for values in shares.values() for name in values),
        key=lambda name: _order(name, own),
    )
    panels = [
        Panel(
            clean(share(kind).title),
            [_row(name, values, own) for name in names if ":" not in name],
            0.0,
        )
        for kind, values in shares.items()
    ]
    titles = ", ".join(share(kind).title for kind in shares)
    blocks: list[Block] = []
    if any(row.figure.value is not None for panel in panels for row in panel.rows):
        path, relative = context.figure_path("shares.svg")
        intervals(path, panels, main="mean, 95 % interval", per_row=3)
        blocks.append(
            Picture(
                relative,
                alt=f"{titles}, for each method, its twins and nulls with their 95 % interval. "
                "All numbers are in the next table.",
                caption="Mean over cases with its 95 % interval by patient. Much relevance outside the "
                "anatomy points to a shortcut such as a label burnt into the image.",
            )
        )
    blocks.append(
        Table(
            caption="The same in numbers. " + " ".join(_term(kind) for kind in shares),
            columns=[
                Column("Map", 1.6),
                *(Column(f"{share(kind).title} [95 %]", 1.6) for kind in shares),
                Column("n", 0.8),
            ],
            rows=[
                [
                    _name(name, own),
                    *(compact(values.get(name, Figure())) for values in shares.values()),
                    counted(next(values[name] for values in shares.values() if name in values)),
                ]
                for name in names
            ],
        )
    )
    anatomy = "brain" if record.modality == "mri" else "camera’s field of view"
    return Section(
        "shares",
        "Relevance where no anatomy is",
        f"How much of the relevance, of either sign, lies outside the {anatomy} or in its rim?",
        blocks,
    )


def _row(name: str, values: Mapping[str, Figure], own: list[str]) -> Row:
    """Build a row of the plot: a method with its twins, or a null map."""
    from reports.figures.charts import Row

    others = {
        clean(null(kind).title): values[f"{kind}:{name}"] for kind in TWINS if f"{kind}:{name}" in values
    }
    return Row(clean(_name(name, own)), values.get(name, Figure()), others)


def _order(name: str, own: list[str]) -> tuple[int, str]:
    """Put twins behind the method they belong to, null maps last."""
    of_method = name.partition(":")[2] or name
    return (own.index(of_method) if of_method in own else len(own), "" if name in own else name)


def _name(name: str, own: list[str]) -> str:
    kind, _, of_method = name.partition(":")
    if of_method:
        twin = "the shuffled-label twin" if kind == "shuffled" else "random twins"
        return f"{method(of_method).title} on {twin}"
    return method(name).title if name in own or name in METHODS else f"{null(name).title} (null)"


def _term(kind: str) -> str:
    term = share(kind)
    return f"{term.title}: {term.meaning}" if term.meaning else ""
