"""Relevance against the experts' marks, beside maps that know nothing of the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.record.schema import Agreement
from reports.blocks import Block, Callout, Column, Part, Picture, Section, Table, Text
from reports.context import Context
from reports.glossary import METRIC_ORDER, method, metric, metric_key, null
from reports.plainly import (
    AVERAGE,
    SURE,
    TWINS,
    agreement_sentence,
    ceiling_sentence,
    detector_sentence,
    standing,
)
from reports.sections.agreement_tables import measures, twins
from reports.words import compact, plain, plural

if TYPE_CHECKING:
    from reports.figures.beside import Line

SINGLE_SHOWN = 100
MOST = 7  # methods of which all measures fit on the page; beyond, they are in audit.json only
PLACES = 5
REFERENCES = (*TWINS, "contrast", AVERAGE)


def build(context: Context) -> Section | None:
    """Build an overview, one page a lesion type, and the other measures in one table."""
    agreement = context.record.agreement
    if not agreement:
        return None
    by_lesion = {
        lesion: main_rows([row for row in agreement if row.lesion == lesion])
        for lesion in dict.fromkeys(row.lesion for row in agreement)
    }
    blocks: list[Block] = [
        Text(
            "A map above chance proves nothing: even a model that has learnt nothing has one. So each map is "
            "compared, case by case, with maps that never ask the model (nulls), and with the same method on "
            "twins of the model that have learnt nothing. Only what lies above all of them says something "
            "about the model. In the plots, filled dots are the model’s maps, open symbols the same method "
            "on twins, and grey rows ask no model; on the right stands what the method reaches minus what "
            "twins and local contrast reach. Differences to every null, with p, are in audit.json, single "
            "cases in measurements.parquet."
        ),
        *_overview(by_lesion),
    ]
    left_out = _left_out(agreement)
    if left_out:
        blocks.append(Text(left_out, small=True))
    if context.record.experts.twins:
        blocks.append(twins(context.record.experts.twins))
    for index, (lesion, rows) in enumerate(by_lesion.items()):
        every = [row for row in agreement if row.lesion == lesion]
        blocks.append(Part(_title(lesion), _page(context, index, rows, every), new_page=True))
    return Section(
        "agreement",
        "Agreement with experts",
        "Does relevance lie where experts see lesions, and more so than any map would?",
        blocks,
        new_page=True,
    )


def main_rows(rows: Sequence[Agreement]) -> list[Agreement]:
    """Rows of the measure that decides: the first of `METRIC_ORDER` that was measured."""
    first = min({metric_key(row.metric) for row in rows}, key=_order)
    return [row for row in rows if metric_key(row.metric) == first]


def _order(name: str) -> tuple[int, str]:
    return (METRIC_ORDER.index(name) if name in METRIC_ORDER else len(METRIC_ORDER), name)


def _title(lesion: str) -> str:
    return plain(lesion).capitalize()


def _overview(by_lesion: dict[str, list[Agreement]]) -> list[Block]:
    """Tabulate where each method stands on each lesion type."""
    names = list(dict.fromkeys(row.method for rows in by_lesion.values() for row in rows))
    tables: list[Block] = []
    lesions = list(by_lesion)
    for start in range(0, len(lesions), PLACES):
        shown = lesions[start : start + PLACES]
        cells = {(row.method, lesion): standing(row) for lesion in shown for row in by_lesion[lesion]}
        tables.append(
            Table(
                caption="At a glance: what each map is surely above (paired by case, 95 % interval above 0 "
                "and corrected p below 0.05), and if not above all, what it is not above.",
                columns=[Column("Method", 1.1), *(Column(_title(lesion), 1.4) for lesion in shown)],
                rows=[
                    [method(name).title, *(cells.get((name, lesion), "–") for lesion in shown)]
                    for name in names
                ],
            )
        )
    return tables


def _lower(title: str) -> str:
    return title[0].lower() + title[1:]


def _left_out(agreement: Sequence[Agreement]) -> str:
    counts: dict[str, int] = {}
    for row in agreement:
        counts[row.lesion] = max(counts.get(row.lesion, 0), row.figure.excluded)
    told = [f"{plain(lesion)}: up to {plural(count, 'case')}" for lesion, count in counts.items() if count]
    return f"Left out, for want of marks or of positive relevance: {'; '.join(told)}." if told else ""


def _page(context: Context, index: int, rows: list[Agreement], every: Sequence[Agreement]) -> list[Block]:
    """Build the page of one lesion type: a sentence, a plot, what decides, and all measures."""
    dice = context.record.experts.dice_of_experts.get(rows[0].lesion)
    said = [agreement_sentence(rows), detector_sentence(every), ceiling_sentence(rows, dice)]
    blocks: list[Block] = [Callout("Conclusion", [text for text in said if text], tone="plain")]
    if any(row.figure.value is not None for row in rows):
        blocks.append(_picture(context, index, rows))
    blocks.append(_table(rows))
    apart = _against(rows)
    if apart:
        blocks.append(Text(apart, small=True))
    if len({metric_key(row.metric) for row in every}) > 1 and len(rows) <= MOST:
        blocks.append(measures(every))
    return blocks


def _picture(context: Context, index: int, rows: Sequence[Agreement]) -> Picture:
    from reports.figures.beside import beside

    term = metric(rows[0].metric)
    logarithm = metric_key(rows[0].metric).startswith(("log2", "expected_log2"))
    path, relative = context.figure_path(f"agreement-{index + 1}.svg")
    lines = _lines(context, rows)
    beside(path, lines, term.title, 0.0 if logarithm else None)
    experts = " Experts: one’s marks taken as the map, another’s as the truth." if rows[0].ceiling else ""
    scale = "log₂: +1 is twice as much, 0 is chance. " if logarithm else ""
    return Picture(
        relative,
        alt=f"{term.title} on {plain(rows[0].lesion)} for {plural(len(rows), 'method')}, their twins and "
        "maps without any model, each with its 95 % interval, and paired differences. Differences are in the "
        "next table, other numbers in the table of all measures.",
        caption=f"{scale}Bars: 95 % interval by patient.{experts}",
    )


def _lines(context: Context, rows: Sequence[Agreement]) -> list[Line]:
    from reports.figures.beside import Line
    from reports.words import clean

    def title(name: str) -> str:
        return clean(null(name).title)

    lines = [
        Line(
            clean(method(row.method).title),
            row.figure,
            twins={title(n): row.nulls[n] for n in TWINS if n in row.nulls},
            differences={title(n): row.differences[n] for n in REFERENCES[:3] if n in row.differences},
            single=_single(context, row),
        )
        for row in rows
    ]
    nulls = {n: value for row in rows for n, value in row.nulls.items() if n not in TWINS}
    lines += [Line(title(name), value, null=True) for name, value in nulls.items()]
    ceiling = next((row.ceiling for row in rows if row.ceiling is not None), None)
    if ceiling is not None:
        lines.append(Line(title("experts"), ceiling, null=True))
    return lines


def _single(context: Context, row: Agreement) -> list[float]:
    """Single cases of the audited class; none of large cohorts."""
    table = context.measurements
    if table is None:
        return []
    lesion = "" if row.lesion == "expected_regions" else row.lesion
    keep = (
        (table["method"] == row.method)
        & (table["lesion"] == lesion)
        & (table["metric"] == row.metric)
        & (table["target"] == context.record.target)
    )
    if "logit" in table:
        keep &= ~(table["logit"] < 0)
    values = table.loc[keep, "value"].dropna()
    return [] if len(values) > SINGLE_SHOWN else [float(v) for v in values[abs(values) < 1e6]]


def _table(rows: Sequence[Agreement]) -> Table:
    """Tabulate what decides: the paired differences."""
    present = dict.fromkeys(name for row in rows for name in row.differences)
    shown = [name for name in REFERENCES if name in present]
    shown = shown or list(present)[:4]
    columns = [Column("Method", 1.6), Column("Reaches [95 %]", 1.6)]
    columns += [Column(f"minus {_lower(null(name).title)}", 1.7) for name in shown]
    columns.append(Column("n", 0.4, "right"))
    return Table(
        caption=f"{metric(rows[0].metric).title}: paired differences [95 %]. *: p below {SURE} after "
        "correction (Benjamini–Hochberg). n: patients.",
        columns=columns,
        rows=[
            [
                method(row.method).title,
                compact(row.figure),
                *(_difference(row, name) for name in shown),
                str(row.figure.n),
            ]
            for row in rows
        ],
        note=_floored(rows),
    )


def _difference(row: Agreement, name: str) -> str:
    if name not in row.differences:
        return "not run" if name in TWINS else "–"
    p = row.p_values.get(name)
    return f"{compact(row.differences[name])}{'*' if p is not None and p < SURE else ''}"


def _floored(rows: Sequence[Agreement]) -> str:
    told = [f"{method(row.method).title} {row.floored}" for row in rows if row.floored]
    return f"Cases without measurable relevance on the marks, set to the floor: {', '.join(told)}." * bool(
        told
    )


def _against(rows: Sequence[Agreement]) -> str:
    """Name cases whose logit is negative: their relevance says why the model did not call the class."""
    found = [row for row in rows if row.against is not None]
    if not found:
        return ""
    told = [f"{method(row.method).title} {compact(row.against or row.figure)}" for row in found]
    count = max((row.against.n + row.against.excluded) for row in found if row.against)
    return (
        f"Reported apart: {plural(count, 'case')} with a negative logit for the audited class, where "
        f"relevance explains why the model did not call it. They reach: {'; '.join(told)}."
    )
