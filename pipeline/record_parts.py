"""What every part of the record is made of."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


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
