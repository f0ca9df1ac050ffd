"""Pairs of one case with the disease and one without, as alike as the cohort allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FORBIDDEN = 1e9


@dataclass(frozen=True)
class Subject:
    """What is known of a case before it is paired.

    Attributes
    ----------
    case, patient : str
    positive : bool
        Whether its label is the audited class.
    age : float or None
    sex : str
        Empty where not given.
    """

    case: str
    patient: str
    positive: bool
    age: float | None = None
    sex: str = ""


@dataclass(frozen=True)
class Pair:
    """Positions of a positive and a negative case in the sequence that was paired."""

    positive: int
    negative: int


def matched_pairs(subjects: Sequence[Subject], count: int, *, seed: int) -> list[Pair]:
    """Match cases of opposite classes on age and sex, each case in about as many pairs as any other.

    Rounds of optimal assignment; no pair comes twice. Scanner, site and eye are *not* matched on: what
    differs between sites is exactly the kind of shortcut that the pairs are to reveal. Age is matched, so
    that a score that follows age has to be looked for among cases of one class (the report's covariates).

    Parameters
    ----------
    subjects : sequence of Subject
    count : int
        Pairs wanted; fewer come back if there are not so many different ones.
    seed : int
        Breaks ties.

    Returns
    -------
    list of Pair
        Best matched of each round first.
    """
    from scipy.optimize import linear_sum_assignment

    positive = [i for i, s in enumerate(subjects) if s.positive]
    negative = [i for i, s in enumerate(subjects) if not s.positive]
    if not positive or not negative:
        return []
    ages = np.array([s.age for s in subjects if s.age is not None], float)
    spread = float(ages.std()) if ages.size > 1 and ages.std() > 0 else 1.0
    rng = np.random.default_rng(seed)
    cost = rng.uniform(0, 1e-3, (len(positive), len(negative)))
    for row, i in enumerate(positive):
        for column, j in enumerate(negative):
            cost[row, column] += _distance(subjects[i], subjects[j], spread)
    used_rows, used_columns = np.zeros(len(positive)), np.zeros(len(negative))
    pairs: list[Pair] = []
    while len(pairs) < min(count, cost.size):
        # whoever has been used less often comes first
        burden = 100.0 * (used_rows[:, None] + used_columns[None, :])
        rows, columns = linear_sum_assignment(cost + burden)
        fresh = [(r, c) for r, c in zip(rows, columns, strict=True) if cost[r, c] < FORBIDDEN / 2]
        if not fresh:
            break
        for r, c in sorted(fresh, key=lambda rc: cost[rc]):
            if len(pairs) == count:
                break
            pairs.append(Pair(positive[r], negative[c]))
            cost[r, c] = FORBIDDEN
            used_rows[r] += 1
            used_columns[c] += 1
    return pairs


def _distance(one: Subject, other: Subject, spread: float) -> float:
    """Count standard deviations of age apart, plus one if the sexes are known to differ."""
    apart = abs(one.age - other.age) / spread if one.age is not None and other.age is not None else 0.0
    return apart + float(bool(one.sex and other.sex and one.sex != other.sex))
