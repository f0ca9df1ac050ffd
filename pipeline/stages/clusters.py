"""Filled in by the next commit."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.cohort import Cohort
from pipeline.record.schema import CaseResult
from pipeline.record.trust import Trust
from pipeline.stages.audit import Audit


def cluster_maps(audit: Audit, cohort: Cohort, results: Sequence[CaseResult], found: Trust) -> None:
    """Measure nothing yet."""
