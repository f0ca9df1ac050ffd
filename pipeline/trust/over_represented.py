"""What a group of cases has more often than the other cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Trait:
    """One property of one group, compared with all other cases.

    Attributes
    ----------
    group : int
    name, level : str
        Covariate, and which of its values; empty for numbers.
    inside, outside : float
        Share of the cases that have the level, or the median.
    n : int
        Cases of the group for which it is known.
    p : float
        Fisher's exact test (more often), or Mann–Whitney's.
    p_adjusted : float
        After Benjamini and Hochberg, over all that was compared.
    """

    group: int
    name: str
    level: str
    inside: float
    outside: float
    n: int
    p: float
    p_adjusted: float


def over_represented(
    groups: npt.NDArray[np.int64],
    levels: Mapping[str, Sequence[str]],
    numbers: Mapping[str, Sequence[float]],
    measures: Mapping[str, Sequence[float]],
    *,
    smallest: int,
) -> list[Trait]:
    """Compare every group with all other cases.

    Parameters
    ----------
    groups : ndarray of int, shape (cases,)
        Cases must be of different patients.
    levels : mapping
        Covariate → its value for every case; '' is not known. A level is asked whether the group has it more
        often (one-sided).
    numbers : mapping
        Covariate → a number for every case, NaN if not known. Asked whether it differs (two-sided).
    measures : mapping
        What was measured on the maps, NaN if not known. Asked whether it is higher (one-sided). Being no
        data of patients, they are compared whatever the size of the group.
    smallest : int
        Fewer cases, in the group, beside it or with a level, give no number of a covariate.

    Returns
    -------
    list of Trait
        By group and p.
    """
    found: list[Trait] = []
    for group in range(int(groups.max(initial=-1)) + 1):
        ours = groups == group
        for name, values in levels.items():
            column = np.asarray(values, dtype=object)
            known = column != ""
            if min((ours & known).sum(), (~ours & known).sum()) < smallest:
                continue
            counts = Counter(column[known].tolist())
            asked = [level for level in sorted(counts) if len(counts) > 1 and counts[level] >= smallest]
            found += [
                _share(group, name, level, column[ours & known], column[~ours & known]) for level in asked
            ]
        for name, quantity in numbers.items():
            found += _median(group, name, ours, quantity, "two-sided", smallest)
        for name, quantity in measures.items():
            found += _median(group, name, ours, quantity, "greater", 3)
    return sorted(_adjusted(found), key=lambda t: (t.group, t.p))


def _share(
    group: int, name: str, level: str, inside: npt.NDArray[np.object_], outside: npt.NDArray[np.object_]
) -> Trait:
    from scipy.stats import fisher_exact

    a, b = int((inside == level).sum()), int((outside == level).sum())
    table = np.array([[a, len(inside) - a], [b, len(outside) - b]])
    p = float(fisher_exact(table, alternative="greater").pvalue)
    return Trait(group, name, level, a / len(inside), b / len(outside), len(inside), p, p)


def _median(
    group: int,
    name: str,
    ours: npt.NDArray[np.bool_],
    quantity: Sequence[float],
    alternative: Literal["two-sided", "greater"],
    smallest: int,
) -> list[Trait]:
    from scipy.stats import mannwhitneyu

    values = np.asarray(quantity, np.float64)
    inside, outside = values[ours & np.isfinite(values)], values[~ours & np.isfinite(values)]
    if min(len(inside), len(outside)) < smallest or np.ptp(np.concatenate([inside, outside])) == 0:
        return []
    p = float(mannwhitneyu(inside, outside, alternative=alternative).pvalue)
    return [Trait(group, name, "", float(np.median(inside)), float(np.median(outside)), len(inside), p, p)]


def _adjusted(found: Sequence[Trait]) -> list[Trait]:
    from dataclasses import replace

    from pipeline.comparison import benjamini_hochberg

    if not found:
        return []
    adjusted = benjamini_hochberg(np.array([trait.p for trait in found]))
    return [replace(trait, p_adjusted=float(p)) for trait, p in zip(found, adjusted, strict=True)]
