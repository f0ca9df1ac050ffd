"""Which parcellations exist, whose licence they carry, and which regions a disease is expected in."""

from atlases.atlas import Atlas, hemisphere_pairs
from atlases.cards import ATLASES, AtlasCard
from atlases.expected import ExpectedRegions, expected_regions
from atlases.grouping import grouped
from atlases.own import own_atlas, read_segmentation
from atlases.registry import load_atlas

__all__ = [
    "ATLASES",
    "Atlas",
    "AtlasCard",
    "ExpectedRegions",
    "expected_regions",
    "grouped",
    "hemisphere_pairs",
    "load_atlas",
    "own_atlas",
    "read_segmentation",
]
