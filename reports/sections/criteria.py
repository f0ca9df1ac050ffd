"""Why this verdict: every criterion, its number, and its answer."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.record.schema import CriterionResult
from reports.blocks import Bullets, Column, Part, Section, Table
from reports.context import Context
from reports.glossary import method
from reports.words import interval, number, plain

MARKS = {"met": "✓ met", "not met": "✗ not met", "undecided": "? undecided"}


def build(context: Context) -> Section | None:
    """Build the table of criteria."""
    criteria = context.record.criteria
    if not criteria:
        return None
    rows = []
    reasons = []
    for criterion in criteria:
        title = criterion.title or plain(criterion.name)
        full = f"{title} – {method(criterion.method).title}" if criterion.method else title
        shown = f"{full}: {criterion.detail}" if criterion.detail else full
        rows.append(
            [
                shown,
                criterion.bound,
                number(criterion.value),
                interval(criterion.low, criterion.high),
                number(criterion.null),
                str(criterion.n),
                "– says nothing" if criterion.idle else MARKS[criterion.answer],
            ]
        )
        if criterion.reason:
            reasons.append(f"{full}, {criterion.bound}: {criterion.reason}")
    table = Table(
        caption="Criteria as written in the protocol before the run. A criterion is met only if its whole "
        "interval lies on the right side of the bound.",
        columns=[
            Column("Criterion", 3.2),
            Column("Bound", 1.3),
            Column("Found", 0.9, "right"),
            Column("95 % interval", 1.6, "right"),
            Column("Null", 0.9, "right"),
            Column("n", 0.5, "right"),
            Column("Answer", 1.4),
        ],
        rows=rows,
        note=_idle(criteria)
        + "Null: what chance, or the best map that ignores the model, reaches. n: patients. –: not "
        "available; fewer than 6 patients give no interval, and no criterion is then met.",
    )
    blocks = (
        [table, Part("Why these bounds", [Bullets(list(dict.fromkeys(reasons)))])] if reasons else [table]
    )
    return Section(
        "criteria",
        "Why this verdict",
        "Which bounds were set before the audit, and what was found?",
        blocks,
        new_page=True,
    )


def _idle(criteria: Sequence[CriterionResult]) -> str:
    """Tell which bounds count for nothing, and why."""
    found = [f"{c.title or plain(c.name)}, {c.bound}: {c.idle}." for c in criteria if c.idle]
    return " ".join(["Says nothing of a model and counts for nothing:", *found, ""]) if found else ""
