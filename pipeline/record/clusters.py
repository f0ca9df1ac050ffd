"""Clusters of relevance maps (spectral relevance analysis) over a cohort."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from pipeline.record.parts import Part


class TraitRow(Part):
    """What a cluster has more often, or otherwise, than the other cases.

    Attributes
    ----------
    name, level : str
        A covariate and which of its values, or `share_outside`, `log2_rim_density` (measured on the maps).
    inside, outside : float
        Share of cases with that level, or median, in the cluster and beside it.
    n : int
        Cases of the cluster for which it is known.
    p_adjusted : float
        Benjamini–Hochberg, over all clusters and properties of this clustering.
    """

    name: str
    level: str = ""
    inside: float
    outside: float
    n: int
    p_adjusted: float


class Cluster(Part):
    """One cluster.

    Attributes
    ----------
    cases : list of str
    typical : list of str
        Those nearest to its middle, the nearest first.
    mean_map : list of float
        Mean of its maps, each scaled to a sum of 1: inside the anatomy, then outside, see
        `pipeline.record.small_maps`.
    traits : list of TraitRow
        With an adjusted p of 0.05 or less; what is measured on maps, only where it is clearly higher.
    """

    cases: list[str]
    typical: list[str]
    mean_map: list[float]
    traits: list[TraitRow] = Field(default_factory=list)


class Clustering(Part):
    """Clusters of the maps of one method over the cases with one answer of the model.

    Attributes
    ----------
    method : str
    called : bool
        Whether these are the cases that the model calls the audited class; then the relevance that speaks for
        it is clustered, else the relevance against it.
    n : int
        Maps, one a patient.
    left_out : int
        Cases without such relevance, or beyond the first image of a patient.
    neighbours : int
        To how many others each map is joined.
    eigenvalues : list of float
        The first of the normalised Laplacian.
        The second is the graph's connectivity: 0 where it falls apart.
    within, null : float or None
        Cut in two: share of the maps' scatter that stays within the parts, and its median in draws without
        groups.
    valley : float or None
        How dense maps are halfway between the parts; 1 is as dense as in the thinner part.
    p_adjusted : float or None
        That maps without groups are cut as clearly; Benjamini–Hochberg over all methods and answers.
    by_gap : int
        Into how many groups the widest gap of the spectrum would have cut them, whether or not there are any.
    separate : bool
        Whether the maps fall into groups: `p_adjusted` at most 0.01.
    alarm : bool
        Whether, besides, a cluster has a property more often than the other cases.
    clusters : list of Cluster
        Empty unless `separate`.
    scatter : list of (float, float, int)
        t-SNE of the maps in no telling order, and the cluster (0 the first) or −1.
    shown : bool
        Whether the report shows its clusters; at most two are, alarms first.
    reason : str
        Why nothing could be asked.
    """

    method: str
    called: bool
    n: int
    left_out: int = 0
    neighbours: int = 0
    eigenvalues: list[float] = Field(default_factory=list)
    within: float | None = None
    valley: float | None = None
    null: float | None = None
    p_adjusted: float | None = None
    by_gap: int = 1
    separate: bool = False
    alarm: bool = False
    clusters: list[Cluster] = Field(default_factory=list)
    scatter: list[tuple[float, float, int]] = Field(default_factory=list)
    shown: bool = False
    reason: str = ""


def pictured(clusterings: Sequence[Clustering]) -> set[str]:
    """Cases whose image and maps the report draws."""
    shown = [cluster for clustering in clusterings if clustering.shown for cluster in clustering.clusters]
    return {case for cluster in shown for case in cluster.typical}
