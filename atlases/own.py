"""A label image of the user's own: an atlas in template space, or one patient's segmentation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atlases.atlas import Atlas, check_labels, hemisphere_pairs
from atlases.tables import table_of
from pipeline.errors import AnatomyError

MIN_IN_BRAIN = 0.7  # share of an atlas's labelled volume within the template's brain, grown by 4 mm


@dataclass(frozen=True)
class Segmentation:
    """One patient's own regions: labels int32 (X, Y, Z), their affine, and the regions' names."""

    labels: npt.NDArray[np.int32]
    affine: npt.NDArray[np.float64]
    table: dict[int, str]
    name: str


def own_atlas(image: Path, table: Path | None = None, *, licence: str = "", source: str = "") -> Atlas:
    """Read an atlas in MNI152 space from a label image and its table.

    Parameters
    ----------
    image : Path
        3D NIfTI of labels.
    table : Path, optional
        See `atlases.tables.table_of`.
    licence, source : str
        Printed in the report.

    Raises
    ------
    pipeline.errors.AnatomyError
        For anything that `atlases.atlas.check_labels` refuses, and where less than 70 % of it lies within the
        template's brain: it is of another space then.
    """
    labels, affine, names = _read(image, table)
    inside = _share_in_template(labels, affine)
    if inside < MIN_IN_BRAIN:
        raise AnatomyError(
            f"atlas {image.name}: only {inside:.0%} of it lies within the MNI152 brain",
            "give an atlas in MNI152 space, and check its affine",
        )
    return Atlas(
        name=image.name.removesuffix(".gz").removesuffix(".nii"),
        labels=labels,
        affine=affine,
        table=names,
        licence=licence or "not stated",
        source=source or image.name,
        space="MNI152",
        pairs=hemisphere_pairs(names),
        commercial=False,
    )


def read_segmentation(image: Path, lut: Path | None = None) -> Segmentation:
    """Read one patient's segmentation, as FreeSurfer, FastSurfer or SynthSeg make it.

    Parameters
    ----------
    image : Path
        NIfTI in the patient's own space, e.g. `aseg.nii.gz` (from `mri_convert aseg.mgz`).
    lut : Path, optional
        Its colour table (`FreeSurferColorLUT.txt`); by default the table beside it. Names that no voxel
        carries are left out.

    Raises
    ------
    pipeline.errors.AnatomyError
        For anything that `atlases.atlas.check_labels` refuses.
    """
    labels, affine, names = _read(image, lut)
    return Segmentation(labels, affine, names, image.name)


def _read(
    path: Path, table: Path | None
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64], dict[int, str]]:
    import nibabel as nib

    if not path.is_file():
        raise AnatomyError(f"{path.name}: label image not found", "name an existing .nii or .nii.gz file")
    try:
        image = nib.load(path)
        array = np.asanyarray(image.dataobj)
    except Exception as error:
        raise AnatomyError(
            f"{path.name}: cannot be read ({type(error).__name__})", "export it again"
        ) from error
    if int(image.header.get("qform_code", 0)) == 0 and int(image.header.get("sform_code", 0)) == 0:
        raise AnatomyError(
            f"{path.name}: neither qform nor sform is set", "its left and right are unknown: export it again"
        )
    affine = np.asarray(image.affine, np.float64)
    names = table_of(path, table)
    labels = check_labels(array, affine, names, path.name)
    present = sorted(set(np.unique(labels).tolist()) - {0})
    return labels, affine, {index: names[index] for index in present}


def _share_in_template(labels: npt.NDArray[np.int32], affine: npt.NDArray[np.float64]) -> float:
    from nilearn.datasets import load_mni152_brain_mask
    from scipy.ndimage import binary_dilation

    mask = load_mni152_brain_mask(resolution=2)
    brain = binary_dilation(np.asanyarray(mask.dataobj) > 0, iterations=2)
    here = np.argwhere(labels > 0)
    here = here[:: max(1, len(here) // 20000)]
    step = np.linalg.inv(mask.affine) @ affine
    at = np.rint(here @ step[:3, :3].T + step[:3, 3]).astype(int)
    inside = ((at >= 0) & (at < brain.shape)).all(1)
    return float(brain[tuple(at[inside].T)].sum() / len(here))
