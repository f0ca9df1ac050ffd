"""Relevance per anatomical region, ranked, and its agreement with the regions expected for the disease."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from pipeline.comparison.statistics import FEWEST_PATIENTS, RESAMPLES, Estimate, Floats
from pipeline.errors import AnatomyError, MethodError

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class RegionScores:
    """Relevance of every region of one case.

    Attributes
    ----------
    names : tuple of str
        Regions in ascending label order.
    volume : ndarray of float64, shape (regions,)
        mm³ (or pixels); regions absent from this case have volume 0.
    total : ndarray of float64, shape (regions,)
        Sum of positive relevance.
    signed : ndarray of float64, shape (regions,)
        Sum of relevance of either sign.
    density : ndarray of float64, shape (regions,)
        ``total / volume``; NaN for absent regions.
    """

    names: tuple[str, ...]
    volume: Floats
    total: Floats
    signed: Floats
    density: Floats

    @property
    def rank(self) -> Floats:
        """1 is the densest region; ties share their mean rank, absent regions are NaN."""
        return _ranks(self.density)


@dataclass(frozen=True)
class Agreement:
    """How well a ranking of regions meets the expected ones.

    Attributes
    ----------
    precision : float
        Share of expected regions among the k densest, k = number of expected regions present; under ties its
        expectation over random order.
    chance : float
        The same for a random ranking.
    mean_rank : float
        Mean rank of the expected regions, 1 is best.
    log2_density_lift : float
        log₂ of the positive relevance per volume in the expected set over that in all regions.
    control_lift : float
        The same for the negative controls; NaN without any.
    expected, controls, missing : tuple of str
        Regions counted as expected and as controls, and those named but absent from this case.
    excluded : str
        Why nothing could be measured, or ''.
    """

    precision: float
    chance: float
    mean_rank: float
    log2_density_lift: float
    control_lift: float
    expected: tuple[str, ...]
    controls: tuple[str, ...]
    missing: tuple[str, ...]
    excluded: str = ""


def region_scores(
    relevance: Array,
    labels: npt.NDArray[np.integer[Any]],
    table: Mapping[int, str],
    *,
    voxel_volume: float = 1.0,
) -> RegionScores:
    """Sum up a relevance map over the regions of an atlas.

    Parameters
    ----------
    relevance : ndarray, shape spatial
        Signed relevance.
    labels : ndarray of int, shape spatial
        Region of every voxel, 0 is none.
    table : mapping of int to str
        Label → region name.
    voxel_volume : float, default 1
        mm³ a voxel.

    Returns
    -------
    RegionScores

    Raises
    ------
    MethodError
        If the shapes differ or the map is not finite.
    AnatomyError
        If a label is not in the table.
    """
    if relevance.shape != labels.shape:
        raise MethodError(f"relevance has shape {relevance.shape}, the labels {labels.shape}", "use one grid")
    index = np.array(sorted(key for key in table if key != 0), np.int64)
    flat, values = labels.ravel().astype(np.int64), relevance.ravel().astype(np.float64)
    inside = flat != 0
    flat, values = flat[inside], values[inside]
    if not np.isfinite(values).all():
        raise MethodError(
            "the relevance map is not finite inside the regions", "report the method and the case"
        )
    place = np.searchsorted(index, flat)
    if index.size == 0 or (index[np.minimum(place, index.size - 1)] != flat).any():
        raise AnatomyError(
            "the label image has labels that its table does not name", "use the atlas's own table"
        )
    count = np.bincount(place, minlength=index.size)
    total = np.bincount(place, np.maximum(values, 0), minlength=index.size)
    signed = np.bincount(place, values, minlength=index.size)
    return scores_from_sums([table[int(i)] for i in index], total, signed, count * voxel_volume)


def scores_from_sums(names: Sequence[str], total: Array, signed: Array, volume: Array) -> RegionScores:
    """Region scores from sums made elsewhere (region occlusion gives one score a region, total and signed).

    Parameters
    ----------
    names : sequence of str, shape (regions,)
        Region names.
    total, signed : ndarray, shape (regions,)
        Positive and signed relevance of the whole region.
    volume : ndarray, shape (regions,)
        mm³; 0 for absent regions.

    Returns
    -------
    RegionScores
    """
    size = np.asarray(volume, np.float64)
    positive = np.maximum(np.asarray(total, np.float64), 0)
    density = np.divide(positive, size, out=np.full(size.shape, np.nan), where=size > 0)
    return RegionScores(tuple(names), size, positive, np.asarray(signed, np.float64), density)


def _ranks(density: Floats) -> Floats:
    ranks = np.full(density.shape, np.nan)
    present = ~np.isnan(density)
    ranks[present] = stats.rankdata(-density[present])
    return ranks


def agreement(scores: RegionScores, expected: Collection[str], controls: Collection[str] = ()) -> Agreement:
    """Compare a case's ranking with the regions expected for the disease and with negative controls.

    Parameters
    ----------
    scores : RegionScores
        Of one case and method.
    expected, controls : collection of str
        Region names as in ``scores.names``.

    Returns
    -------
    Agreement
        With ``excluded`` set and NaN where no expected region is present or no relevance is positive.
    """
    names, present = np.array(scores.names, object), scores.volume > 0
    is_expected = np.isin(names, list(expected)) & present
    is_control = np.isin(names, list(controls)) & present
    found = set(names[present])
    missing = tuple(sorted(name for name in {*expected, *controls} if name not in found))
    k, regions = int(is_expected.sum()), int(present.sum())
    total, whole = float(scores.total[present].sum()), float(scores.volume[present].sum())
    listed: dict[str, Any] = {
        "expected": tuple(names[is_expected]),
        "controls": tuple(names[is_control]),
        "missing": missing,
    }
    if k == 0 or total <= 0:
        why = "no expected region in this case" if k == 0 else "no positive relevance in any region"
        return Agreement(np.nan, np.nan, np.nan, np.nan, np.nan, **listed, excluded=why)
    density, hit = scores.density[present], is_expected[present]
    cut = np.sort(density)[-k]
    above, tied = density > cut, density == cut
    precision = (hit[above].sum() + (k - above.sum()) * hit[tied].mean()) / k

    def lift(part: Mask) -> float:
        if not part.any():
            return float("nan")
        floor = 1 / whole  # one unit of volume, as for masks
        share = float(scores.total[part].sum()) / total
        return float(np.log2((share + floor) / (float(scores.volume[part].sum()) / whole + floor)))

    return Agreement(
        precision=float(precision),
        chance=k / regions,
        mean_rank=float(scores.rank[is_expected].mean()),
        log2_density_lift=lift(is_expected),
        control_lift=lift(is_control),
        **listed,
    )


def rank_intervals(
    cases: Sequence[RegionScores],
    patients: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Estimate]:
    """Rank of every region by its mean share of relevance per volume, with bootstrap intervals by patient.

    Parameters
    ----------
    cases : sequence of RegionScores
        One a case, all of one atlas. Cases without positive relevance are excluded and counted.
    patients : sequence, optional
        Whose case it is.
    seed, resamples : int
        Of the bootstrap.

    Returns
    -------
    dict of str to Estimate
        Region → rank (1 is densest), in order of rank; percentile intervals (BCa fails on ranks, which are
        discrete), none below 6 patients.

    Raises
    ------
    AnatomyError
        If the cases are of different atlases.
    """
    if len({case.names for case in cases}) > 1:
        raise AnatomyError("the cases have different regions", "rank cases of one atlas only")
    if not cases:
        return {}
    owners = list(range(len(cases))) if patients is None else list(patients)
    usable = [i for i, case in enumerate(cases) if np.nansum(case.density) > 0]
    excluded, names = len(cases) - len(usable), cases[0].names
    if not usable:
        return {
            name: Estimate(np.nan, np.nan, np.nan, 0, excluded, "no positive relevance") for name in names
        }
    codes = {patient: i for i, patient in enumerate(dict.fromkeys(owners[i] for i in usable))}
    shares = np.full((len(codes), len(names)), 0.0)
    counts = np.zeros_like(shares)
    for i in usable:
        density = cases[i].density
        row, defined = codes[owners[i]], ~np.isnan(density)
        shares[row, defined] += density[defined] / np.nansum(density)
        counts[row] += defined
    shares = np.divide(shares, counts, out=np.full_like(shares, np.nan), where=counts > 0)
    ranks, n = _ranks(_mean(shares)), len(codes)
    order = np.argsort(np.where(np.isnan(ranks), np.inf, ranks), kind="stable")
    if n < FEWEST_PATIENTS:
        why = f"no interval: {n} patients, {FEWEST_PATIENTS} are needed"
        return {names[i]: Estimate(float(ranks[i]), np.nan, np.nan, n, excluded, why) for i in order}
    draws = np.random.default_rng(seed).integers(0, n, (resamples, n))
    drawn = np.array([_ranks(_mean(shares[draw])) for draw in draws])
    why = f"percentile bootstrap by patient ({resamples} resamples)"
    result = {}
    for i in order:
        replicates = drawn[~np.isnan(drawn[:, i]), i]
        low, high = np.quantile(replicates, [0.025, 0.975]) if replicates.size else (np.nan, np.nan)
        result[names[i]] = Estimate(float(ranks[i]), float(low), float(high), n, excluded, why)
    return result


def _mean(shares: Floats) -> Floats:
    """Mean over patients that have the region; NaN where none has."""
    defined = ~np.isnan(shares)
    sums, counts = np.where(defined, shares, 0).sum(axis=0), defined.sum(axis=0)
    mean: Floats = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    return mean
