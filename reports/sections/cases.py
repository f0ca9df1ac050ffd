"""One page per selected case, and a table of all."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pipeline.record.schema import AuditRecord, CaseRow
from reports.blocks import Bar, Block, Column, Part, Picture, Scores, Section, Table, Text
from reports.context import Arrays, Context
from reports.glossary import method
from reports.sections.wrong import confidence
from reports.words import class_name, clean, cut, number, plain, plural

if TYPE_CHECKING:
    from reports.figures.panels import Map, Scene

PAGES = 24
ROWS_SHOWN = 60
CLASSES_SHOWN = 6
PAGE = 219.0  # millimetres that text, bars and one figure share
_KEY = re.compile(r"map_(?P<method>.+)_class-(?P<target>\d+)")


def build(context: Context) -> Section | None:
    """Build the pages of cases: wrong ones first, the most confident first."""
    record = context.record
    if not record.cases:
        return None
    chosen = pages(record)
    blocks: list[Block] = [_overview(record)]
    if chosen:
        blocks.insert(0, Text(_reading(record)))
    blocks += [_page(context, index, case) for index, case in enumerate(chosen[:PAGES])]
    if len(chosen) > PAGES:
        blocks.append(
            Text(f"{len(chosen) - PAGES} more selected cases are in the audit directory.", small=True)
        )
    return Section("cases", "Cases", "What do single decisions look like?", blocks, new_page=True)


def pages(record: AuditRecord) -> list[CaseRow]:
    """Return the cases that have a page: wrong decisions first, then the most confident."""
    chosen = (case for case in record.cases if case.page)
    return sorted(chosen, key=lambda c: (c.correct is not False, -confidence(c), c.case))


def _reading(record: AuditRecord) -> str:
    text = (
        "Selected cases have a page each: wrong decisions first, then the most confident. Colour shows "
        "relevance as a share of each map’s own scale, the 99.5th percentile of |relevance| inside the "
        "field; stronger values have full colour. "
        "Warm and light speaks for the class, cold and dark against it. Without colour, the lines say the "
        "same: solid around what speaks for, dashed around what speaks against, at half of the strongest "
        "smoothed relevance."
    )
    if record.modality == "mri":
        text += (
            " Radiological convention: the patient’s right is on the left of the picture; R, L, A, P, S, I "
            "stand for right, left, anterior, posterior, superior, inferior. Each map is cut where its "
            "relevance for the class is strongest; coordinates in world millimetres."
        )
    else:
        text += " Photographs are shown as the model sees them, turned as the camera took them."
    return text


def _overview(record: AuditRecord) -> Block:
    rows = [
        [
            case.case,
            class_name(case.label, record.model.classes),
            class_name(case.predicted, record.model.classes),
            number(confidence(case)) if case.predicted is not None else "–",
            number(case.logit),
            {True: "correct", False: "wrong", None: "–"}[case.correct],
            "yes" if case.page else "no",
        ]
        for case in record.cases[:ROWS_SHOWN]
    ]
    rest = len(record.cases) - len(rows)
    return Table(
        caption=f"{plural(len(record.cases), 'case')}.",
        columns=[
            Column("Case", 2),
            Column("Label", 1.7),
            Column("Predicted", 1.7),
            Column("Score", 0.8, "right"),
            Column("Audited logit", 1.1, "right"),
            Column("Decision", 1),
            Column("Own page", 0.9),
        ],
        rows=rows,
        note=f"The first {len(rows)} of {len(record.cases)}; the rest is in audit.json." if rest else "",
    )


def _page(context: Context, index: int, case: CaseRow) -> Part:
    record = context.record
    decision = {True: "Correct decision", False: "Wrong decision", None: "No label"}[case.correct]
    remarks = [
        f"{decision}.",
        f"Audited logit {number(case.logit)}.",
        *(f"{note[:1].upper()}{note[1:]}." for note in case.notes),
    ]
    arrays = context.arrays(case.case)
    if arrays is not None and "eye" in arrays:
        remarks.append(f"Eye: {arrays['eye']}.")
    line = cut(" ".join(remarks), 600)
    blocks: list[Block] = [Text(line)]
    bars = _bars(case, record)
    if bars:
        blocks.append(Scores(bars))
    free = PAGE - 4.2 * (len(clean(line)) // 95) - sum(4.6 * (1 + len(bar.name) // 28) for bar in bars)
    if arrays is None or not {"image", "field"} <= set(arrays):
        blocks.append(Text("The image and maps of this case are missing from the audit directory."))
    else:
        blocks += _pictures(context, index, case, arrays, max(free, 90.0))
    return Part(f"Case {case.case}", blocks, new_page=True)


def _bars(case: CaseRow, record: AuditRecord) -> list[Bar]:
    order = sorted(range(len(case.scores)), key=lambda i: (-case.scores[i], i))[:CLASSES_SHOWN]
    bars = []
    for i in order:
        remarks = [
            text
            for text, holds in (
                ("predicted", i == case.predicted),
                ("label", i == case.label),
                ("audited", i == record.target),
            )
            if holds
        ]
        share = min(max(case.scores[i], 0.0), 1.0)
        bars.append(
            Bar(class_name(i, record.model.classes), share, number(case.scores[i]), ", ".join(remarks))
        )
    return bars


def _pictures(context: Context, index: int, case: CaseRow, arrays: Arrays, free: float) -> list[Block]:
    from reports.figures.panels import capacity, draw_case, lead_panels

    record = context.record
    scene = scene_of(record, arrays)
    maps = _maps(record, case, arrays)
    names = [clean(plain(name)) for name in scene.marks]
    target = clean(class_name(record.target, record.model.classes))
    several = any(item.side for item in maps)
    room = capacity(scene, free)
    lead = lead_panels(scene, maps)
    chunks = [maps[: room - lead]] + [maps[i : i + room] for i in range(room - lead, len(maps), room)]
    blocks: list[Block] = []
    for part, chunk in enumerate(chunks):
        path, relative = context.figure_path(f"case-{index + 1:02d}-{part + 1}.jpg")
        draw_case(path, scene, chunk, names, "" if several else target, first=part == 0)
        shown = "; ".join(f"{item.title} {item.side}".strip() for item in chunk)
        start = ["image", *(["expert marks"] if scene.marks else [])] if part == 0 else []
        blocks.append(
            Picture(
                relative,
                alt=f"Case {case.case}: {', '.join([*start, 'relevance maps'])}. Maps: {shown or 'none'}. "
                f"Predicted {class_name(case.predicted, record.model.classes)}.",
                caption=_caption(record, scene, several=several),
            )
        )
    return blocks


def _caption(record: AuditRecord, scene: Scene, *, several: bool) -> str:
    text = "Relevance over the grey image; lines: solid for, dashed against"
    text += ", thin: expert marks." if scene.marks else "."
    if several:
        text += " The decision was wrong: maps of the predicted and of the true class stand side by side."
    if record.modality == "mri":
        text += " Patient’s right on the left of the picture."
    return text


def scene_of(record: AuditRecord, arrays: Arrays) -> Scene:
    """Put a case's arrays on a page, as a brain or as a photograph."""
    if record.modality == "mri":
        from reports.figures.brain import Brain

        return Brain(arrays)
    from reports.figures.fundus import Photograph

    return Photograph(arrays)


def _maps(record: AuditRecord, case: CaseRow, arrays: Arrays) -> list[Map]:
    """Order maps by method as the method table does; predicted class before true class."""
    from reports.figures.panels import Map

    found = [(m["method"], int(m["target"]), key) for key in arrays if (m := _KEY.fullmatch(key))]
    order = [row.name for row in record.methods]
    several = len({target for _, target, _ in found}) > 1

    def place(item: tuple[str, int, str]) -> tuple[int, str, bool, int]:
        name, target, _ = item
        return (order.index(name) if name in order else len(order), name, target != case.predicted, target)

    return [
        Map(
            key,
            clean(method(name).title),
            clean(f"for {class_name(target, record.model.classes)}") if several else "",
        )
        for name, target, key in sorted(found, key=place)
    ]
