"""Sensitivity for lesions against false alarms per image: FROC, its summary CPM, and a table by lesion."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.comparison.lesions import Detections
from pipeline.comparison.statistics import (
    FEWEST_PATIENTS,
    Estimate,
    Floats,
    bca,
    mean_interval,
    rate_interval,
    resampling_weights,
)

RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False alarms per image at which sensitivity is read; CPM is the mean over them (Niemeijer et al. 2011)."""


@dataclass(frozen=True)
class Froc:
    """Free-response curve of one method and lesion type.

    Attributes
    ----------
    rates : tuple of float
        False alarms per image.
    sensitivity : tuple of Estimate
        Share of all lesions found at each rate.
    cpm : Estimate
        Mean sensitivity over the rates.
    lesions, images : int
        How many it rests on; images without such lesions count for false alarms.
    """

    rates: tuple[float, ...]
    sensitivity: tuple[Estimate, ...]
    cpm: Estimate
    lesions: int
    images: int


@dataclass(frozen=True)
class LesionRow:
    """One row of the table after Gondal et al. 2017: one lesion type at one working point.

    Attributes
    ----------
    lesion : str
        Lesion type.
    sensitivity : Estimate
        Share of lesions found, by patient.
    false_per_image : Estimate
        False alarms per image, by patient.
    lesions, images : int
        How many it rests on.
    """

    lesion: str
    sensitivity: Estimate
    false_per_image: Estimate
    lesions: int
    images: int


def froc(
    cases: Sequence[Detections],
    lesion: str,
    patients: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
    resamples: int = 2000,
) -> Froc:
    """Pool the cases' candidates into a free-response curve.

    Parameters
    ----------
    cases : sequence of Detections
        One an image, of one method; also of images without lesions.
    lesion : str
        Which type.
    patients : sequence, optional
        Whose image it is.
    seed, resamples : int
        Of the bootstrap by patient.

    Returns
    -------
    Froc
        At each rate the highest sensitivity of any threshold that stays within it. NaN without lesions; no
        interval below 6 patients with lesions.
    """
    owners = list(range(len(cases))) if patients is None else list(patients)
    codes = {owner: code for code, owner in enumerate(dict.fromkeys(owners))}
    case_of = np.array([codes[owner] for owner in owners], np.int64)
    false, of_false = _pool([case.false for case in cases], case_of)
    found, of_found = _pool([case.found.get(lesion, np.zeros(0)) for case in cases], case_of)
    images = np.bincount(case_of, minlength=len(codes)).astype(np.float64)
    everyone = np.ones(len(codes))
    values = _sensitivities(false, of_false, found, of_found, images, everyone)
    with_lesions = len(set(of_found.tolist()))
    if with_lesions < FEWEST_PATIENTS:
        why = f"no interval: {with_lesions} patients with lesions, {FEWEST_PATIENTS} are needed"
        numbers = [Estimate(float(v), np.nan, np.nan, with_lesions, 0, why) for v in (*values, values.mean())]
        return Froc(RATES, tuple(numbers[:-1]), numbers[-1], found.size, len(cases))
    n = len(codes)
    drawn = np.array(
        [
            _sensitivities(false, of_false, found, of_found, images, weight)
            for weight in resampling_weights(n, resamples, seed).astype(np.float64)
        ]
    )
    left_out = np.array(
        [
            _sensitivities(false, of_false, found, of_found, images, everyone - (np.arange(n) == i))
            for i in range(n)
        ]
    )
    estimates = []
    for value, replicates, jackknife in zip(
        (*values, values.mean()),
        [*drawn.T, drawn.mean(axis=1)],
        [*left_out.T, left_out.mean(axis=1)],
        strict=True,
    ):
        low, high = bca(float(value), replicates, jackknife)
        how = f"BCa bootstrap by patient ({resamples} resamples)"
        estimates.append(Estimate(float(value), low, high, with_lesions, 0, how))
    return Froc(RATES, tuple(estimates[:-1]), estimates[-1], found.size, len(cases))


def _pool(parts: Sequence[Floats], owner: npt.NDArray[np.int64]) -> tuple[Floats, npt.NDArray[np.int64]]:
    """All scores, highest first, and whose they are."""
    scores = np.concatenate([*parts, np.zeros(0)])
    owners = np.repeat(owner, [part.size for part in parts])
    order = np.argsort(-scores, kind="stable")
    return scores[order], owners[order]


def _sensitivities(
    false: Floats,
    of_false: npt.NDArray[np.int64],
    found: Floats,
    of_found: npt.NDArray[np.int64],
    images: Floats,
    weight: Floats,
) -> Floats:
    """Sensitivity at each of `RATES` when patients count ``weight`` times."""
    lesions = weight[of_found]
    total = float(lesions.sum())
    if total == 0:
        return np.full(len(RATES), np.nan)
    allowed = np.array(RATES) * float(weight @ images)
    alarms = np.cumsum(weight[of_false])
    # the first false alarm that would be one too many; only what scores higher may be selected
    first = np.searchsorted(alarms, allowed + 1e-9, "right")
    limit = np.append(false, -np.inf)[first]
    hits = np.append(0.0, np.cumsum(lesions))
    result: Floats = hits[np.searchsorted(-found, -limit, "left")] / total
    return result


def lesion_table(
    cases: Sequence[Detections],
    lesions: Sequence[str],
    patients: Sequence[Hashable] | None = None,
    *,
    false_per_image: float = 2.0,
    seed: int = 0,
) -> list[LesionRow]:
    """Sensitivity and false alarms per image for every lesion type, as in Gondal et al. 2017.

    Parameters
    ----------
    cases : sequence of Detections
        One an image, of one method.
    lesions : sequence of str
        Rows of the table, e.g. microaneurysms, haemorrhages, hard and soft exudates.
    patients : sequence, optional
        Whose image it is.
    false_per_image : float, default 2
        The working point: for each patient the lowest threshold at which the *other* patients have no more
        false alarms per image than this.
    seed : int
        Of the bootstrap.

    Returns
    -------
    list of LesionRow
        NaN for types without lesions, or where there is no other patient.
    """
    owners: list[Hashable] = list(range(len(cases))) if patients is None else list(patients)
    limits = _working_points(cases, owners, false_per_image)
    alarms = [
        float((case.false > limits[owner]).sum()) if owner in limits else float("nan")
        for case, owner in zip(cases, owners, strict=True)
    ]
    rows = []
    for lesion in lesions:
        hits, whose = [], []
        for case, owner in zip(cases, owners, strict=True):
            for score in case.found.get(lesion, ()):
                hits.append(float(score > limits[owner]) if owner in limits else float("nan"))
                whose.append(owner)
        rows.append(
            LesionRow(
                lesion,
                rate_interval(hits, whose),
                mean_interval(alarms, owners, bounds=(0.0, float("inf")), seed=seed),
                len(hits),
                len(cases),
            )
        )
    return rows


def _working_points(
    cases: Sequence[Detections], owners: Sequence[Hashable], false_per_image: float
) -> Mapping[Hashable, float]:
    """For every patient the score that a candidate must exceed, chosen on the others."""
    limits: dict[Hashable, float] = {}
    for patient in dict.fromkeys(owners):
        others = [case.false for case, owner in zip(cases, owners, strict=True) if owner != patient]
        if not others:
            continue
        scores = np.sort(np.concatenate(others))[::-1]
        allowed = int(false_per_image * len(others) + 1e-9)
        limits[patient] = float(scores[allowed]) if allowed < scores.size else -np.inf
    return limits
