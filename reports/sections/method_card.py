"""The measured method card: every method on this model in numbers, on one case, and beside the survey."""

from __future__ import annotations

import zipfile

import numpy as np

from pipeline.record.method_card import CardRow, MethodCards
from pipeline.record.schema import read_arrays
from reports.advice import MOVED, SURVEY, best_for, colour_change, contradictions, two, width
from reports.blocks import Block, Column, Picture, Section, Table, Text
from reports.context import Arrays, Context
from reports.glossary import method
from reports.sections.cases import scene_of
from reports.words import NONE, class_name, clean, duration, number, plain, plural

PICTURE = "method_card.npz"
SHORT = {"guided_backprop": "Guided backprop."}
DISTINCTION = {
    "places": "elsewhere",
    "mixed": "same places",
    "sign": "opposite",
    "none": "same",
    "": NONE,
}


def build(context: Context) -> Section | None:
    """Build table, figure, advice and the survey's words; None where nothing was measured."""
    found = context.record.trust
    if found is None or found.card is None:
        return None
    card = found.card
    measured = [row for row in card.rows if not row.refused]
    if not measured:
        return None
    blocks: list[Block] = [
        Text(_lead(card)),
        *_picture(context, card),
        _table(card, measured),
        Text(_reading(context, card, measured), small=True),
    ]
    advice = best_for(card, found.maps)
    blocks.append(
        Table(
            caption="For whom each method is best on this model, by plain rules from the numbers above.",
            columns=[Column("Method", 1.2), Column("Best here for", 3.4), Column("Needs", 1.9)],
            rows=[[method(row.method).title, advice[row.method], row.needs] for row in measured],
        )
    )
    refused = [f"{method(row.method).title} ({row.refused})" for row in card.rows if row.refused]
    if refused:
        blocks.append(Text(f"Not measured: {'; '.join(refused)}.", small=True))
    blocks.append(_survey(card))
    return Section(
        "method_card",
        "Which method for whom",
        "What is each kind of relevance map worth on this model?",
        blocks,
        new_page=True,
    )


def _lead(card: MethodCards) -> str:
    text = (
        f"Every method was tried on {plural(len(card.cases), 'case')} of this cohort, the costly ones on "
        "one. The figure shows what each draws on the same case, the table what it is worth on this model."
    )
    if card.logits_exchanged:
        pairs = zip(card.logits, card.logits_exchanged, strict=True)
        told = ", ".join(f"from {number(a)} to {number(b)}" for a, b in pairs)
        text += (
            " With exchanged colours (every point keeps its brightness) the photograph’s score moves "
            f"{told}: {_colour_words(card)}."
        )
    return text


def _colour_words(card: MethodCards) -> str:
    change = colour_change(card) or 0.0
    return "colour matters to the model" if change >= MOVED else "colour matters little to the model"


def _table(card: MethodCards, rows: list[CardRow]) -> Table:
    regions = any(row.regions is not None for row in rows)
    colour = any(row.colour is not None for row in rows)
    columns = [
        Column("Method", 2.1),
        Column("Detail", 1.1, "right"),
        Column("Other class", 1.8),
        Column("Focus", 0.7, "right"),
        *([Column("Regions with 80 %", 1.1, "right")] if regions else []),
        Column("Under noise", 0.8, "right"),
        *([Column("Colours exchanged", 1.2, "right")] if colour else []),
        Column("Passes", 0.9, "right"),
        Column("Time", 0.9, "right"),
        Column("Maps a second", 0.9, "right"),
    ]
    return Table(
        caption="The measured method card.",
        columns=columns,
        rows=[_row(row, card, regions=regions, colour=colour) for row in rows],
    )


def _row(row: CardRow, card: MethodCards, *, regions: bool, colour: bool) -> list[str]:
    apart = DISTINCTION[row.distinction]
    if row.distinction:
        apart += f" ({two(row.class_signed)})"
    return [
        method(row.method).title,
        width(row, card.unit) if row.width is not None else "whole field",
        apart,
        two(row.gini),
        *([NONE if row.regions is None else str(row.regions)] if regions else []),
        two(row.noise),
        *([two(row.colour)] if colour else []),
        number(row.passes),
        duration(row.seconds),
        _rate(row),
    ]


def _rate(row: CardRow) -> str:
    if not row.seconds:
        return NONE
    rate = 1 / row.seconds
    return f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}" if rate >= 1 else f"{rate:.2f}"


def _reading(context: Context, card: MethodCards, rows: list[CardRow]) -> str:
    """How to read the table."""
    scale = next((r.width / r.width_pixels for r in rows if r.width and r.width_pixels), 1.0)
    pixel = f"{number(scale)} mm" if card.unit == "mm" else f"{number(scale)} px of the photograph"
    parts = [
        (
            "Detail: the size of a map’s pieces (width of its autocorrelation); a point of the "
            f"model’s grid is {pixel}, and up to three of them are grain without shapes."
        ),
        (
            "Other class: rank correlation with the map of the likeliest other class. 1: the same map for "
            "both. −1: the same places with the opposite sign, which is all that can differ where what "
            "speaks for one class speaks against the other. 0: another map."
        ),
        "Focus: 0 if relevance is even, 1 if it is all on one point (Gini index).",
    ]
    even = next((r for r in rows if r.regions_even is not None), None)
    if even is not None:
        parts.append(
            "Regions with 80 %: the fewest regions that hold 80 % of the relevance, of "
            f"{even.regions_present}; a map that is the same everywhere needs {even.regions_even}."
        )
    parts.append("Under noise: rank correlation with the map of the image under slight noise; 1 is unmoved.")
    if any(row.colour is not None for row in rows):
        parts.append("Colours exchanged: the same with exchanged colours.")
    threads = plural(context.record.provenance.threads, "thread")
    parts.append(
        "Passes: work of one map, in answers of the model. Time and maps a second: on this machine, "
        f"{threads}."
    )
    return " ".join(parts)


def _picture(context: Context, card: MethodCards) -> list[Block]:
    """One case, all methods; nothing where its arrays are missing."""
    from reports.figures.method_card import Panel, draw_methods

    arrays = _arrays(context)
    if arrays is None:
        return []
    record = context.record
    scene = scene_of(record, arrays)
    rows = {f"map_{row.method}": row for row in card.rows}
    panels = [
        Panel(key, SHORT.get(row.method, method(row.method).title), _remark(row, card))
        for key, row in rows.items()
        if key in scene.maps
    ]
    target = clean(class_name(record.target, record.model.classes))
    path, relative = context.figure_path("method-card.jpg")
    draw_methods(path, scene, panels, [clean(plain(name)) for name in scene.marks], target)
    caption = (
        f"One case ({card.cases[0]}), every method, each at its own scale: full colour is the 99.5th "
        "percentile of |relevance| in the field. Lines: solid for, dashed against"
    )
    caption += f"; thin: {', '.join(clean(plain(name)) for name in scene.marks)}." if scene.marks else "."
    if record.modality == "mri":
        caption += (
            " The coronal slice where the expected regions hold most relevance; patient’s right on the left."
        )
    return [
        Picture(
            relative,
            alt=f"Relevance maps of one case by {len(panels)} methods side by side: "
            + "; ".join(f"{panel.title}, {panel.remark}" for panel in panels),
            caption=clean(caption),
        )
    ]


def _remark(row: CardRow, card: MethodCards) -> str:
    size = width(row, card.unit) if row.width is not None else "whole field"
    return f"detail {size} · {duration(row.seconds)}"


def _arrays(context: Context) -> Arrays | None:
    path = context.folder / PICTURE
    if not path.is_file() or not zipfile.is_zipfile(path):
        return None
    try:
        found = read_arrays(path)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    if not {"image", "field"} <= set(found):
        return None
    arrays = dict(found)
    expected = arrays.pop("regions_expected", None)
    if expected is not None and not any(name.startswith("marks_") for name in arrays):
        arrays["marks_expected_regions"] = expected
    return {n: a.astype(np.float32) if n.startswith("map_") else a for n, a in arrays.items()}


def _survey(card: MethodCards) -> Table:
    found = contradictions(card)
    rows = []
    for family in SURVEY:
        clauses = found.get(family.title)
        here = "not measured" if clauses is None else "; ".join(clauses) or "nothing"
        rows.append([family.title, family.favour, family.against, family.reader, here])
    return Table(
        # no note below: where the table fills its page it stood alone on the next one
        caption="What the survey “How to read the mind of a CNN” says of each family in words; the last "
        "column lists only what a number above contradicts on this model.",
        columns=[
            Column("Family", 1.4),
            Column("In favour", 1.6),
            Column("Against", 1.5),
            Column("For whom", 1.2),
            Column("Contradicted here", 2.0),
        ],
        rows=rows,
    )
