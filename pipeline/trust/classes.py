"""Whether the map of one class can be told from the map of another."""

from __future__ import annotations

from math import isnan
from typing import Literal

Distinction = Literal["places", "mixed", "sign", "none", ""]
ALIKE = 0.5
"""Rank correlation from which two maps are called alike (half of full agreement, by convention)."""


def distinction(signed: float | None, strength: float | None) -> Distinction:
    """Say in which way a method tells two classes apart.

    Where two logits are each other's negative (two classes trained against each other, or one logit), maps of
    any method that is linear in what it starts from are each other's negative too. Then the *strength* of
    both maps is the same, which says nothing against the method, and their *sign* is opposite, which is all
    that there is to tell. So both are asked.

    Parameters
    ----------
    signed, strength : float or None
        Rank correlation of R, and of |R|, of the map of the audited class with that of the other one, of the
        same image (`pipeline.trust.similarity`).

    Returns
    -------
    {"places", "mixed", "sign", "none", ""}
        `none`: the signed maps are alike, whichever class is asked for. `sign`: the same places with the
        opposite sign. `places`: neither signed maps nor their strengths are alike. `mixed`: the same
        places, signs as they come. Empty where it could not be measured (a constant map).
    """
    if signed is None or strength is None or isnan(signed) or isnan(strength):
        return ""
    if signed >= ALIKE:
        return "none"
    if signed <= -ALIKE:
        return "sign"
    return "mixed" if strength >= ALIKE else "places"
