"""Wrong decisions, the most confident first."""

from __future__ import annotations

from pipeline.record.schema import CaseRow
from reports.blocks import Block, Column, Section, Table, Text
from reports.context import Context
from reports.words import class_name, number, plural

SHOWN = 40


def confidence(case: CaseRow) -> float:
    """Score of the class that was predicted."""
    predicted = case.predicted
    if predicted is None or not 0 <= predicted < len(case.scores):
        return 0.0
    return case.scores[predicted]


def build(context: Context) -> Section | None:
    """Build the table of misclassified cases."""
    record = context.record
    judged = [case for case in record.cases if case.correct is not None]
    if not judged:
        return None
    wrong = sorted((c for c in judged if not c.correct), key=lambda c: (-confidence(c), c.case))
    if not wrong:
        blocks: list[Block] = [Text(f"None of the {plural(len(judged), 'labelled case')} was misclassified.")]
    else:
        classes = record.model.classes
        note = "Score: probability the model gave to its wrong answer."
        if len(wrong) > SHOWN:
            note += f" The {SHOWN} most confident of {len(wrong)}; the rest is in audit.json."
        blocks = [
            Table(
                caption=f"{len(wrong)} of {plural(len(judged), 'labelled case')} misclassified, "
                "sorted by the model’s confidence.",
                columns=[
                    Column("Case", 1.6),
                    Column("Label", 1.6),
                    Column("Predicted", 1.6),
                    Column("Score", 0.8, "right"),
                    Column("Audited logit", 1, "right"),
                    Column("Own page", 0.8, "center"),
                    Column("Remarks", 2),
                ],
                rows=[
                    [
                        case.case,
                        class_name(case.label, classes),
                        class_name(case.predicted, classes),
                        number(confidence(case)),
                        number(case.logit),
                        "yes" if case.page else "no",
                        "; ".join(case.notes),
                    ]
                    for case in wrong[:SHOWN]
                ],
                note=note,
            )
        ]
    return Section("wrong", "Wrong decisions", "Where was the model wrong, and how sure was it?", blocks)
