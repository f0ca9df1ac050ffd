"""The sections of a report, in order.

A new section is one module here with `build(context) -> Section | None`, and its line in `SECTIONS`.
`None`, or a section without blocks, is left out.
"""

from __future__ import annotations

from collections.abc import Callable

from reports.blocks import Section
from reports.context import Context
from reports.sections import (
    agreement,
    cases,
    clusters,
    cohort,
    concepts,
    cover,
    criteria,
    cues,
    errors,
    explanations,
    fill_bias,
    interventions,
    lesions,
    limits,
    method_card,
    methods,
    model,
    provenance,
    regions,
    registration,
    review,
    shares,
    subgroups,
    trust,
    wrong,
)

SECTIONS: tuple[Callable[[Context], Section | None], ...] = (
    cover.build,
    criteria.build,
    cohort.build,
    model.build,
    methods.build,
    method_card.build,
    interventions.build,
    cues.build,
    agreement.build,
    lesions.build,
    registration.build,
    regions.build,
    fill_bias.build,
    shares.build,
    trust.build,
    clusters.build,
    subgroups.build,
    wrong.build,
    concepts.build,
    cases.build,
    errors.build,
    limits.build,
    explanations.build,
    provenance.build,
    review.build,
)
