"""Which lesions a map finds one by one, and how well it outlines them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.record.experts import LesionFinding, OverlapFinding
from reports.blocks import Block, Callout, Column, Picture, Section, Table, Text
from reports.context import Context
from reports.glossary import method, null
from reports.plainly import CONTRAST, lesion_sentence
from reports.words import clean, compact, percent, plain, plural

ROWS = 60


def build(context: Context) -> Section | None:
    """Build sensitivity against false alarms, the table by lesion type, and overlap."""
    found = context.record.experts
    if not found.lesions:
        return None
    by_lesion = {
        lesion: [row for row in found.lesions if row.lesion == lesion and _shown(row)]
        for lesion in dict.fromkeys(row.lesion for row in found.lesions)
    }
    sentences = [lesion_sentence(name, rows) for name, rows in by_lesion.items()]
    blocks: list[Block] = [Callout("Conclusion", sentences, tone="plain")]
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
    blocks.append(_table(by_lesion, {(row.lesion, row.method): row for row in found.overlaps}))
    return Section(
        "lesions",
        "Lesion by lesion",
        "How many of the marked lesions does a map find, and with how many false alarms?",
        blocks,
        new_page=True,
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


def _table(
    by_lesion: Mapping[str, Sequence[LesionFinding]], overlaps: Mapping[tuple[str, str], OverlapFinding]
) -> Table:
    lines = [
        [
            plain(lesion),
            _title(row.method),
            f"{row.lesions}/{row.images}",
            percent(row.sensitivity),
            compact(row.false_per_image),
            percent(row.cpm),
            *_dice(overlaps.get((lesion, row.method))),
        ]
        for lesion, rows in by_lesion.items()
        for row in rows
    ]
    more = f" {plural(len(lines) - ROWS, 'row')} more in audit.json." if len(lines) > ROWS else ""
    return Table(
        caption="By lesion type, after Gondal et al. 2017, at a working point of two false alarms an image "
        "that is chosen for each patient on the others. n: lesions/images. CPM: mean share found at ⅛–8 "
        "false alarms. Dice: overlap with the marks, of the map thresholded after Otsu, and of the segment "
        "that grows along the image’s edges from the map’s highest twentieth (Simonyan et al. 2013).",
        columns=[
            Column("Lesion", 1.75),
            Column("Map", 1.7),
            Column("n", 0.8),
            Column("Found [95 %]", 1.4),
            Column("False alarms an image", 1.6),
            Column("CPM [95 %]", 1.4),
            Column("Dice, Otsu", 1.5),
            Column("Dice, grown", 1.5),
        ],
        rows=lines[:ROWS],
        note="No interval below 6 patients. A map on the model’s grid cannot outline what is smaller than "
        "its cells: low overlap alone is no fault of the model. Other null maps and IoU: audit.json." + more,
    )


def _dice(row: OverlapFinding | None) -> tuple[str, str]:
    return ("–", "–") if row is None else (compact(row.otsu_dice), compact(row.grown_dice))
