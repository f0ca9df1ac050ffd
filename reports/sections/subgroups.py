"""Whether it holds for everybody."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.record.experts import GroupRow
from pipeline.record.schema import Figure
from reports.blocks import Block, Column, Part, Picture, Section, Table, Text
from reports.context import Context
from reports.glossary import method, metric
from reports.plainly import group_sentence
from reports.words import clean, counted, figure, number, p_value, plain

PANELS = 4


def build(context: Context) -> Section | None:
    """Build skill and agreement by age band, sex, site, eye, label, and right or wrong answer."""
    found = context.record.experts
    if not found.groups:
        return None
    blocks: list[Block] = [
        Text(
            f"{group_sentence(found.groups, found.smallest_group)} Each subgroup is compared with the rest "
            "of the cohort; p is corrected for the number of subgroups (Benjamini–Hochberg)."
        )
    ]
    panels = _by_panel(found.groups)
    drawn = {_title(r): [q for q in found.groups if _title(q) == _title(r)] for r in found.groups if _told(r)}
    if drawn:
        blocks.append(_picture(context, dict(list(drawn.items())[:PANELS])))
    for title, rows in panels.items():
        told = [row for row in rows if _told(row)]
        small = list(
            dict.fromkeys(f"{r.grouping} {r.level} (n = {r.figure.n})" for r in rows if not _told(r))
        )
        blocks.append(Part(title, [_table(told, small)] if told else [Text(_small(small), small=True)]))
    return Section(
        "subgroups",
        "Subgroups",
        "Is the model as good, and does its relevance lie as well, in every group of patients?",
        blocks,
    )


def _by_panel(groups: Sequence[GroupRow]) -> dict[str, list[GroupRow]]:
    panels: dict[str, list[GroupRow]] = {}
    for row in groups:
        title = f"Lift on {plain(row.lesion)}" if row.method else metric(row.metric).title
        panels.setdefault(title, []).append(row)
    return panels


def _told(row: GroupRow) -> bool:
    return row.figure.value is not None


def _title(row: GroupRow) -> str:
    if not row.method:
        return metric(row.metric).title
    return f"{method(row.method).title}:\n{plain(row.lesion)}"


def _picture(context: Context, panels: dict[str, list[GroupRow]]) -> Picture:
    from reports.figures.charts import Panel, Row, intervals

    names = list(dict.fromkeys((r.grouping, r.level) for rows in panels.values() for r in rows))
    path, relative = context.figure_path("subgroups.svg")
    drawn = []
    for title, rows in panels.items():
        figures = {(r.grouping, r.level): r.figure for r in rows}
        lines = [Row(clean(f"{g}: {level}"), figures.get((g, level), Figure())) for g, level in names]
        drawn.append(Panel("\n".join(clean(part) for part in title.split("\n")), lines))
    intervals(path, drawn, main="subgroup, 95 % interval")
    titles = ", ".join(" ".join(title.split()) for title in panels)
    return Picture(
        relative,
        alt=f"{titles} in every subgroup with its 95 % interval. All numbers are in the tables.",
        caption="Every subgroup that is large enough, with its 95 % interval by patient; for maps the lift "
        "of relevance on the marks (log₂). All numbers are in the tables.",
    )


def _table(rows: Sequence[GroupRow], small: Sequence[str]) -> Table:
    return Table(
        caption=metric(rows[0].metric).meaning,
        columns=[
            *([Column("Map", 1.5)] if rows[0].method else []),
            Column("Group", 1.1),
            Column("Level", 1.6),
            Column("Value [95 %]", 2),
            Column("Difference to the rest", 1.4, "right"),
            Column("p", 0.9, "right"),
            Column("n", 1.2),
        ],
        rows=[
            [
                *([method(r.method).title] if r.method else []),
                r.grouping,
                r.level,
                figure(r.figure),
                number(r.difference),
                p_value(r.p),
                counted(r.figure),
            ]
            for r in rows
        ],
        note=_small(small),
    )


def _small(small: Sequence[str]) -> str:
    return f"Too few patients for a number: {', '.join(small)}." if small else ""
