"""Maps as segmentations: overlap with the marks after Otsu and at a threshold chosen on other patients."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import AuditError, MethodError

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

FRACTIONS: Floats = 2.0 ** np.linspace(-12, 0, 97)[:-1]
"""Thresholds that are tried, as shares of the map's maximum: an eighth of a power of two apart."""


@dataclass(frozen=True)
class Overlap:
    """A thresholded map against a mask.

    Attributes
    ----------
    dice, iou : float
        2|S∩G| / (|S|+|G|) and |S∩G| / |S∪G| of the selected pixels S; NaN where excluded.
    threshold : float
        Share of the map's maximum above which a pixel is selected.
    excluded : str
        Why nothing could be measured, or ''.
    """

    dice: float
    iou: float
    threshold: float
    excluded: str = ""


@dataclass(frozen=True)
class OverlapCurve:
    """Everything needed to apply any threshold to a map later, without the map.

    Attributes
    ----------
    selected, correct : ndarray of int64, shape (len(FRACTIONS),)
        Pixels at or above each threshold, and marked ones among them.
    marked : int
        Marked pixels inside the field.
    otsu : Overlap
        At Otsu's threshold of the positive part (Otsu 1979).
    excluded : str
        Why nothing could be measured, or ''.
    """

    selected: npt.NDArray[np.int64]
    correct: npt.NDArray[np.int64]
    marked: int
    otsu: Overlap
    excluded: str = ""

    @property
    def dice(self) -> Floats:
        """Dice at every threshold."""
        return 2 * self.correct / np.maximum(self.selected + self.marked, 1)

    def at(self, index: int) -> Overlap:
        """Overlap at ``FRACTIONS[index]``."""
        return _overlap(
            int(self.selected[index]), int(self.correct[index]), self.marked, float(FRACTIONS[index])
        )


def _overlap(selected: int, correct: int, marked: int, threshold: float) -> Overlap:
    return Overlap(2 * correct / (selected + marked), correct / (selected + marked - correct), threshold)


def overlap_curves(
    relevance: Array, masks: Mapping[str, Mask], field: Mask | None = None
) -> dict[str, OverlapCurve]:
    """Overlap of one map with several masks at every threshold and at Otsu's.

    Parameters
    ----------
    relevance : ndarray, shape spatial
        Signed; only its positive part can be selected.
    masks : mapping of str to ndarray of bool, shape spatial
        Lesion type → marked pixels.
    field : ndarray of bool, shape spatial, optional
        Brain or field of view; everything if absent.

    Returns
    -------
    dict of str to OverlapCurve

    Raises
    ------
    MethodError
        If shapes differ, the field is empty or the map is not finite inside it.
    """
    from skimage.filters import threshold_otsu

    inside = np.ones(relevance.shape, bool) if field is None else np.asarray(field, bool)
    if any(mask.shape != relevance.shape for mask in (inside, *masks.values())):
        raise MethodError("a mask has another shape than the relevance map", "bring both onto one grid first")
    values = relevance[inside]
    if values.size == 0 or not np.isfinite(values).all():
        raise MethodError(
            "the field is empty or the map not finite inside it", "report the method and the case"
        )
    highest = float(values.max())
    if highest <= 0:
        none = "no positive relevance inside the field"
        return {name: _excluded(none, int((mask & inside).sum())) for name, mask in masks.items()}
    values = np.maximum(values, 0)
    cuts = (FRACTIONS * highest).astype(values.dtype)
    otsu = float(threshold_otsu(values)) if values.min() < highest else 0.0
    selected, above = _counts(values, cuts), int((values > otsu).sum())
    curves = {}
    for name, mask in masks.items():
        hits = np.maximum(relevance[mask & inside], 0)
        if hits.size == 0:
            curves[name] = _excluded("no marked pixel inside the field", 0)
            continue
        best = _overlap(above, int((hits > otsu).sum()), hits.size, otsu / highest)
        curves[name] = OverlapCurve(selected, _counts(hits, cuts), hits.size, best)
    return curves


def _excluded(reason: str, marked: int) -> OverlapCurve:
    nothing = np.zeros(FRACTIONS.size, np.int64)
    otsu = Overlap(float("nan"), float("nan"), float("nan"), reason)
    return OverlapCurve(nothing, nothing, marked, otsu, reason)


def _counts(values: Array, cuts: Array) -> npt.NDArray[np.int64]:
    """How many values are at or above each ascending cut."""
    bins = np.bincount(np.searchsorted(cuts, values, "right"), minlength=cuts.size + 1)
    counts: npt.NDArray[np.int64] = bins[::-1].cumsum()[::-1][1:].astype(np.int64)
    return counts


def best_fixed_threshold(
    curves: Sequence[OverlapCurve], patients: Sequence[Hashable] | None = None
) -> list[Overlap]:
    """Apply to every case the threshold with the highest mean Dice over the *other* patients.

    Parameters
    ----------
    curves : sequence of OverlapCurve
        One a case, of one method and lesion type.
    patients : sequence, optional
        Whose case it is; each case is its own patient if absent.

    Returns
    -------
    list of Overlap
        One a case; excluded where the case itself, or every other patient, has nothing to measure.

    Raises
    ------
    AuditError
        If the lengths differ.
    """
    owners = list(range(len(curves))) if patients is None else list(patients)
    if len(owners) != len(curves):
        raise AuditError(
            f"{len(curves)} cases but {len(owners)} patients", "give the patient of every case, in order"
        )
    of_patient: dict[Hashable, list[Floats]] = {}
    for curve, owner in zip(curves, owners, strict=True):
        if not curve.excluded:
            of_patient.setdefault(owner, []).append(curve.dice)
    means = {owner: np.mean(dice, axis=0) for owner, dice in of_patient.items()}
    total = np.sum(list(means.values()), axis=0)
    result, nan, alone = [], float("nan"), "no other patient to choose a threshold on"
    for curve, owner in zip(curves, owners, strict=True):
        if curve.excluded:
            result.append(curve.otsu)
        elif len(means) < 2:
            result.append(replace(curve.otsu, dice=nan, iou=nan, threshold=nan, excluded=alone))
        else:
            result.append(curve.at(int(np.argmax(total - means[owner]))))
    return result
