"""Exact Shapley values: how much of a difference each of a few factors carries, all interactions counted."""

from __future__ import annotations

from math import factorial
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import MethodError

Floats = npt.NDArray[np.float64]

MOST_FACTORS = 6
"""2⁶ = 64 forward passes a pair; further factors are nested inside one of the six."""


def shapley_values(values: npt.NDArray[Any]) -> Floats:
    """Shapley value of every factor from the values of all coalitions.

    Parameters
    ----------
    values : ndarray of float, shape (..., 2**k)
        ``values[..., s]`` is the value of the coalition whose members are the bits set in ``s``:
        bit 0 is the first factor.

    Returns
    -------
    ndarray of float64, shape (..., k)
        They sum to ``values[..., -1] - values[..., 0]``.

    Raises
    ------
    pipeline.errors.MethodError
        If the number of coalitions is not a power of two, or there are more than six factors.

    References
    ----------
    Shapley 1953, A value for n-person games, doi:10.1515/9781400881970-018
    """
    table = np.asarray(values, np.float64)
    size = table.shape[-1]
    k = size.bit_length() - 1
    if size != 1 << k or not 1 <= k <= MOST_FACTORS:
        raise MethodError(
            f"{size} values are not those of all coalitions of 1 to {MOST_FACTORS} factors",
            "give one value for each of the 2^k coalitions",
        )
    coalitions = np.arange(size)
    members = np.array([bin(s).count("1") for s in coalitions])
    weight = np.array([factorial(m) * factorial(k - m - 1) / factorial(k) for m in range(k)])
    result = np.empty((*table.shape[:-1], k))
    for factor in range(k):
        without = coalitions[(coalitions >> factor) & 1 == 0]
        gain = table[..., without | (1 << factor)] - table[..., without]
        result[..., factor] = gain @ weight[members[without]]
    return result
