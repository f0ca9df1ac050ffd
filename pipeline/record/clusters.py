"""Clusters of relevance maps (spectral relevance analysis) over a cohort."""

from __future__ import annotations

from pipeline.record.parts import Part


class Clustering(Part):
    """Clusters of the maps of one method.

    Attributes
    ----------
    method : str
    """

    method: str
