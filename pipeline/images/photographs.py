"""Fundus photographs in: JPEG, PNG and TIFF."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import ImageError
from pipeline.files import is_there, why
from pipeline.images.types import Photograph

if TYPE_CHECKING:
    from PIL import Image

    from pipeline.images.types import FloatArray

PHOTOGRAPH_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")
_MAX_PIXELS = 200_000_000
_MODES = {"RGB", "RGBA", "L", "P", "CMYK", "YCbCr"}


def is_photograph(path: Path) -> bool:
    """Whether the file's name says photograph."""
    return path.suffix.lower() in PHOTOGRAPH_SUFFIXES


def read_photograph(path: Path | str) -> Photograph:
    """Read a colour fundus photograph.

    EXIF is read for the orientation only; no metadata is kept.

    Parameters
    ----------
    path : path
        JPEG, PNG or TIFF; 8 bits a channel (16-bit RGB TIFF and PNG are scaled as well).

    Returns
    -------
    Photograph
        float32 in 0–1.

    Raises
    ------
    pipeline.errors.ImageError
        If the file is missing, unreadable, truncated, of another kind, or constant.
    """
    path = Path(path)
    with open_picture(path) as picture:
        if picture.mode not in _MODES:
            raise ImageError(
                f"{path.name}: colour mode {picture.mode} is not a colour photograph", "save it as 8-bit RGB"
            )
        if picture.mode in ("L",):
            raise ImageError(f"{path.name}: is grey, expected a colour photograph", "use the RGB original")
        data = np.asarray(picture.convert("RGB"), np.float32) / np.float32(255)
    if data.min() == data.max():
        raise ImageError(f"{path.name}: the image is constant", "export it again")
    return Photograph(data, path.name)


def read_patch(path: Path | str) -> FloatArray:
    """Read a small picture of a cue: grey or of one colour is as good as any.

    Parameters
    ----------
    path : path
        JPEG, PNG or TIFF of 8 bits a channel; transparency is ignored.

    Returns
    -------
    ndarray of float32, shape (rows, columns, 3)
        0–1.

    Raises
    ------
    pipeline.errors.ImageError
        If the file is missing, unreadable, truncated or of another kind.
    """
    path = Path(path)
    with open_picture(path) as picture:
        if picture.mode not in {*_MODES, "1", "LA"}:
            raise ImageError(
                f"{path.name}: colour mode {picture.mode} is not a picture of 8 bits", "save it as 8-bit RGB"
            )
        return np.asarray(picture.convert("RGB"), np.float32) / np.float32(255)


def open_picture(path: Path) -> Image.Image:
    """Open, decode in full and turn upright a picture file; one clear line if that fails."""
    from PIL import Image, ImageOps

    if not is_there(path):
        raise ImageError(
            f"{path.name}: file not found", "check the path; in a table, paths are relative to the table"
        )
    if not is_photograph(path):
        raise ImageError(f"{path.name}: not a photograph", f"use one of {', '.join(PHOTOGRAPH_SUFFIXES)}")
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as picture:
            if picture.width * picture.height > _MAX_PIXELS:
                raise ImageError(
                    f"{path.name}: {picture.width}×{picture.height} pixels are too many", "downscale it"
                )
            pages = getattr(picture, "n_frames", 1)
            if picture.format == "TIFF" and pages > 1:
                raise ImageError(f"{path.name}: holds {pages} pages", "save the one that is meant by itself")
            picture.load()
            return ImageOps.exif_transpose(picture)
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(
            f"{path.name}: cannot be read ({why(error, path)})", "export the image again"
        ) from error
