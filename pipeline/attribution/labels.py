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
    if not regions.numel():
        return ()
    if regions.ndim > 1 and regions.stride(0) == 0:  # the same for every image
        regions = regions[0]
    low, top = (int(v) for v in regions.aminmax())
    if top > COUNTED:
        return tuple(int(v) for v in torch.unique(regions) if v > 0)
    flat = regions.reshape(-1)
    counts = torch.bincount(flat.clamp(min=0) if low < 0 else flat, minlength=1)
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


def spread(scores: torch.Tensor, regions: torch.Tensor, present: tuple[int, ...]) -> torch.Tensor:
    """Give each voxel its region's score, 0 where it is in none.

    Parameters
    ----------
    scores : torch.Tensor, shape (N, regions)
    regions : torch.Tensor of int64, shape (N, *spatial)
    present : tuple of int
        Labels, in the order of the scores.
    """
    index = regions
    if present and present[-1] > COUNTED:
        index, present = ranks(regions, present), tuple(range(1, len(present) + 1))
    elif int(regions.min()) < 0:
        index = regions.clamp(min=0)
    table = scores.new_zeros(len(scores), max(present, default=0) + 1)
    table[:, list(present)] = scores
    return torch.stack([row[labels] for row, labels in zip(table, index, strict=True)])
