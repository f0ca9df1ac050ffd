"""Which parcellations exist, whose licence they carry, and which regions a disease is expected in."""

from atlases.atlas import Atlas, hemisphere_pairs
from atlases.expected import ExpectedRegions, expected_regions
from atlases.registry import ATLASES, AtlasCard, load_atlas

__all__ = [
    "ATLASES",
    "Atlas",
    "AtlasCard",
    "ExpectedRegions",
    "expected_regions",
    "hemisphere_pairs",
    "load_atlas",
]
