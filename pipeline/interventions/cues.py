"""Put a suspected cue on cases of the other class and see whether the decision follows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.comparison.statistics import Estimate, mean_interval, rate_interval
from pipeline.interventions.composition import Floats, Mask


@dataclass(frozen=True)
class Cue:
    """Something that must not matter for the decision.

    Attributes
    ----------
    name : str
    title : str
        As the report prints it.
    kind : {"compact", "diffuse"}
    apply : callable
        From image (C, *spatial), as the model takes it, and field (*spatial) to the image with the cue.
    """

    name: str
    title: str
    kind: str
    apply: Callable[[Floats, Mask], Floats]


@dataclass(frozen=True)
class CueResult:
    """What a cue did to the cases of one class.

    Attributes
    ----------
    name, title : str
    positive : bool
        Which class the cases are of.
    shift : Estimate
        Mean change of the score, in standard deviations of clean scores within a class.
    flips : Estimate
        Share of right decisions that the cue turned into wrong ones, with its exact interval.
    """

    name: str
    title: str
    positive: bool
    shift: Estimate
    flips: Estimate

    @property
    def size(self) -> Estimate:
        """The same shift without its sign."""
        s = self.shift
        ends = sorted((abs(s.low), abs(s.high)))
        low = 0.0 if s.low <= 0 <= s.high else ends[0]
        return Estimate(abs(s.value), low, ends[1], s.n, s.excluded, s.method)


def cue_result(
    cue: Cue,
    clean: Sequence[float] | npt.NDArray[np.float64],
    with_cue: Sequence[float] | npt.NDArray[np.float64],
    patients: Sequence[str],
    spread: float,
    *,
    positive: bool,
) -> CueResult:
    """Compare the scores of the same cases without and with a cue.

    Parameters
    ----------
    cue : Cue
    clean, with_cue : sequence of float, shape (cases,)
        Log odds of the audited class.
    patients : sequence of str
    spread : float
        Standard deviation of clean scores within a class.
    positive : bool
        Which class the cases are of.
    """
    before, after = np.asarray(clean, np.float64), np.asarray(with_cue, np.float64)
    right = (before > 0) == positive
    flipped = np.where(right, (after > 0) != (before > 0), np.nan).astype(np.float64)
    return CueResult(
        cue.name,
        cue.title,
        positive,
        mean_interval((after - before) / spread, patients),
        rate_interval(flipped, patients),
    )


def within_class_spread(
    scores: Sequence[float] | npt.NDArray[np.float64], positive: Sequence[bool] | npt.NDArray[np.bool_]
) -> float:
    """Return the standard deviation of scores about the mean of their class; 1 if there is none."""
    values, truth = np.asarray(scores, np.float64), np.asarray(positive, bool)
    parts = [values[truth == side] for side in (True, False) if (truth == side).sum() > 1]
    freedom = sum(p.size - 1 for p in parts)
    if not freedom:
        return 1.0
    spread = float(np.sqrt(sum(((p - p.mean()) ** 2).sum() for p in parts) / freedom))
    return spread if spread > 0 else 1.0
