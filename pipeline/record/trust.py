"""How far the maps of an audit can be trusted: part of `audit.json`, and kept as `trust.json`."""

from __future__ import annotations

from pydantic import Field

from pipeline.record.clusters import Clustering
from pipeline.record.method_card import CardRow
from pipeline.record.parts import Part


class MapTrust(Part):
    """What was measured of the maps of one method.

    Attributes
    ----------
    method : str
    """

    method: str


class Trust(Part):
    """Trust of the maps, the measured method card, and clusters of maps.

    Attributes
    ----------
    key : str
        Hash of everything that this depends on.
    cases : list of str
        Cases whose maps were questioned, drawn by the protocol's seed.
    maps : list of MapTrust
    card : list of CardRow
    clusters : list of Clustering
    passes : int
        Forward passes of the model that all this took.
    seconds : float
    notes : list of str
        What could not be done, and why.
    """

    key: str = ""
    cases: list[str] = Field(default_factory=list)
    maps: list[MapTrust] = Field(default_factory=list)
    card: list[CardRow] = Field(default_factory=list)
    clusters: list[Clustering] = Field(default_factory=list)
    passes: int = 0
    seconds: float = 0.0
    notes: list[str] = Field(default_factory=list)
