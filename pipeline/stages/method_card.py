"""Filled in by the next commit."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.cohort import Case
from pipeline.record.trust import Trust
from pipeline.stages.audit import Audit


def measure_cards(audit: Audit, cases: Sequence[Case], found: Trust) -> None:
    """Measure nothing yet."""
