"""What every part of the record is made of."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from pipeline.comparison import Estimate


class Part(BaseModel):
    """A part of the record: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class Figure(Part):
    """A number with its 95 % interval.

    Attributes
    ----------
    value, low, high : float or None
        None where there are too few patients.
    n : int
        Patients counted.
    excluded : int
        Cases left out (empty mask, no positive relevance …).
    method : str
        How the interval was made.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    excluded: int = 0
    method: str = ""


def figure_of(estimate: Estimate) -> Figure:
    """Turn an estimate into a figure: what is not defined becomes None."""

    def number(x: float) -> float | None:
        return float(x) if math.isfinite(x) else None

    return Figure(
        value=number(estimate.value),
        low=number(estimate.low),
        high=number(estimate.high),
        n=estimate.n,
        excluded=estimate.excluded,
        method=estimate.method,
    )
