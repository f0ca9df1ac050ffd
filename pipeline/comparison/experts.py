"""Several experts: what they agree on, and how far their own agreement lets any map come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.comparison.localisation import METRICS, measure
from pipeline.errors import CohortError

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ExpertAgreement:
    """How well the experts of one case agree.

    Attributes
    ----------
    dice : float
        Mean over pairs of experts of 2|A∩B| / (|A|+|B|); NaN for fewer than two who marked anything.
    ceiling : dict of str to float
        Localisation metric → its mean when one expert's mask is taken as the map and another's as the truth,
        over all ordered pairs: what agreement between people is worth in that metric.
    experts : int
        Experts who marked anything inside the field.
    silent : int
        Experts who marked nothing there.
    excluded : str
        Why nothing could be measured, or ''.
    """

    dice: float
    ceiling: dict[str, float]
    experts: int
    silent: int
    excluded: str = ""


def expert_agreement(
    masks: Mapping[str, Mask],
    field: Mask | None = None,
    *,
    spacing: float | Sequence[float] = 1.0,
    tolerance: float = 0.0,
) -> ExpertAgreement:
    """Measure the experts against each other with the same metrics as the maps.

    Parameters
    ----------
    masks : mapping of str to ndarray of bool, shape spatial
        Expert → marked pixels, of one lesion type.
    field : ndarray of bool, shape spatial, optional
        Brain or field of view.
    spacing, tolerance
        As in `pipeline.comparison.localisation.measure`.

    Returns
    -------
    ExpertAgreement
    """
    inside = {name: mask if field is None else mask & field for name, mask in masks.items()}
    marking = [name for name, mask in inside.items() if mask.any()]
    silent = len(masks) - len(marking)
    if len(marking) < 2:
        nothing = dict.fromkeys(METRICS, float("nan"))
        return ExpertAgreement(
            float("nan"), nothing, len(marking), silent, "fewer than two experts marked anything"
        )
    dice = [
        2 * float((inside[a] & inside[b]).sum()) / float(inside[a].sum() + inside[b].sum())
        for a, b in combinations(marking, 2)
    ]
    pairs = [
        measure(
            inside[a].astype(np.float32), {"truth": inside[b]}, field, spacing=spacing, tolerance=tolerance
        )["truth"]
        for a, b in permutations(marking, 2)
    ]
    ceiling = {name: _mean([getattr(pair, name) for pair in pairs]) for name in METRICS}
    return ExpertAgreement(float(np.mean(dice)), ceiling, len(marking), silent)


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")


def consensus(masks: Sequence[Mask]) -> Mask:
    """Pixels that at least half of the experts marked.

    Parameters
    ----------
    masks : sequence of ndarray of bool, shape spatial
        One an expert.

    Returns
    -------
    ndarray of bool, shape spatial

    Raises
    ------
    CohortError
        If there is no mask or their shapes differ.
    """
    if not masks or len({mask.shape for mask in masks}) > 1:
        raise CohortError("the experts' masks are missing or of different shapes", "give masks of one image")
    votes = np.sum(masks, axis=0, dtype=np.uint8)
    return np.asarray(2 * votes >= len(masks), bool)
