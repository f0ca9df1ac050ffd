"""What a cohort itself says before any image is changed: covariates, and what gives the label away."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from pipeline.record.interventions import CovariateRow, Interventions
from pipeline.record.schema import Figure
from pipeline.stages.audit import Audit
from pipeline.stages.intervene_cases import Member, Score

SURELY = 0.60
"""Area under the curve above which, by the lower end of its interval, the label is given away."""
COVARIATES = {"age": "age in years"}


def relate(audit: Audit, members: Sequence[Member], score: Score, found: Interventions) -> None:  # noqa: ARG001
    """Correlate the score with covariates among cases of one class."""
    import pandas as pd

    from pipeline.comparison import associations

    table = pd.DataFrame([m.covariates for m in members])
    if table.empty or not len(table.columns):
        return
    if "age" in table:
        table["age"] = pd.to_numeric(table["age"], errors="coerce")
    table = table.drop(columns=[c for c in table if c != "age" and table[c].nunique() > 6])
    rows = associations(
        [m.clean for m in members],
        [m.subject.positive for m in members],
        table,
        [m.subject.patient for m in members],
        seed=audit.protocol.seed,
    )
    smallest = audit.protocol.smallest_group
    for row in rows.to_dict("records"):
        figure = Figure(
            value=_number(row["value"]),
            low=_number(row["low"]),
            high=_number(row["high"]),
            n=int(row["n"]),
            excluded=int(row["excluded"]),
            method=str(row["interval"]),
        )
        if row["level"] and _fewest(members, row) < smallest:
            figure = Figure(n=figure.n, method=f"no number: a group of fewer than {smallest} patients")
        found.covariates.append(
            CovariateRow(
                positive=bool(row["class"]),
                covariate=COVARIATES.get(str(row["covariate"]), str(row["covariate"])),
                level=str(row["level"]),
                measure=str(row["measure"]),
                figure=figure,
                p=_number(row["p_adjusted"]),
            )
        )


def _fewest(members: Sequence[Member], row: dict[Hashable, Any]) -> int:
    """Patients in the smaller of the two groups that a level of a covariate makes of one class."""
    groups: dict[bool, set[str]] = {True: set(), False: set()}
    for m in members:
        level = m.covariates.get(str(row["covariate"]))
        if level and m.subject.positive == bool(row["class"]):
            groups[level == row["level"]].add(m.subject.patient)
    return min(len(patients) for patients in groups.values())


def warn(audit: Audit, members: Sequence[Member], score: Score, found: Interventions) -> None:  # noqa: ARG001
    """Say what in the data alone gives the label away."""
    from pipeline.interventions.data_warnings import covariate_features, outside_features, predictability

    positive = [m.subject.positive for m in members]
    patients = [m.subject.patient for m in members]
    seed = audit.protocol.seed
    features, names = covariate_features([m.covariates for m in members])
    if names:
        kinds = ", ".join(sorted({name.split()[0] for name in names}))
        guess = predictability(features, positive, patients, seed=seed)
        if guess.low > SURELY:
            found.warnings.append(
                f"The label can be guessed from the covariates ({kinds}) alone: {guess}, where "
                "0.5 is chance. The classes differ in more than the disease."
            )
    shapes = {m.field.shape for m in members}
    if len(shapes) == 1:
        blocks = np.stack([outside_features(m.image, m.field) for m in members])
        guess = predictability(blocks, positive, patients, seed=seed)
        if guess.low > SURELY:
            found.warnings.append(
                f"The label can be guessed from pixels outside the anatomy alone: {guess}, where 0.5 is "
                "chance. A label, a marker or a camera goes with the class."
            )


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
