"""The MNI152 template that ships inside nilearn: T1, grey and white matter at 1 mm."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from pipeline.images.types import Affine, BoolArray, FloatArray


@dataclass(frozen=True)
class Template:
    """The ICBM 2009a symmetric template, skull-stripped, cropped to 8 mm around the brain.

    Attributes
    ----------
    t1, grey, white : ndarray of float32, shape (X, Y, Z)
        Intensity scaled to 0–1; tissue probabilities 0–1. Read-only.
    brain : ndarray of bool, shape (X, Y, Z)
        Brain with its ventricles.
    affine : ndarray of float64, shape (4, 4)
        Voxel to MNI millimetres, RAS+.

    References
    ----------
    Fonov et al. 2011, NeuroImage 54:313–327, doi:10.1016/j.neuroimage.2010.07.033
    """

    t1: FloatArray
    grey: FloatArray
    white: FloatArray
    brain: BoolArray
    affine: Affine


@lru_cache(maxsize=1)
def load_template() -> Template:
    """Load the template once a process (about 3 s, no download)."""
    from nilearn.datasets import load_mni152_gm_template, load_mni152_template, load_mni152_wm_template
    from scipy.ndimage import binary_fill_holes, find_objects

    images = [
        load(resolution=1)
        for load in (load_mni152_template, load_mni152_gm_template, load_mni152_wm_template)
    ]
    box = find_objects((images[0].get_fdata(dtype=np.float32) > 0).astype(np.int8))[0]
    box = tuple(slice(max(side.start - 8, 0), side.stop + 8) for side in box)
    t1, grey, white = (np.ascontiguousarray(image.get_fdata(dtype=np.float32)[box]) for image in images)
    brain = binary_fill_holes(t1 > 0)
    for array in (t1, grey, white, brain):
        array.flags.writeable = False
    affine = np.array(images[0].affine, dtype=np.float64)
    affine[:3, 3] += [side.start for side in box]  # 1 mm voxels
    return Template(t1, grey, white, brain, affine)
