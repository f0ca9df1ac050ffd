"""One line for each method, measure and null that the report uses."""

from __future__ import annotations

from collections.abc import Iterable

from reports.blocks import Block, Facts, Part, Section
from reports.context import Context
from reports.glossary import Term, method, metric, null, share


def build(context: Context) -> Section | None:
    """Build the glossary of this report."""
    record = context.record
    parts: list[Block] = []
    for title, terms in (
        ("Methods", (method(row.name) for row in record.methods)),
        ("Measures", (metric(row.metric) for row in record.agreement)),
        ("What a map has to beat", (null(n) for row in record.agreement for n in row.nulls)),
        ("Shares", (share(name) for name in record.shares)),
    ):
        rows = _rows(terms)
        if rows:
            parts.append(Part(title, [Facts(rows)]))
    return Section("explanations", "In plain words", "What do the names in this report mean?", parts)


def _rows(terms: Iterable[Term]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((term.title, term.meaning) for term in terms if term.meaning))
