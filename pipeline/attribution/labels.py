"""Which labels a parcellation holds, without sorting millions of voxels."""

from __future__ import annotations

import torch

COUNTED = 2**20
"""Largest label up to which counting is quicker than sorting."""


def present_labels(regions: torch.Tensor) -> tuple[int, ...]:
    """Labels above 0, ascending.

    Parameters
    ----------
    regions : torch.Tensor of int64
        Labels, 0 or below = none.
    """
    top = int(regions.max()) if regions.numel() else 0
    if top > COUNTED:
        return tuple(int(v) for v in torch.unique(regions) if v > 0)
    counts = torch.bincount(regions.reshape(-1).clamp(min=0), minlength=1)
    return tuple(int(v) for v in counts.nonzero()[:, 0] if v > 0)


def ranks(regions: torch.Tensor, present: tuple[int, ...]) -> torch.Tensor:
    """Give each voxel the rank of its label in `present`, from 1 on; 0 where it has none."""
    labels = regions.clamp(min=0)
    known = torch.tensor([0, *present], device=regions.device)
    if present and present[-1] > COUNTED:
        return torch.bucketize(labels, known)
    table = torch.zeros(int(known[-1]) + 1, dtype=torch.int64, device=regions.device)
    table[known] = torch.arange(len(known), device=regions.device)
    return table[labels]
