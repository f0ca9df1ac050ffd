"""Which concepts the report shows."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.record.concepts import ConceptFindings
from pipeline.record.schema import CaseResult, CaseRow
from pipeline.stages.audit import Audit
from pipeline.stages.concepts import mace_of


def concept_findings(
    audit: Audit, results: Sequence[CaseResult], rows: Sequence[CaseRow]
) -> ConceptFindings | None:
    """Tell what was learnt, and the concepts of the cases that have a page; None without MACE.

    Parameters
    ----------
    audit : Audit
    results : sequence of CaseResult
    rows : sequence of CaseRow
        With `page` set.
    """
    if mace_of(audit.protocol) is None:
        return None
    pages = {row.case for row in rows if row.page}
    shown = {}
    for result in results:
        found = [row for row in result.concepts if row.array]
        if result.row.case in pages and found:
            predicted = result.row.predicted
            shown[result.row.case] = sorted(found, key=lambda r: (r.target != predicted, -r.relevance))
    return ConceptFindings(**audit.concepts.learning.model_dump(), shown=shown)
