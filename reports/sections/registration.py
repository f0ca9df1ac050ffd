"""Where the regions are: how each image got them, what the gate saw, and what was refused."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.record.cases import RegionsFound
from pipeline.record.schema import AuditRecord, CaseRow
from reports.blocks import Block, Callout, Column, Part, Picture, Section, Table, Text
from reports.context import Arrays, Context
from reports.sections.cases import pages
from reports.words import MINUS, NONE, clean, cut, plural

ROWS = 40
DRAWN = 6  # of the selected, and of the refused
A_PAGE = 3  # brains under each other
HOW = {
    "template space": "already in template space",
    "registration": "registered",
    "segmentation": "own segmentation",
    "landmarks": "disc and fovea",
}


def build(context: Context) -> Section | None:
    """Build the table of the gate, and pictures of the regions."""
    record = context.record
    rows = [case for case in record.cases if case.registration is not None]
    if not rows:
        return None
    refused = [case for case in rows if not _of(case).accepted]
    blocks: list[Block] = [
        Callout("Conclusion", _sentences(record, rows, refused), tone="warning" if refused else "plain"),
        _table(record, rows),
    ]
    if record.modality == "mri":
        blocks.append(Text(READING, small=True))
    shown = [case for case in pages(record) if case.registration is not None and _of(case).accepted]
    blocks += _pictures(context, refused, "Refused", "refused")
    blocks += _pictures(context, shown, "Selected cases", "selected")
    return Section(
        "registration",
        "Where the regions are",
        "Do the regions lie where the anatomy is? Methods of regions are as good as that.",
        blocks,
        new_page=True,
    )


READING = (
    "Brain, grey and white matter: overlap (Dice, 0–1) of the carried template with the image’s own, found "
    "from intensities. Similarity: correlation with the template within both brains. Volumes: 1st and 99th "
    "percentile of the deformation’s Jacobian determinant (1 is unchanged; 0 or less is a fold). An image "
    "that already lies in template space is not registered, so only its overlap and correlation are given. "
    "The limits and what they were set on are in the tool’s documentation of anatomy."
)


def _of(case: CaseRow) -> RegionsFound:
    assert case.registration is not None
    return case.registration


def _sentences(record: AuditRecord, rows: Sequence[CaseRow], refused: Sequence[CaseRow]) -> list[str]:
    ways = {how: sum(_of(c).how == how and _of(c).accepted for c in rows) for how in HOW}
    listed = [f"{count} {HOW[how]}" for how, count in ways.items() if count]
    used = len(rows) - len(refused)
    said = [f"{used} of {plural(len(rows), 'case')} {'has' if used == 1 else 'have'} regions"]
    if listed:
        said[0] += f": {', '.join(listed)}"
    said[0] += "."
    if refused:
        said.append(
            f"{plural(len(refused), 'case')} refused: no number of regions counts "
            f"{'it' if len(refused) == 1 else 'them'}, and the reasons stand below."
        )
    if record.modality == "fundus":
        fallback = sum(any("quadrants" in note for note in case.notes) for case in rows)
        if fallback:
            said.append(
                f"In {plural(fallback, 'photograph')} disc or fovea stayed uncertain: the quadrants of the "
                "picture stand for the fields there, and none of them counts as expected."
            )
    return said


def _table(record: AuditRecord, rows: Sequence[CaseRow]) -> Table:
    """Refused cases first, then those with the smallest overlap."""
    ordered = sorted(rows, key=lambda c: (_of(c).accepted, _of(c).brain or 0.0, c.case))
    rest = len(ordered) - ROWS
    note = f"{rest} more, with larger overlaps, in audit.json." if rest > 0 else ""
    if record.modality == "fundus":
        return Table(
            caption="Regions of each photograph, the least certain first.",
            columns=[
                Column("Case", 1.4), Column("Regions", 0.8, "right"),
                Column("Confidence in the disc", 1.0, "right"), Column("Remark", 3),
            ],
            rows=[
                [c.case, str(_of(c).regions), _two(_of(c).brain), _remark(c)] for c in ordered[:ROWS]
            ],
            note=note,
        )  # fmt: skip
    return Table(
        caption="What the gate saw, refused cases first, then the smallest overlaps.",
        columns=[
            Column("Case", 1.3),
            Column("How", 1.4),
            *(Column(name, 0.7, "right") for name in ("Brain", "Grey", "White")),
            Column("Similarity", 0.95, "right"),
            Column("Volumes", 1.0, "right"),
            Column("Used", 2.4),
        ],
        rows=[_row(c) for c in ordered[:ROWS]],
        note=note,
    )


def _row(case: CaseRow) -> list[str]:
    found = _of(case)
    volumes = NONE if found.jacobian is None else f"{_two(found.jacobian[0])}–{_two(found.jacobian[1])}"
    figures = [_two(value) for value in (found.brain, found.grey, found.white, found.correlation)]
    used = "yes" if found.accepted else cut(f"no: {found.reason}", 260)
    return [case.case, HOW[found.how], *figures, volumes, used]


def _remark(case: CaseRow) -> str:
    return cut("; ".join(note for note in case.notes if "disc" in note or "quadrant" in note), 200) or NONE


def _two(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}".replace("-", MINUS)


def _pictures(context: Context, cases: Sequence[CaseRow], title: str, key: str) -> list[Block]:
    """Draw those whose arrays are there; the rest is counted."""
    from reports.figures.registration import Placed, draw_regions

    drawable = [
        (case, arrays)
        for case in cases[:DRAWN]
        if (arrays := context.arrays(case.case)) is not None and _has_regions(arrays)
    ]
    if not drawable:
        return []
    flat = context.record.modality == "fundus"
    size = DRAWN if flat else A_PAGE
    blocks: list[Block] = []
    for start in range(0, len(drawable), size):
        part = drawable[start : start + size]
        path, relative = context.figure_path(f"regions-{key}-{start // size + 1}.jpg")
        items = [Placed(f"Case {case.case}", clean(_figures(_of(case))), arrays) for case, arrays in part]
        draw_regions(path, items, columns=3 if flat else 1)
        blocks.append(Picture(relative, alt=_alt(part), caption=_caption(context.record, key)))
    if len(cases) > len(drawable):
        blocks.append(Text(f"{plural(len(cases) - len(drawable), 'more case')} not drawn.", small=True))
    return [Part(title, blocks)]


def _has_regions(arrays: Arrays) -> bool:
    return {"image", "field"} <= set(arrays) and ("regions" in arrays or "regions_refused" in arrays)


def _figures(found: RegionsFound) -> str:
    if found.how == "landmarks":
        return f"{plural(found.regions, 'region')}, confidence in the disc {_two(found.brain)}"
    parts = [HOW[found.how] if found.accepted else f"refused: {cut(found.reason, 90)}"]
    if found.accepted and found.brain is not None:
        parts.append(f"overlap of the brains {_two(found.brain)}")
    elif found.accepted:
        parts.append(plural(found.regions, "region"))
    return ", ".join(parts)


def _alt(part: Sequence[tuple[CaseRow, Arrays]]) -> str:
    said = [f"case {case.case} ({_figures(_of(case))})" for case, _ in part]
    return f"Outlines of the regions over {'; '.join(said)}."


def _caption(record: AuditRecord, key: str) -> str:
    if record.modality == "fundus":
        return "Fields about disc and fovea, as the model sees the photograph."
    start = "Where the refused regions would have been." if key == "refused" else (
        "Outlines of the regions, cut through those expected for the disease where there are any."
    )  # fmt: skip
    return f"{start} Patient’s right on the left of the picture."
