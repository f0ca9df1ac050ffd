"""The anatomical regions that carry the relevance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.record.schema import RegionRow
from reports.blocks import Block, Callout, Column, Picture, Section, Table
from reports.context import Context
from reports.glossary import method
from reports.plainly import region_sentence
from reports.words import clean, number, plain, plural

TOP = 10
LISTED = {"expected": 12, "control": 5, "": 8}
DRAWN = {"expected": 5, "control": 3}
ROLES = {"expected": "expected", "control": "control", "": ""}
METHODS_DRAWN = 4
METHODS_LISTED = 4


def build(context: Context) -> Section | None:
    """Build the ranking of regions."""
    regions = context.record.regions
    if not regions:
        return None
    by_method = {
        name: sorted((row for row in regions if row.method == name), key=_rank)
        for name in dict.fromkeys(row.method for row in regions)
    }
    blocks: list[Block] = [
        Callout("Conclusion", [region_sentence(rows) for rows in by_method.values()], tone="plain"),
        _picture(context, by_method),
        _table(by_method),
    ]
    atlas = context.record.atlas.get("name", "")
    return Section(
        "regions",
        "Regions of the brain",
        "Which regions carry the decision, and are they those expected for the disease?"
        + (f" Atlas: {atlas}." if atlas else ""),
        blocks,
    )


def _table(by_method: Mapping[str, Sequence[RegionRow]]) -> Table:
    """Tabulate the regions that any method ranks high, by role: expected, controls, others."""
    shown = list(by_method)[:METHODS_LISTED]
    best: dict[str, tuple[float, str]] = {}
    for row in (row for name in shown for row in by_method[name]):
        best[row.region] = min(best.get(row.region, (float("inf"), "")), (_rank(row)[0], row.role))
    ordered = [
        region
        for role, most in LISTED.items()
        for region in sorted((r for r in best if best[r][1] == role), key=lambda r: best[r])[:most]
    ]
    cells = {(name, row.region): row for name in shown for row in by_method[name]}
    left = len(by_method) - len(shown)
    regions = len({row.region for rows in by_method.values() for row in rows}) - len(ordered)
    more = [f"{plural(regions, 'other region')}"] * (regions > 0) + [plural(left, "further method")] * (
        left > 0
    )
    return Table(
        caption="Relevance per volume over that of the whole brain (1 is no preference); rank [95 %].",
        columns=[
            Column("Region", 1.9),
            Column("Role", 1.0),
            *(Column(method(name).title, 1.8) for name in shown),
        ],
        rows=[
            [plain(region), ROLES[best[region][1]], *(_cell(cells.get((name, region))) for name in shown)]
            for region in ordered
        ],
        note=f"{' and '.join(more)} in audit.json." if more else "",
    )


def _cell(row: RegionRow | None) -> str:
    if row is None or row.density.value is None:
        return "–"
    rank = f"{row.rank.value:.0f}" if row.rank.value is not None else "–"
    if row.rank.low is not None and row.rank.high is not None:
        rank += f" [{row.rank.low:.0f}–{row.rank.high:.0f}]"
    return f"{number(row.density.value)}; {rank}"


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
