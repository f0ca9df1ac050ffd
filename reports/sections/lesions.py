"""Which lesions a map finds one by one, and how well it outlines them."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.record.experts import LesionFinding
from reports.blocks import Block, Bullets, Column, Part, Picture, Section, Table, Text
from reports.context import Context
from reports.glossary import method, null
from reports.plainly import CONTRAST, lesion_sentence
from reports.words import clean, figure, number, plain, plural


def build(context: Context) -> Section | None:
    """Build sensitivity against false alarms, the table by lesion type, and overlap."""
    found = context.record.experts
    if not found.lesions:
        return None
    by_lesion = {
        lesion: [row for row in found.lesions if row.lesion == lesion and _shown(row)]
        for lesion in dict.fromkeys(row.lesion for row in found.lesions)
    }
    blocks: list[Block] = [Bullets([lesion_sentence(name, rows) for name, rows in by_lesion.items()])]
    if found.negative:
        blocks.append(
            Text(
                f"Not counted here: {plural(found.negative, 'case')} with marks but a negative logit for the "
                "audited class.",
                small=True,
            )
        )
    picture = _picture(context, by_lesion)
    if picture is not None:
        blocks.append(picture)
    blocks.append(_table(by_lesion))
    if found.overlaps:
        blocks.append(_overlaps(context))
    return Section(
        "lesions",
        "Lesion by lesion",
        "How many of the marked lesions does a map find, and with how many false alarms?",
        blocks,
    )


def _shown(row: LesionFinding) -> bool:
    return not row.method.startswith("null:") or row.method == CONTRAST


def _title(name: str) -> str:
    return f"{null(name).title} (null)" if name.startswith("null:") else method(name).title


def _picture(context: Context, by_lesion: dict[str, list[LesionFinding]]) -> Picture | None:
    from reports.figures.curves import Curve, free_response

    panels = {
        clean(plain(lesion).capitalize()): {
            clean(_title(row.method)): Curve(
                row.rates, [f.value for f in row.curve if f.value is not None], row.method == CONTRAST
            )
            for row in rows
            if row.curve and all(f.value is not None for f in row.curve)
        }
        for lesion, rows in by_lesion.items()
    }
    panels = {title: lines for title, lines in panels.items() if lines}
    if not panels:
        return None
    path, relative = context.figure_path("free-response.svg")
    free_response(path, panels)
    return Picture(
        relative,
        alt="Share of lesions found against false alarms per image, one panel a lesion type: "
        f"{', '.join(panels)}. The means over the rates are in the next table.",
        caption="Share of lesions found against false alarms per image (FROC). Candidates are the map’s "
        "peaks; one that lies on a marked lesion of any type is no false alarm. Dotted: local contrast, "
        "which asks no model.",
    )


def _table(by_lesion: dict[str, Sequence[LesionFinding]] | dict[str, list[LesionFinding]]) -> Table:
    return Table(
        caption="By lesion type (after Gondal et al. 2017), at a working point of two false alarms an image "
        "that is chosen for each patient on the others.",
        columns=[
            Column("Lesion", 1.6),
            Column("Map", 1.8),
            Column("Found [95 %]", 1.8),
            Column("False alarms an image [95 %]", 1.8),
            Column("Mean sensitivity ⅛–8 (CPM) [95 %]", 1.9),
            Column("Lesions", 0.8, "right"),
            Column("Images", 0.7, "right"),
        ],
        rows=[
            [
                plain(lesion),
                _title(row.method),
                figure(row.sensitivity),
                figure(row.false_per_image),
                figure(row.cpm),
                str(row.lesions),
                str(row.images),
            ]
            for lesion, rows in by_lesion.items()
            for row in rows
        ],
        note="No interval below 6 patients. Other null maps are in audit.json.",
    )


def _overlaps(context: Context) -> Part:
    table = Table(
        caption="Overlap of the thresholded map with the marks. Fixed: the share of the map’s maximum that "
        "gave the best mean Dice on the other patients.",
        columns=[
            Column("Lesion", 1.5),
            Column("Map", 1.7),
            Column("Dice, Otsu [95 %]", 1.7),
            Column("IoU, Otsu", 1.6),
            Column("Dice, fixed [95 %]", 1.7),
            Column("IoU, fixed", 1.6),
            Column("Threshold", 0.9, "right"),
        ],
        rows=[
            [
                plain(row.lesion),
                _title(row.method),
                figure(row.otsu_dice),
                figure(row.otsu_iou),
                figure(row.fixed_dice),
                figure(row.fixed_iou),
                number(row.threshold),
            ]
            for row in context.record.experts.overlaps
        ],
        note="A map on the model’s grid cannot outline what is smaller than its cells: low overlap alone is "
        "no fault of the model.",
    )
    return Part("Overlap", [table])
