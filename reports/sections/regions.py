"""The anatomical regions that carry the relevance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.record.schema import RegionRow
from reports.blocks import Block, Column, Part, Picture, Section, Table
from reports.context import Context
from reports.glossary import method
from reports.words import clean, figure, plain, plural

TOP = 10
LISTED = {"expected": 14, "control": 6}
DRAWN = {"expected": 5, "control": 3}
ROLES = {"expected": "expected", "control": "control", "": ""}
METHODS_DRAWN = 4


def build(context: Context) -> Section | None:
    """Build the ranking of regions."""
    regions = context.record.regions
    if not regions:
        return None
    by_method = {
        name: sorted((row for row in regions if row.method == name), key=_rank)
        for name in dict.fromkeys(row.method for row in regions)
    }
    blocks: list[Block] = [_picture(context, by_method)]
    for name, rows in by_method.items():
        shown = _selection(rows, LISTED)
        rest = len(rows) - len(shown)
        table = Table(
            caption="Relevance per volume over that of the whole brain; 1 is no preference.",
            columns=[
                Column("Region", 2.6),
                Column("Role", 0.9),
                Column("Relative density [95 %]", 1.7),
                Column("Rank [95 %]", 1.7),
                Column("n", 0.5, "right"),
            ],
            rows=[
                [plain(r.region), ROLES[r.role], figure(r.density), figure(r.rank), str(r.density.n)]
                for r in shown
            ],
            note=f"The {TOP} highest and the first of the expected regions and controls; "
            f"{plural(rest, 'other region')} in audit.json."
            if rest
            else "",
        )
        blocks.append(Part(method(name).title, [table]))
    atlas = context.record.atlas.get("name", "")
    return Section(
        "regions",
        "Regions of the brain",
        "Which regions carry the decision, and are they those expected for the disease?"
        + (f" Atlas: {atlas}." if atlas else ""),
        blocks,
    )


def _rank(row: RegionRow) -> tuple[float, float, str]:
    rank = row.rank.value if row.rank.value is not None else float("inf")
    return (rank, -(row.density.value or 0.0), row.region)


def _selection(rows: Sequence[RegionRow], roles: Mapping[str, int]) -> list[RegionRow]:
    """Take the highest, then the best of each role, in the order of the ranks."""
    keep = list(rows[:TOP])
    for role, most in roles.items():
        keep += [row for row in rows[TOP:] if row.role == role][:most]
    return sorted(keep, key=_rank)


def _picture(context: Context, by_method: dict[str, list[RegionRow]]) -> Picture:
    from reports.figures.charts import Row, regions

    drawn = list(by_method.items())[:METHODS_DRAWN]
    path, relative = context.figure_path("regions.svg")
    panels = [
        (
            clean(method(name).title),
            [Row(clean(plain(r.region)), r.density, role=r.role) for r in _selection(rows, DRAWN)],
        )
        for name, rows in drawn
    ]
    regions(path, panels, reference=1.0)
    first = ", ".join(plain(r.region) for r in drawn[0][1][:3])
    more = len(by_method) - len(drawn)
    return Picture(
        relative,
        alt=f"Bars of relative relevance density per region for {plural(len(drawn), 'method')}. "
        f"Highest under {method(drawn[0][0]).title}: {first}. All numbers are in the tables that follow.",
        caption="Relevance per volume over that of the whole brain, with 95 % intervals; the dashed line at "
        "1 is no preference. Filled: expected for the disease. Hatched: negative controls, where relevance "
        "would be suspicious." + (f" {plural(more, 'further method')} in the tables." if more > 0 else ""),
    )
