"""Read, check and write images: MRI volumes, fundus photographs and expert masks."""

from pipeline.images.masks import read_mask
from pipeline.images.photographs import read_patch, read_photograph
from pipeline.images.types import Photograph, Volume
from pipeline.images.volumes import read_volume, write_volume

__all__ = [
    "Photograph",
    "Volume",
    "read_mask",
    "read_patch",
    "read_photograph",
    "read_volume",
    "write_volume",
]
