"""Maps downsized by summing over the cells of a small grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def overlaps(cells: int, size: int, start: float = 0.0, stop: float | None = None) -> Floats:
    """How much of every voxel of an axis lies in every cell.

    Parameters
    ----------
    cells : int
        Cells of equal width from `start` to `stop`.
    size : int
        Voxels of the axis; voxel i reaches from i to i + 1.
    start, stop : float
        In voxels; by default the whole axis. What lies beyond belongs to the outermost cells.

    Returns
    -------
    ndarray of float64, shape (cells, size)
        Every column sums to 1, so that mass is kept.
    """
    stop = float(size) if stop is None else stop
    edges = np.linspace(start, stop, cells + 1)
    edges[0], edges[-1] = min(edges[0], 0.0), max(edges[-1], float(size))
    edges = np.clip(edges, 0, size)
    left, right = np.arange(size), np.arange(size) + 1
    inside = np.minimum(edges[1:, None], right) - np.maximum(edges[:-1, None], left)
    shares: Floats = np.maximum(inside, 0.0)
    return shares


def pooled(
    values: npt.NDArray[np.floating],
    cells: Sequence[int],
    frame: Sequence[tuple[float, float]] | None = None,
) -> Floats:
    """Downsize a map by summing over the cells of a small grid.

    Parameters
    ----------
    values : ndarray, shape spatial
    cells : sequence of int
        Cells along every axis.
    frame : sequence of (float, float), optional
        From where to where the grid reaches, in voxels; by default the whole map.

    Returns
    -------
    ndarray of float64, shape `cells`
        With the same sum.
    """
    out = np.asarray(values, np.float64)
    spans = frame or [(0.0, float(n)) for n in out.shape]
    for axis, (count, span) in enumerate(zip(cells, spans, strict=True)):
        shares = overlaps(count, out.shape[axis], *span)
        out = np.moveaxis(np.tensordot(shares, out, axes=(1, axis)), 0, axis)
    return out
