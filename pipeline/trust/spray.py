"""Spectral relevance analysis (SpRAy): whether the maps of a cohort fall into groups.

Lapuschkin et al. 2019, "Unmasking Clever Hans predictors and assessing what machines really learn": maps are
downsized, each is joined to its nearest neighbours, and the spectrum of the graph's Laplacian says into how
many groups they fall. A model that decides some cases by a cue has a group of maps that lie on the cue.

A spectrum always has a widest gap, so a number of groups always comes out; with some twenty maps the graph of
maps without groups falls apart as easily. So the spectrum is told, but whether there are groups is asked of a
cut in two (`pipeline.trust.two_parts`), and each part is asked again, as in recursive spectral cuts (Shi and
Malik 2000).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from pipeline.errors import AuditError
from pipeline.trust.two_parts import DRAWS, ROUNDING, separation_of

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.int64]

NEIGHBOURS = 10
FEWEST, AGAIN = 12, 24
"""Fewer maps are not clustered; a part of fewer is not asked again."""
MOST = 8
"""More groups are never asked for."""
LEVEL = 0.01
SMALLEST_STRATUM = 4


@dataclass(frozen=True)
class Grouping:
    """Into how many groups the maps of a cohort fall.

    Attributes
    ----------
    kept : ndarray of bool, shape (cases,)
        Maps without any relevance are left out.
    features : ndarray of float64, shape (kept cases, cells)
        See `features_of`.
    placed : ndarray of float64, shape (kept cases, cells)
        What was clustered: the features without the difference between strata.
    labels : ndarray of int, shape (kept cases,)
        Group of every kept map, the largest first; all 0 where no cut was justified.
    groups : int
    by_gap : int
        Two or more: how many groups the widest gap of the spectrum after the first stands for, as in the
        original; 1 where nothing could be asked.
    eigenvalues : ndarray of float64
        The first of the Laplacian.
    within, valley, null, p : float
        Of the first cut in two, see `pipeline.trust.two_parts.Separation`; NaN where nothing could be asked.
    reason : str
        Why nothing could be asked, else empty.
    """

    kept: Bools
    features: Floats
    placed: Floats
    labels: Labels
    groups: int = 1
    by_gap: int = 1
    eigenvalues: Floats = field(default_factory=lambda: np.zeros(0))
    within: float = float("nan")
    valley: float = float("nan")
    null: float = float("nan")
    p: float = float("nan")
    reason: str = ""


def features_of(maps: Floats) -> tuple[Floats, Bools]:
    """Bring small maps onto one scale, so that only where relevance lies matters.

    Parameters
    ----------
    maps : ndarray, shape (cases, cells)
        Not negative.

    Returns
    -------
    features : ndarray of float64, shape (kept cases, cells)
        Square roots of shares: distances between them are Hellinger distances (times √2), in which a cell's
        scatter does not grow with its mean.
    kept : ndarray of bool, shape (cases,)
        Maps without any relevance are left out.

    Raises
    ------
    pipeline.errors.AuditError
        If a value is negative or not a number.
    """
    maps = np.asarray(maps, np.float64)
    if not np.isfinite(maps).all() or (maps < 0).any():
        raise AuditError(
            "a small map has values that are negative or not a number",
            "cluster one sign of relevance, and look at what the method made",
        )
    total = maps.sum(axis=1)
    kept = total > 0
    return np.sqrt(maps[kept] / total[kept, None]), kept


def without_strata(features: Floats, strata: Sequence[str]) -> Floats:
    """Take the difference between the means of strata out of features.

    Parameters
    ----------
    features : ndarray, shape (cases, cells)
    strata : sequence of str, shape (cases,)
        '' is not known; those and strata of fewer than four cases stay as they are.

    Returns
    -------
    ndarray of float64, shape (cases, cells)
    """
    found = features.copy()
    names = np.asarray(strata, dtype=object)
    for name in sorted(set(strata) - {""}):
        ours = names == name
        if ours.sum() >= SMALLEST_STRATUM:
            found[ours] += features.mean(axis=0) - features[ours].mean(axis=0)
    return found


def neighbours_for(cases: int) -> int:
    """How many neighbours each map is joined to: 10, in small cohorts a fifth of the cases."""
    return max(2, min(NEIGHBOURS, cases // 5))


def centred_gram(features: Floats) -> Floats:
    """Inner products of features about their mean, shape (cases, cases)."""
    centred = features - features.mean(axis=0)
    return np.asarray(centred @ centred.T, np.float64)


def squared_distances(gram: Floats) -> Floats:
    """Squared Euclidean distances from inner products; exactly symmetric, what rounding leaves is 0."""
    norms = np.diag(gram)
    found = norms[:, None] + norms[None] - (gram + gram.T)
    found[found < 1e-12 * float(norms.max(initial=0.0))] = 0.0
    np.fill_diagonal(found, 0.0)
    return found


def neighbour_graph(distances: Floats, k: int) -> Floats:
    """Join each case to its k nearest; an edge counts if either end asks for it.

    Parameters
    ----------
    distances : ndarray, shape (cases, cases)
    k : int

    Returns
    -------
    ndarray of float64, shape (cases, cases)
        0 or 1, symmetric. All that tie for the k-th place are joined, so that the order of cases is no
        matter.
    """
    others = np.array(distances, np.float64)
    np.fill_diagonal(others, np.inf)
    reach = np.partition(others, k - 1, axis=1)[:, k - 1]
    near = others <= reach[:, None] * (1 + 1e-12)
    return np.asarray(near | near.T, np.float64)


def laplacian(graph: Floats) -> Floats:
    """Return the normalised Laplacian I − D^(−1/2) W D^(−1/2) of a graph without lonely cases."""
    scale = 1 / np.sqrt(graph.sum(axis=1))
    return np.asarray(np.eye(len(graph)) - scale[:, None] * graph * scale[None], np.float64)


def spectrum(gram: Floats, k: int) -> tuple[Floats, Floats]:
    """Eigenvalues, ascending, and eigenvectors (columns) of the Laplacian of the neighbours' graph."""
    values, vectors = np.linalg.eigh(laplacian(neighbour_graph(squared_distances(gram), k)))
    return values, vectors


def groups_by_gap(eigenvalues: Floats, most: int) -> int:
    """How many eigenvalues, two or more and at most `most`, lie before the widest gap."""
    return int(np.argmax(np.diff(eigenvalues[1 : most + 1]))) + 2


def parts(features: Floats, seed: int, draws: int, level: float) -> list[Labels]:
    """Cut cases into parts as long as a part is cut more clearly than draws of one kind.

    Parameters
    ----------
    features : ndarray, shape (cases, cells)
    seed, draws : int
    level : float
        Of the first test; of each of the two parts it is half of that.

    Returns
    -------
    list of ndarray of int
        Indices of the cases of each part.
    """
    everybody = np.arange(len(features))
    if len(features) < AGAIN or np.ptp(features, axis=0).max() < ROUNDING:
        return [everybody]
    found = separation_of(features, seed, draws)
    if found.p > level:
        return [everybody]
    return _both(features, found.second, seed, draws, level)


def _both(features: Floats, second: Bools, seed: int, draws: int, level: float) -> list[Labels]:
    """Ask each of the two parts again, at half the level."""
    sides = (np.flatnonzero(~second), np.flatnonzero(second))
    return [side[inner] for side in sides for inner in parts(features[side], seed, draws, level / 2)]


def group_maps(
    maps: Floats, strata: Sequence[str] | None = None, *, seed: int = 0, draws: int = DRAWS
) -> Grouping:
    """Find the groups into which maps fall, and ask whether they would look like that without any.

    Parameters
    ----------
    maps : ndarray, shape (cases, cells)
        Small maps, not negative; their scale does not matter.
    strata : sequence of str, shape (cases,), optional
        What maps may differ by without that making groups: left and right eyes.
    seed : int
        Of draws and k-means.
    draws : int
        At most so many cohorts without groups are drawn; p cannot be below 1 / (draws + 1).

    Returns
    -------
    Grouping
        With a reason and without groups where there are too few maps or they are all alike.

    Raises
    ------
    pipeline.errors.AuditError
        If a value is negative or not a number.
    """
    features, kept = features_of(maps)
    cases = len(features)
    names = [""] * len(kept) if strata is None else strata
    placed = without_strata(features, [n for n, keep in zip(names, kept, strict=True) if keep])
    empty = Grouping(kept, features, placed, np.zeros(cases, np.int64))
    if cases < FEWEST:
        return replace(empty, reason=f"{cases} maps with relevance, {FEWEST} are needed")
    if np.ptp(features, axis=0).max() < ROUNDING:
        return replace(empty, reason="all maps are alike")
    most = max(2, min(MOST, cases // 6))
    values = spectrum(centred_gram(placed), neighbours_for(cases))[0]
    found = separation_of(placed, seed, draws)
    pieces = _both(placed, found.second, seed, draws, LEVEL) if found.p <= LEVEL else [np.arange(cases)]
    labels = np.zeros(cases, np.int64)
    for rank, piece in enumerate(sorted(pieces, key=lambda part: (-len(part), part[0]))):
        labels[piece] = rank
    return Grouping(
        kept,
        features,
        placed,
        labels,
        len(pieces),
        groups_by_gap(values, most),
        values[: MOST + 1],
        found.within,
        found.valley,
        found.null,
        found.p,
    )


def typical(features: Floats, count: int) -> list[int]:
    """Return the indices of the maps nearest to the mean of their group."""
    away = ((features - features.mean(axis=0)) ** 2).sum(axis=1)
    return [int(i) for i in np.argsort(away, kind="stable")[:count]]


def scatter_of(features: Floats, *, seed: int = 0) -> Floats:
    """Place maps on a page, neighbours beside each other (t-SNE, van der Maaten and Hinton 2008).

    Parameters
    ----------
    features : ndarray, shape (cases, cells)
    seed : int

    Returns
    -------
    ndarray of float64, shape (cases, 2)
        Between −1 and 1; distances between groups mean nothing.
    """
    from sklearn.manifold import TSNE

    spread = min(30.0, (len(features) - 1) / 3)
    placed = TSNE(2, perplexity=spread, init="pca", random_state=seed).fit_transform(features)
    placed = placed - (placed.max(axis=0) + placed.min(axis=0)) / 2
    return np.asarray(placed / max(float(np.abs(placed).max()), 1e-12), np.float64)
