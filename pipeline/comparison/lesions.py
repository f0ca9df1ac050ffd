"""Lesion by lesion: which ones a map finds, and where it raises a false alarm.

A lesion is a connected component of the expert's mask. A candidate is a local maximum of the positive
relevance, scored by its height: peaks, and not thresholded blobs, so that a map that lights up everywhere is
not credited with every lesion under it. A candidate finds a lesion if it lies on it or within the tolerance;
it is a false alarm if it finds no marked lesion of *any* type, since the model was not asked to tell them
apart. Scores are compared across images, because relevance is in units of the logit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage, spatial

from pipeline.errors import MethodError

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LesionIndex:
    """Marked pixels of one lesion type: a search tree, and which lesion each belongs to."""

    tree: Any
    label: npt.NDArray[np.int64]
    count: int


@dataclass(frozen=True)
class Lesions:
    """The marked lesions of one case, ready to be looked up.

    Attributes
    ----------
    counts : dict of str to int
        Lesion type → number of lesions.
    spacing : ndarray of float64, shape (D,)
        Pixel size of the masks.
    index : dict of str to LesionIndex
        For `detect`.
    """

    counts: dict[str, int]
    spacing: Floats
    index: dict[str, LesionIndex]


@dataclass(frozen=True)
class Detections:
    """One map's candidates in one case.

    Attributes
    ----------
    false : ndarray of float64
        Scores of the candidates that found no lesion of any type.
    found : dict of str to ndarray of float64, shape (lesions of the type,)
        Highest score among the candidates that found each lesion; −inf for one never found.
    """

    false: Floats
    found: dict[str, Floats]


def find_lesions(masks: Mapping[str, Mask], *, spacing: float | Sequence[float] = 1.0) -> Lesions:
    """Split masks into lesions: connected components, touching corners included.

    Parameters
    ----------
    masks : mapping of str to ndarray of bool, shape native
        Lesion type → marked pixels; an empty mask says that the expert saw none.
    spacing : float or sequence of float, default 1
        Pixel size.

    Returns
    -------
    Lesions
    """
    types: dict[str, LesionIndex] = {}
    size = np.ones(1)
    for name, mask in masks.items():
        size = np.broadcast_to(np.asarray(spacing, float), (mask.ndim,))
        labels, count = ndimage.label(mask, np.ones((3,) * mask.ndim))
        marked = np.argwhere(mask)
        tree = spatial.cKDTree(marked * size, compact_nodes=False, balanced_tree=False) if count else None
        types[name] = LesionIndex(tree, labels[tuple(marked.T)].astype(np.int64) - 1, int(count))
    return Lesions({name: kind.count for name, kind in types.items()}, size, types)


def candidates(
    relevance: Array, field: Mask | None = None, *, separation: int = 2, most: int = 200
) -> tuple[Floats, Floats]:
    """Local maxima of the positive relevance.

    Parameters
    ----------
    relevance : ndarray, shape spatial
        Signed relevance on the model's grid.
    field : ndarray of bool, shape spatial, optional
        Brain or field of view; candidates lie inside.
    separation : int, default 2
        A candidate is the highest within this many pixels along every axis; a plateau is one candidate.
    most : int, default 200
        The highest so many are kept.

    Returns
    -------
    tuple of ndarray, shapes (candidates, D) and (candidates,)
        Positions on the grid and scores, highest first.
    """
    inside = np.ones(relevance.shape, bool) if field is None else field
    positive = np.where(inside, np.maximum(relevance, 0), 0).astype(np.float64)
    if not np.isfinite(positive).all():
        raise MethodError(
            "the relevance map is not finite inside the field", "report the method and the case"
        )
    peaks = (ndimage.maximum_filter(positive, 2 * separation + 1) == positive) & (positive > 0)
    labels, count = ndimage.label(peaks, np.ones((3,) * relevance.ndim))
    if count == 0:
        return np.zeros((0, relevance.ndim)), np.zeros(0)
    pixels = np.argwhere(peaks)
    owner = labels[peaks] - 1
    size = np.bincount(owner, minlength=count)
    centres = np.stack([np.bincount(owner, axis, minlength=count) / size for axis in pixels.T], axis=1)
    # the plateau's own pixel nearest to its centre, so that a ring does not put its candidate into the hole
    distance = np.square(pixels - centres[owner]).sum(axis=1)
    order = np.lexsort((distance, owner))
    first = order[np.searchsorted(owner[order], np.arange(count))]
    scores = positive[tuple(pixels[first].T)]
    highest = np.argsort(-scores, kind="stable")[:most]
    return pixels[first][highest].astype(np.float64), scores[highest]


def detect(
    relevance: Array,
    lesions: Lesions,
    field: Mask | None = None,
    *,
    native_from_model: npt.NDArray[np.float64] | None = None,
    tolerance: float = 0.0,
    separation: int = 2,
    most: int = 200,
) -> Detections:
    """Find candidates on the model's grid and match them to lesions in native pixels.

    Parameters
    ----------
    relevance : ndarray, shape model grid
        Signed relevance.
    lesions : Lesions
        Of the case, see `find_lesions`.
    field : ndarray of bool, shape model grid, optional
        Brain or field of view.
    native_from_model : ndarray of float64, shape (D + 1, D + 1), optional
        Model-grid index → native index; identity if absent.
    tolerance : float, default 0
        Distance from a lesion that still finds it, in the unit of the spacing; never less than half a pixel
        of the model's grid, below which a position means nothing.
    separation, most : int
        See `candidates`.

    Returns
    -------
    Detections
    """
    positions, scores = candidates(relevance, field, separation=separation, most=most)
    dimensions = relevance.ndim
    transform = np.eye(dimensions + 1) if native_from_model is None else np.asarray(native_from_model)
    native = (positions @ transform[:-1, :-1].T + transform[:-1, -1]) * lesions.spacing
    pixel = np.linalg.norm(transform[:-1, :-1] * lesions.spacing[:, None], axis=0)
    reach = max(tolerance, 0.5 * float(np.linalg.norm(pixel)))
    any_type = np.zeros(scores.size, bool)
    found = {}
    for name, kind in lesions.index.items():
        best = np.full(kind.count, -np.inf)
        if kind.count and scores.size:
            distance, nearest = kind.tree.query(native)
            hits = distance <= reach
            np.maximum.at(best, kind.label[nearest[hits]], scores[hits])
            any_type |= hits
        found[name] = best
    return Detections(scores[~any_type], found)
