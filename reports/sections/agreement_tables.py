"""Tables of agreement: every measure of every map, and which twins were compared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reports.blocks import Column, Part, Table
from reports.glossary import METRIC_ORDER, method, metric, metric_key, null
from reports.plainly import TWINS
from reports.words import compact, number, plural

if TYPE_CHECKING:
    from pipeline.record.experts import TwinRow
    from pipeline.record.schema import Agreement

MEASURES = 5
HARD = ("contrast", "sobel", "experts")
LEFT_TO_RECORD = ("log2_rank_lift",)


def measures(rows: Sequence[Agreement]) -> Table:
    """Tabulate every measure of every method and null map of one lesion type, without differences."""
    present = dict.fromkeys(metric_key(row.metric) for row in rows)
    many = len({row.method for row in rows}) > 4
    names = [m for m in METRIC_ORDER if m in present and m not in LEFT_TO_RECORD]
    names = [*names, *(m for m in present if m not in METRIC_ORDER)][:MEASURES]
    return Table(
        caption="What every map reaches [95 % by patient]. The measures are explained under “In plain "
        "words”; others, and the twins’ own values, are in audit.json.",
        columns=[Column("Map", 1.9), *(Column(SHORT.get(m, metric(m).title), 1.7) for m in names)],
        rows=_lines(rows, names, HARD if many else None),
    )


SHORT = {
    "log2_mass_lift": "Lift (log₂)",
    "expected_log2_density_lift": "Density lift (log₂)",
    "mass_accuracy": "RMA",
    "rank_accuracy": "RRA",
    "auprc": "AUPRC",
    "pointing_game": "Pointing game",
}


def _lines(
    rows: Sequence[Agreement], names: Sequence[str], nulls_shown: Sequence[str] | None
) -> list[list[str]]:
    """Rows of one lesion type: methods, nulls (all, or those that are hard to beat), experts."""
    by_name: dict[str, dict[str, str]] = {}
    nulls: dict[str, dict[str, str]] = {}
    for row in rows:
        key = metric_key(row.metric)
        by_name.setdefault(method(row.method).title, {})[key] = compact(row.figure)
        beside = {name: value for name, value in row.nulls.items() if name not in TWINS}
        if row.ceiling is not None:
            beside["experts"] = row.ceiling
        for name, value in beside.items():
            if nulls_shown is not None and name not in nulls_shown:
                continue
            nulls.setdefault(f"{null(name).title} (null)" if name != "experts" else null(name).title, {})[
                key
            ] = compact(value)
    return [
        [name, *(cells.get(m, "–") for m in names)]
        for name, cells in (by_name | nulls).items()
        if any(m in cells for m in names)
    ]


def twins(rows: Sequence[TwinRow]) -> Part:
    """Tabulate the twins and whether they are fair opponents."""
    return Part(
        "Twins of the model",
        [
            Table(
                caption="Twins have the audited architecture. Random weights get the BatchNorm statistics "
                "of this cohort’s images; a twin that hardly reacts to its input would be beaten by anything "
                "and is left out, and so are methods with more than 5 % of empty maps.",
                columns=[
                    Column("Twin", 0.9),
                    Column("Weights", 1.2),
                    Column("Images", 0.6, "right"),
                    Column("Spread of logits", 0.9, "right"),
                    Column("over their size", 0.9, "right"),
                    Column("Empty maps", 1.5),
                    Column("Use", 1.6),
                ],
                rows=[
                    [
                        twin.name,
                        twin.kind,
                        str(twin.images),
                        number(twin.spread),
                        number(twin.relative_spread),
                        _zero(twin),
                        f"left out: {twin.degenerate}" if twin.degenerate else "compared with",
                    ]
                    for twin in rows
                ],
            )
        ],
    )


def _zero(twin: TwinRow) -> str:
    empty = [f"{method(m).title} {100 * share:.0f} %" for m, share in twin.zero_maps.items() if share]
    return ", ".join(empty) or (f"none of {plural(len(twin.zero_maps), 'method')}" if twin.zero_maps else "–")
