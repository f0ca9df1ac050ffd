"""Relevance against the experts' marks, beside maps that know nothing of the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.record.schema import Agreement
from reports.blocks import Block, Bullets, Column, Part, Picture, Section, Table, Text
from reports.context import Context
from reports.glossary import METRIC_ORDER, method, metric, metric_key, null
from reports.plainly import agreement_sentences
from reports.words import clean, figure, number, p_value, plain, plural

if TYPE_CHECKING:
    from pipeline.record.schema import Figure
    from reports.figures.charts import Panel, Row

ROWS_SHOWN = 72
SINGLE_SHOWN = 100
DRAWN = (
    "log2_mass_lift",
    "expected_log2_density_lift",
    "mass_accuracy",
    "rank_accuracy",
    "auprc",
    "pointing_game",
)


def build(context: Context) -> Section | None:
    """Build one part per lesion type."""
    agreement = context.record.agreement
    if not agreement:
        return None
    blocks: list[Block] = [
        Text(
            "Relevance is compared with the marks of experts, and so are maps that know nothing of the "
            "model, and the same method on twins of the model that have learnt nothing. Only what lies "
            "clearly above these nulls and twins says something about the model. Difference: method minus "
            "null or twin, paired by case. p: paired test, corrected for the number of tests "
            "(Benjamini–Hochberg). n: patients."
        )
    ]
    left_out = _left_out(agreement)
    if left_out:
        blocks.append(Text(left_out, small=True))
    for index, lesion in enumerate(dict.fromkeys(row.lesion for row in agreement)):
        rows = [row for row in agreement if row.lesion == lesion]
        blocks.append(Part(plain(lesion).capitalize(), _part(context, index, lesion, rows)))
    if context.record.experts.twins:
        blocks.append(_twins(context))
    return Section(
        "agreement",
        "Agreement with experts",
        "Does relevance lie where experts see lesions, and more so than any map would?",
        blocks,
    )


def _twins(context: Context) -> Part:
    rows = [
        [
            twin.name,
            twin.kind,
            str(twin.images),
            number(twin.spread),
            ", ".join(f"{method(m).title} {100 * s:.0f} %" for m, s in twin.zero_maps.items() if s) or "none",
            f"left out: {twin.degenerate}" if twin.degenerate else "compared with",
        ]
        for twin in context.record.experts.twins
    ]
    table = Table(
        caption="Twins have the audited architecture. Random weights get the BatchNorm statistics of this "
        "cohort’s images; one that hardly reacts to its input would be beaten by anything and is left out.",
        columns=[
            Column("Twin", 0.9),
            Column("Weights", 1.3),
            Column("Images", 0.7, "right"),
            Column("Spread of logits", 1, "right"),
            Column("Empty maps", 1.4),
            Column("Use", 2.2),
        ],
        rows=rows,
    )
    return Part("Twins of the model", [table])


def _against(rows: Sequence[Agreement]) -> str:
    """Name cases whose logit is negative: their relevance says why the model did not call the class."""
    found = [row for row in rows if row.against is not None and row.metric in DRAWN[:2]]
    if not found:
        return ""
    told = [f"{method(row.method).title} {figure(row.against or row.figure)}" for row in found]
    count = max((row.against.n + row.against.excluded) for row in found if row.against)
    return (
        f"Reported apart: {plural(count, 'case')} with a negative logit for the audited class, where "
        f"relevance explains why the model did not call it. Their lift (log₂): {'; '.join(told)}."
    )


def _left_out(agreement: Sequence[Agreement]) -> str:
    counts: dict[str, int] = {}
    for row in agreement:
        counts[row.lesion] = max(counts.get(row.lesion, 0), row.figure.excluded)
    told = [f"{plain(lesion)}: up to {plural(count, 'case')}" for lesion, count in counts.items() if count]
    return f"Left out, for want of marks or of positive relevance: {'; '.join(told)}." if told else ""


def _part(context: Context, index: int, lesion: str, rows: Sequence[Agreement]) -> list[Block]:
    from reports.figures.charts import intervals

    sentences = agreement_sentences(rows)
    blocks: list[Block] = [Bullets(sentences)] if sentences else []
    panels = _panels(context, lesion, rows)
    if panels:
        path, relative = context.figure_path(f"agreement-{index + 1}.svg")
        intervals(path, panels, main="this method")
        titles = ", ".join(panel.title for panel in panels)
        blocks.append(
            Picture(
                relative,
                alt=f"Agreement with the marks of {plain(lesion)}: {titles}, for each method with its 95 % "
                "interval and the nulls in the same row. All numbers are in the table that follows.",
                caption="Filled dots: the method, with its 95 % interval by patient. Open symbols: maps that "
                "know nothing of the model, and twins that have learnt nothing, on the same cases. Dashed "
                "line: chance, where it is one number.",
            )
        )
    apart = _against(rows)
    if apart:
        blocks.append(Text(apart, small=True))
    left = ROWS_SHOWN
    for name in sorted(dict.fromkeys(row.metric for row in rows), key=_order):
        lines = [line for row in rows if row.metric == name for line in _lines(row)]
        if left > 0:
            blocks.append(_table(name, lines[:left]))
        left -= len(lines)
    if left < 0:
        blocks.append(Text(f"{plural(-left, 'row')} more in audit.json.", small=True))
    return blocks


def _table(name: str, lines: list[list[str]]) -> Table:
    term = metric(name)
    return Table(
        caption=f"{term.title}. {term.meaning}",
        columns=[
            Column("Method", 1.35),
            Column("Value [95 %]", 1.75),
            Column("n", 0.4, "right"),
            Column("Null or twin", 1.75),
            Column("Its value [95 %]", 1.75),
            Column("Difference [95 %]", 1.85),
            Column("p", 0.7, "right"),
        ],
        rows=lines,
    )


def _order(name: str) -> tuple[int, str]:
    key = metric_key(name)
    return (METRIC_ORDER.index(key) if key in METRIC_ORDER else len(METRIC_ORDER), key)


def _lines(row: Agreement) -> list[list[str]]:
    own = [method(row.method).title, figure(row.figure), str(row.figure.n)]
    if not row.nulls:
        return [[*own, "–", "–", "–", "–"]]
    return [
        [
            *own,
            null(name).title,
            figure(value),
            figure(row.differences[name]) if name in row.differences else "–",
            p_value(row.p_values.get(name)),
        ]
        for name, value in row.nulls.items()
    ]


def _panels(context: Context, lesion: str, rows: Sequence[Agreement]) -> list[Panel]:
    from reports.figures.charts import Panel

    methods = list(dict.fromkeys(row.method for row in rows))
    panels = []
    for name in DRAWN:
        found = {row.method: row for row in rows if metric_key(row.metric) == name}
        if any(row.figure.value is not None for row in found.values()):
            lines = [_row(context, m, lesion, found.get(m)) for m in methods]
            panels.append(Panel(_short(name), lines, 0.0 if name.startswith("log2") else None))
    return panels


def _short(name: str) -> str:
    return {
        "log2_mass_lift": "Lift of relevance\non marks (log₂)",
        "expected_log2_density_lift": "Density of expected\nregions (log₂)",
        "mass_accuracy": "Relevance\non marks",
        "rank_accuracy": "Strongest points\non marks",
        "auprc": "Detection of\nmarks (AUPRC)",
        "pointing_game": "Pointing\ngame",
    }.get(name, metric(name).title)


def _row(context: Context, name: str, lesion: str, row: Agreement | None) -> Row:
    from pipeline.record.schema import Figure
    from reports.figures.charts import Row

    title = clean(method(name).title)
    if row is None:
        return Row(title, Figure())
    return Row(
        title,
        row.figure,
        {clean(null(n).title): value for n, value in _beside(row).items()},
        _single(context, name, lesion, row.metric),
    )


def _beside(row: Agreement) -> dict[str, Figure]:
    return row.nulls if row.ceiling is None else {**row.nulls, "experts": row.ceiling}


def _single(context: Context, name: str, lesion: str, measure: str) -> list[float]:
    """Single cases of the audited class; none for rates, where a case is 0 or 1, nor of large cohorts."""
    table = context.measurements
    if table is None or metric_key(measure) == "pointing_game":
        return []
    keep = (
        (table["method"] == name)
        & (table["lesion"] == lesion)
        & (table["metric"] == measure)
        & (table["target"] == context.record.target)
    )
    values = table.loc[keep, "value"].dropna()
    return [] if len(values) > SINGLE_SHOWN else [float(v) for v in values[abs(values) < 1e6]]
