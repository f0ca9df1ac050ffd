"""Read, check and write images: MRI volumes, fundus photographs and expert masks."""

from pipeline.images.types import Photograph, Volume

__all__ = ["Photograph", "Volume"]
