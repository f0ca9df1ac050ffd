"""Concepts (MACE): what the model recognises, in pieces of the image, and whether they may be believed."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.record.concepts import ConceptFindings, ConceptRow
from pipeline.record.schema import CaseRow
from reports.blocks import Block, Callout, Part, Picture, Section, Text
from reports.context import Context
from reports.figures.concepts import Concept, draw_concepts, scene_arrays
from reports.sections.cases import PAGES, pages, scene_of
from reports.words import class_name, clean, figure, number, percent, plural

ASKED = "90 %"


def build(context: Context) -> Section | None:
    """Build what was learnt, how faithful it is, and the concepts of the selected cases."""
    found = context.record.concepts
    if found is None:
        return None
    blocks: list[Block] = [Text(_learnt(found))] if not found.refused else []
    refusal = _refusal(found)
    if refusal:
        blocks.append(Callout("Concepts are not shown", [refusal]))
    else:
        blocks.append(Text(_deletion(found)))
        chosen = [case for case in pages(context.record) if found.shown.get(case.case)]
        blocks += [
            part
            for index, case in enumerate(chosen[:PAGES])
            if (part := _case(context, index, case, found.shown[case.case])) is not None
        ]
    return Section(
        "concepts", "Concepts", "Of which recognisable pieces does the model make its decision?", blocks
    )


def _refusal(found: ConceptFindings) -> str:
    """One plain sentence where concepts may not be shown; else nothing."""
    if found.refused:
        return f"None could be learnt: {found.refused}."
    if found.faithful:
        return ""
    said = (
        f"On {plural(len(found.held_out), 'case')} that nothing was learnt from, the concepts lead to the "
        f"model’s own decision in only {percent(found.fidelity)}, and at least {ASKED} are asked for"
    )
    if (found.fidelity.value or 0.0) >= 0.9:
        said = (
            f"On {plural(len(found.held_out), 'case')} that nothing was learnt from, the concepts lead to "
            f"the model’s own decision in {percent(found.fidelity)}, no more than always giving its most "
            "frequent answer would"
        )
    return f"{said}: what they show need not be what the model goes by."


def _learnt(found: ConceptFindings) -> str:
    text = (
        f"MACE (Kumar et al. 2020) learnt {found.concepts} concepts a class from "
        f"{plural(len(found.learnt_from), 'case')} and makes the model’s decision again from them alone."
    )
    if not found.faithful:
        return text
    text += (
        f" On {plural(len(found.held_out), 'case')} that nothing was learnt from, it decided as the model "
        f"did in {percent(found.fidelity)}"
    )
    return f"{text}; always the most frequent answer would reach {100 * (found.majority or 0):.0f} %."


def _deletion(found: ConceptFindings) -> str:
    difference = found.deletion
    text = (
        "Without its most relevant concept, the score of the predicted class fell by "
        f"{number(found.top)} on average; without another of its concepts, by {number(found.other)} "
        f"(held-out cases; difference {figure(difference)})."
    )
    if difference.low is None:
        return f"{text} Too few patients to tell whether relevance tells which concept matters."
    if difference.low > 0:
        return f"{text} The relevance beside a concept does say how much it matters."
    return f"{text} So it is not shown that the relevance beside a concept says how much it matters."


def _case(context: Context, index: int, case: CaseRow, rows: Sequence[ConceptRow]) -> Part | None:
    arrays = context.arrays(case.case)
    if arrays is None or not {"image", "field", *(row.array for row in rows)} <= set(arrays):
        return None
    classes = context.record.model.classes
    sides: dict[str, list[Concept]] = {}
    for row in rows:
        side = clean(_side(row.target, case, classes))
        remark = f"relevance {_signed(row.relevance)} · drop {number(row.effect)}"
        sides.setdefault(side, []).append(Concept(row.array, f"Concept {row.concept + 1}", remark))
    path, relative = context.figure_path(f"concepts-{index + 1:02d}.jpg")
    draw_concepts(path, scene_of(context.record, scene_arrays(arrays, [row.array for row in rows])), sides)
    told = "; ".join(
        f"{side}: {', '.join(f'{one.title} ({one.remark})' for one in ones)}" for side, ones in sides.items()
    )
    caption = (
        "The most relevant concepts of each class that show in this image, each with its term of the class’s "
        "relevance (+ speaks for it) and by how much the class’s score drops without it. Everything outside "
        "the tenth of the image where a concept is strongest is black. Thin line: border of the "
        f"{'brain' if context.record.modality == 'mri' else 'field of view'}."
    )
    if not all(row.agrees for row in rows):
        caption += " Here the concepts lead to another decision than the model’s: do not rely on them."
    picture = Picture(relative, alt=f"Concepts of case {case.case}. {told}.", caption=caption)
    return Part(f"Concepts in case {case.case}", [picture])


def _side(target: int, case: CaseRow, classes: Sequence[str]) -> str:
    what = {
        (True, True): "predicted, and right",
        (True, False): "predicted" if case.label is None else "predicted, but wrong",
        (False, True): "the true class",
    }.get((target == case.predicted, target == case.label), "audited")
    return f"For {class_name(target, classes)} ({what})"


def _signed(value: float) -> str:
    return f"+{number(value)}" if value > 0 else number(value)
