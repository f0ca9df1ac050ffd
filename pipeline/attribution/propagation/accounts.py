"""Where the relevance went: what biases took and what stabilisers absorbed."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Passed(NamedTuple):
    """What became of the relevance that entered a rule.

    Attributes
    ----------
    relevance : torch.Tensor
        Of the inputs, in their shape.
    bias : torch.Tensor, shape (N,)
        Taken by biases and constants.
    absorbed : torch.Tensor, shape (N,)
        Absorbed by the stabiliser.
    """

    relevance: torch.Tensor
    bias: torch.Tensor
    absorbed: torch.Tensor


def ratio(
    relevance: torch.Tensor, z: torch.Tensor, epsilon: float, *, nonnegative: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """R / s(z) with s(z) = z + ε·sign(z), sign(0) = +1 and 0/0 = 0; and what the stabiliser absorbs.

    Parameters
    ----------
    relevance, z : torch.Tensor, shape (N, …)
    epsilon : float
    nonnegative : bool
        Promise that z ≥ 0.

    Returns
    -------
    s : torch.Tensor, shape (N, …)
    absorbed : torch.Tensor, shape (N,)
    """
    if epsilon == 0:
        empty = z == 0
        s = torch.where(empty, 0, relevance / z)
        return s, per_image(torch.where(empty, relevance, 0))
    if nonnegative:
        s = torch.div(relevance, z + epsilon)
        return s, epsilon * per_image(s)
    # copysign calls −0.0 negative; both signs share out the same there, since every term of it is 0
    stabiliser = torch.copysign(z.new_tensor(epsilon), z)
    s = z + stabiliser
    torch.div(relevance, s, out=s)
    return s, per_image(stabiliser.mul_(s))


def per_image(values: torch.Tensor) -> torch.Tensor:
    """Sum over everything but the images."""
    return values.sum(tuple(range(1, values.ndim))) if values.ndim > 1 else values


def nothing(like: torch.Tensor) -> torch.Tensor:
    """Zero for every image."""
    return like.new_zeros(len(like))
