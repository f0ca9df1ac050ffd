"""What an occlusion puts in the place of a region decides what it seems to find."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.record.schema import Figure
from reports.blocks import Block, Column, Part, Section, Table, Text
from reports.context import Context
from reports.words import class_name, figure, plain

FILLS = {
    "swap": "Other class",
    "zero": "Zero",
    "grey": "Mid-grey",
    "mean": "Mean",
    "blur": "Blur",
}


def build(context: Context) -> Section | None:
    """Build one table a class: regions by fills."""
    record = context.record
    found = record.interventions
    if found is None or not found.fills:
        return None
    disease = class_name(record.target, record.model.classes)
    fills = [f for f in FILLS if any(row.fill == f for row in found.fills)]
    blocks: list[Block] = [
        Text(
            f"Fall of the score for {disease}, in logits, when a region (left and right together) is "
            "covered. A negative number means that covering the region made the disease look more likely. On "
            "MRI a black region looks like fluid and imitates atrophy; grey looks like healthy tissue. Only "
            "the region of a matched case of the other class is something that the model could have seen."
        )
    ]
    for positive in (True, False):
        rows = [row for row in found.fills if row.positive == positive]
        if not rows:
            continue
        cells = {(row.region, row.fill): row.fall for row in rows}
        roles = {row.region: row.role for row in rows}
        table = Table(
            caption="Mean fall of the score; 95 % interval by patient.",
            columns=[
                Column("Region", 2),
                Column("Role", 1),
                *(Column(FILLS[fill], 1.7) for fill in fills),
            ],
            rows=[
                [plain(region), role, *(figure(cells.get((region, fill), Figure())) for fill in fills)]
                for region, role in roles.items()
            ],
            note=_raising(cells, fills),
        )
        tables = [table, _ranks(cells, roles, fills)] if positive else [table]
        blocks.append(Part(f"Cases {'of' if positive else 'that are not'} {disease}", tables))
    return Section(
        "fill_bias",
        "What covers a region matters",
        "Would occlusion tell another story with another fill?",
        blocks,
    )


def _ranks(cells: dict[tuple[str, str], Figure], roles: Mapping[str, str], fills: list[str]) -> Table:
    """Rank the regions under each fill: the order is what an occlusion map shows."""
    orders = {fill: _order(cells, list(roles), fill) for fill in fills}
    expected = [region for region, role in roles.items() if role == "expected"]
    top = {fill: sum(orders[fill].get(r, 999) <= len(expected) for r in expected) for fill in fills}
    counts = ", ".join(f"{FILLS[fill].lower()} {top[fill]}" for fill in fills)
    return Table(
        caption="Rank of each region under each fill; 1: covering it takes most of the score away.",
        columns=[
            Column("Region", 2),
            Column("Role", 1),
            *(Column(FILLS[fill], 1.2, "right") for fill in fills),
        ],
        rows=[
            [plain(region), role, *(str(orders[fill].get(region, "–")) for fill in fills)]
            for region, role in roles.items()
        ],
        note=f"Expected regions among the first {len(expected)} of {len(roles)}: {counts}.",
    )


def _order(cells: dict[tuple[str, str], Figure], regions: list[str], fill: str) -> dict[str, int]:
    falls = {region: cells.get((region, fill), Figure()).value for region in regions}
    known = sorted((-fall, region) for region, fall in falls.items() if fall is not None)
    return {region: rank for rank, (_, region) in enumerate(known, start=1)}


def _raising(cells: dict[tuple[str, str], Figure], fills: list[str]) -> str:
    parts = []
    for fill in fills:
        values = [f.value for (_, name), f in cells.items() if name == fill and f.value is not None]
        parts.append(f"{FILLS[fill].lower()} {sum(v < 0 for v in values)} of {len(values)}")
    return f"Regions whose cover raised the score: {', '.join(parts)}."
