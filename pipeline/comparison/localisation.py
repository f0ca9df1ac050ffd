"""Does a relevance map lie where the experts marked lesions? One sort a map, every metric from it.

Conventions: ``relevance`` is signed, positive speaks for the target; ``field`` is the brain or the field of
view, pixels outside it do not count; N is its size and G the marked pixels inside it. Nothing here scores an
undefined case 0 or 1: the value is NaN and the reason is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.errors import MethodError

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

METRICS = (
    "pointing_game",
    "mass_accuracy",
    "log2_mass_lift",
    "rank_accuracy",
    "log2_rank_lift",
    "auprc",
    "auroc",
)
"""Names of the localisation metrics, in the order in which they are reported."""


@dataclass(frozen=True)
class Localisation:
    """One relevance map against one mask.

    Attributes
    ----------
    pointing_game : float
        1 if the map's maximum lies in the mask (within the tolerance), 0 if not; under tied maxima the share
        of them that do (Zhang et al. 2018).
    mass_accuracy : float
        Σ_G R⁺ / Σ R⁺ (Arras et al. 2022).
    rank_accuracy : float
        |top-|G| ∩ G| / |G|; under ties its expectation over random order (Arras et al. 2022).
    log2_mass_lift, log2_rank_lift : float
        The same over chance: log₂ of (value + δ) / (|G|/N + δ), δ = 1/N.
    auprc, auroc : float
        Average precision and area under the ROC curve of R as a detector of marked pixels.
    marked, pixels : int
        |G| and N.
    lost : int
        Marked pixels outside the field, which do not count.
    excluded : dict of str to str
        Metric → why it is undefined here; its value is NaN.
    floored : tuple of str
        Lifts whose value is below δ, so that the floor and not the map sets the number.
    """

    pointing_game: float
    mass_accuracy: float
    log2_mass_lift: float
    rank_accuracy: float
    log2_rank_lift: float
    auprc: float
    auroc: float
    marked: int
    pixels: int
    lost: int = 0
    excluded: dict[str, str] = dataclass_field(default_factory=dict)
    floored: tuple[str, ...] = ()

    def rows(self) -> list[dict[str, str | float | bool]]:
        """One row a metric: ``metric``, ``value``, ``excluded`` (the reason or ''), ``floored``."""
        return [
            {
                "metric": name,
                "value": getattr(self, name),
                "excluded": self.excluded.get(name, ""),
                "floored": name in self.floored,
            }
            for name in METRICS
        ]


@dataclass(frozen=True)
class _SortedMap:
    """A map's values inside the field, ascending, and where its maxima are."""

    values: Array
    positive: float
    maxima: npt.NDArray[np.int64]

    @property
    def constant(self) -> bool:
        return bool(self.values[0] == self.values[-1])


def measure(
    relevance: Array,
    masks: Mapping[str, Mask],
    field: Mask | None = None,
    *,
    spacing: float | Sequence[float] = 1.0,
    tolerance: float = 0.0,
    smallest: int = 1,
) -> dict[str, Localisation]:
    """Every localisation metric of one map against several masks, with a single sort.

    Parameters
    ----------
    relevance : ndarray, shape spatial
        2D or 3D, float32 or float64, finite inside the field.
    masks : mapping of str to ndarray of bool, shape spatial
        Lesion type → marked pixels.
    field : ndarray of bool, shape spatial, optional
        Brain or field of view; everything if absent.
    spacing : float or sequence of float, default 1
        Pixel size along each axis, in the unit of ``tolerance`` (mm or px).
    tolerance : float, default 0
        Distance from the mask at which the pointing game still counts a hit.
    smallest : int, default 1
        Masks of fewer pixels than this inside the field are excluded.

    Returns
    -------
    dict of str to Localisation

    Raises
    ------
    MethodError
        If shapes differ, the field is empty or the map is not finite inside it.
    """
    inside = np.ones(relevance.shape, bool) if field is None else np.asarray(field, bool)
    for name, mask in {"field": inside, **masks}.items():
        if mask.shape != relevance.shape:
            raise MethodError(
                f"relevance has shape {relevance.shape}, the mask '{name}' {mask.shape}",
                "bring both onto one grid first",
            )
    ranked = _sort(relevance, inside)
    return {
        name: _measure_one(relevance, np.asarray(mask, bool), inside, ranked, spacing, tolerance, smallest)
        for name, mask in masks.items()
    }


def _sort(relevance: Array, field: Mask) -> _SortedMap:
    values = relevance[field]
    if values.size == 0:
        raise MethodError("the field of view is empty", "check the brain mask or the fitted circle")
    if not np.isfinite(values).all():
        raise MethodError(
            "the relevance map is not finite inside the field", "report the method and the case"
        )
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float64)
    values = np.sort(values)
    positive = float(values[np.searchsorted(values, 0, "right") :].sum(dtype=np.float64))
    return _SortedMap(values, positive, np.argwhere((relevance == values[-1]) & field))


def _measure_one(
    relevance: Array,
    mask: Mask,
    field: Mask,
    ranked: _SortedMap,
    spacing: float | Sequence[float],
    tolerance: float,
    smallest: int,
) -> Localisation:
    inside = mask & field
    marked, pixels = int(inside.sum()), ranked.values.size
    lost = int(mask.sum()) - marked
    value: dict[str, Any] = dict.fromkeys(METRICS, float("nan"))
    if marked < max(smallest, 1):
        reason = "no marked pixel inside the field" if marked == 0 else f"fewer than {smallest} marked pixels"
        return Localisation(
            **value, marked=marked, pixels=pixels, lost=lost, excluded=dict.fromkeys(METRICS, reason)
        )
    excluded: dict[str, str] = {}
    floored: list[str] = []
    hits = np.sort(relevance[inside].astype(ranked.values.dtype, copy=False))
    if ranked.constant:
        excluded["pointing_game"] = "the map is constant and points nowhere"
    else:
        value["pointing_game"] = _hit_share(ranked.maxima, inside, spacing, tolerance)
    value["rank_accuracy"] = _rank_accuracy(ranked.values, hits)
    value["auprc"] = _average_precision(ranked.values, hits)
    if marked == pixels:
        excluded["auroc"] = "the whole field is marked"
    else:
        value["auroc"] = _auroc(ranked.values, hits)
    if ranked.positive > 0:
        mass = float(hits[np.searchsorted(hits, 0, "right") :].sum(dtype=np.float64))
        value["mass_accuracy"] = min(mass / ranked.positive, 1.0)
    else:
        excluded["mass_accuracy"] = excluded["log2_mass_lift"] = "no positive relevance inside the field"
    for kind in ("mass", "rank"):
        name = f"log2_{kind}_lift"
        if name not in excluded:
            value[name], is_floored = log2_lift(value[f"{kind}_accuracy"], marked, pixels)
            floored += [name] if is_floored else []
    return Localisation(
        **value, marked=marked, pixels=pixels, lost=lost, excluded=excluded, floored=tuple(floored)
    )


def log2_lift(value: float, marked: int, pixels: int) -> tuple[float, bool]:
    """Lift of an accuracy over chance, log₂ of (value + δ) / (marked/pixels + δ) with δ = 1/pixels.

    Parameters
    ----------
    value : float
        Mass or rank accuracy, 0–1.
    marked, pixels : int
        Marked pixels and pixels in the field; their ratio is what a random map scores.

    Returns
    -------
    tuple of float and bool
        The lift in bits, and whether the value was below δ (the floor sets the number).
    """
    delta = 1.0 / pixels
    return float(np.log2((value + delta) / (marked / pixels + delta))), bool(value < delta)


def _hit_share(
    maxima: npt.NDArray[np.int64], mask: Mask, spacing: float | Sequence[float], tolerance: float
) -> float:
    """Share of the tied maxima that lie within the tolerance of the mask."""
    if tolerance <= 0:
        return float(mask[tuple(maxima.T)].mean())
    size = np.broadcast_to(np.asarray(spacing, float), (mask.ndim,))
    if len(maxima) > 64:
        distance = ndimage.distance_transform_edt(~mask, sampling=size)
        return float((distance[tuple(maxima.T)] <= tolerance).mean())
    reach = np.floor(tolerance / size).astype(int)
    near = 0
    for point in maxima:
        low, high = np.maximum(point - reach, 0), point + reach + 1
        marked = np.argwhere(mask[tuple(map(slice, low, high))]) + low
        near += bool((np.square((marked - point) * size).sum(axis=1) <= tolerance**2).any())
    return near / len(maxima)


def _rank_accuracy(values: Array, hits: Array) -> float:
    """Count marked pixels among the |G| highest, in expectation over random order of ties."""
    cut = values[values.size - hits.size]
    low, high = np.searchsorted(values, cut, "left"), np.searchsorted(values, cut, "right")
    above = hits.size - int(np.searchsorted(hits, cut, "right"))
    tied = hits.size - above - int(np.searchsorted(hits, cut, "left"))
    places = hits.size - (values.size - int(high))
    return (above + places * tied / int(high - low)) / hits.size


def _average_precision(values: Array, hits: Array) -> float:
    """Mean over marked pixels of the precision at their own value."""
    selected = values.size - np.searchsorted(values, hits, "left")
    correct = hits.size - np.searchsorted(hits, hits, "left")
    return float((correct / selected).mean())


def _auroc(values: Array, hits: Array) -> float:
    """Mann–Whitney: a marked pixel above an unmarked one, ties one half."""
    below = np.searchsorted(values, hits, "left") - np.searchsorted(hits, hits, "left")
    to = np.searchsorted(values, hits, "right") - np.searchsorted(hits, hits, "right")
    return float((below + to).sum() / (2.0 * hits.size * (values.size - hits.size)))


def _single(relevance: Array, mask: Mask, field: Mask | None, **options: Any) -> Localisation:
    return measure(relevance, {"mask": mask}, field, **options)["mask"]


def pointing_game(
    relevance: Array,
    mask: Mask,
    field: Mask | None = None,
    *,
    tolerance: float = 0.0,
    spacing: float | Sequence[float] = 1.0,
) -> float:
    """Share of the map's (tied) maxima in the mask; NaN if the mask is empty or the map constant.

    See `Localisation.pointing_game`; parameters as in `measure`.
    """
    return _single(relevance, mask, field, tolerance=tolerance, spacing=spacing).pointing_game


def relevance_mass_accuracy(relevance: Array, mask: Mask, field: Mask | None = None) -> float:
    """Share of the positive relevance in the mask; NaN without marks or without positive relevance."""
    return _single(relevance, mask, field).mass_accuracy


def relevance_rank_accuracy(relevance: Array, mask: Mask, field: Mask | None = None) -> float:
    """Share of marked pixels among the |G| highest, in expectation under ties; NaN without marks."""
    return _single(relevance, mask, field).rank_accuracy


def auprc(relevance: Array, mask: Mask, field: Mask | None = None) -> float:
    """Average precision of the map as a detector of marked pixels; NaN without marks."""
    return _single(relevance, mask, field).auprc


def auroc(relevance: Array, mask: Mask, field: Mask | None = None) -> float:
    """Area under the ROC curve of the map as a detector of marked pixels; NaN with none or all marked."""
    return _single(relevance, mask, field).auroc
