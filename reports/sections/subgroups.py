"""Whether it holds for everybody."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.record.experts import GroupRow
from pipeline.record.schema import Figure
from reports.blocks import Block, Callout, Column, Picture, Section, Table, Text
from reports.context import Context
from reports.glossary import method, metric
from reports.plainly import group_sentence
from reports.words import clean, compact, counted, number, p_value, plain, plural

PANELS = 4
MAPS = 14


def build(context: Context) -> Section | None:
    """Build skill and agreement by age band, sex, site, eye, label, and right or wrong answer."""
    found = context.record.experts
    if not found.groups:
        return None
    told = [row for row in found.groups if _told(row)]
    blocks: list[Block] = [
        Callout("Conclusion", [group_sentence(found.groups, found.smallest_group)], tone="plain")
    ]
    drawn = {_title(r): [q for q in told if _title(q) == _title(r)] for r in told}
    if drawn:
        blocks.append(_picture(context, dict(list(drawn.items())[:PANELS])))
    answers = [row for row in told if not row.method]
    maps = sorted(
        (row for row in told if row.method),
        key=lambda r: (1.0 if r.p is None else r.p, -abs(r.difference or 0)),
    )
    small = list(
        dict.fromkeys(f"{r.grouping} {r.level} (n = {r.figure.n})" for r in found.groups if not _told(r))
    )
    if answers:
        blocks.append(_table(answers, _small(small)))
    if maps:
        rest = len(maps) - MAPS
        more = (
            f"The {MAPS} with the smallest p; {plural(rest, 'row')} more in audit.json." if rest > 0 else ""
        )
        blocks.append(_table(maps[:MAPS], more if answers else f"{more} {_small(small)}".strip()))
    if small and not told:
        blocks.append(Text(_small(small), small=True))
    return Section(
        "subgroups",
        "Subgroups",
        "Is the model as good, and does its relevance lie as well, in every group of patients?",
        blocks,
    )


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


def _table(rows: Sequence[GroupRow], note: str) -> Table:
    maps = bool(rows[0].method)
    about = (
        "Lift of relevance (log₂) in subgroups."
        if maps
        else f"Right answers. {metric(rows[0].metric).meaning}"
    )
    return Table(
        caption=f"{about} Each subgroup is compared with the rest of the cohort; p: permutation test, "
        "corrected for the number of subgroups (Benjamini–Hochberg).",
        columns=[
            *([Column("Map", 1.3), Column("Marks", 1.3)] if maps else []),
            Column("Group", 0.9),
            Column("Level", 1.2),
            Column("Value [95 %]", 1.6),
            Column("Difference to the rest", 1.2, "right"),
            Column("p", 0.7, "right"),
            Column("n", 1.0),
        ],
        rows=[
            [
                *([method(r.method).title, plain(r.lesion)] if maps else []),
                r.grouping,
                r.level,
                compact(r.figure),
                number(r.difference),
                p_value(r.p),
                counted(r.figure),
            ]
            for r in rows
        ],
        note=note,
    )


def _small(small: Sequence[str]) -> str:
    return f"Too few patients for a number: {', '.join(small)}." if small else ""
