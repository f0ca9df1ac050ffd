"""A parcellation: labels on a grid in a template's space, and what each label is called."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.errors import AnatomyError

_SIDE = re.compile(
    r"^(?P<left_prefix>(?:ctx-lh-|(?:left|lh|l)[\s_.-]+))|^(?P<right_prefix>(?:ctx-rh-|(?:right|rh|r)[\s_.-]+))"
    r"|(?P<left>[\s_.-]+(?:left|lh|l))$|(?P<right>[\s_.-]+(?:right|rh|r))$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Atlas:
    """A parcellation in template space.

    Attributes
    ----------
    name : str
        Name in `atlases.ATLASES`, or of the user's own file.
    labels : ndarray of int32, shape (X, Y, Z)
        0 is no region.
    affine : ndarray of float64, shape (4, 4)
        Voxel index to template millimetres, RAS+.
    table : mapping of int to str
        Every label that occurs and its region's name, ascending.
    licence : str
        The atlas's own licence, not that of the package that carries the file.
    source : str
        The paper to cite.
    space : str
        Template space, e.g. `"MNI152"`.
    pairs : tuple of (int, int)
        (left, right) labels of the same region.
    commercial : bool
        Whether its licence allows commercial use; False where it does not say so.
    """

    name: str
    labels: npt.NDArray[np.int32]
    affine: npt.NDArray[np.float64]
    table: Mapping[int, str]
    licence: str
    source: str
    space: str
    pairs: tuple[tuple[int, int], ...]
    commercial: bool = False


def split_side(name: str) -> tuple[str, str]:
    """Split a region name into its stem and its side: `"L"`, `"R"` or `""`.

    Examples
    --------
    >>> split_side("Hippocampus_L")
    ('Hippocampus', 'L')
    >>> split_side("Right Amygdala")
    ('Amygdala', 'R')
    >>> split_side("Vermis_3")
    ('Vermis_3', '')
    """
    found = _SIDE.search(name)
    if found is None:
        return name, ""
    side = "L" if found["left"] or found["left_prefix"] else "R"
    return name[: found.start()] + name[found.end() :], side


def hemisphere_pairs(table: Mapping[int, str]) -> tuple[tuple[int, int], ...]:
    """Pair the labels that name the same region on either side.

    Parameters
    ----------
    table : mapping of int to str
        Label to region name.

    Returns
    -------
    tuple of (int, int)
        (left label, right label), ascending by the left one. Midline regions are in no pair.
    """
    sides: dict[str, dict[str, int]] = {"L": {}, "R": {}}
    for index, name in table.items():
        stem, side = split_side(name)
        if side:
            sides[side][stem.lower()] = index
    return tuple(sorted((left, sides["R"][stem]) for stem, left in sides["L"].items() if stem in sides["R"]))


def check_labels(
    labels: npt.NDArray[np.generic], affine: npt.NDArray[np.float64], table: Mapping[int, str], name: str
) -> npt.NDArray[np.int32]:
    """Refuse a label image that cannot be trusted; return it as int32.

    Parameters
    ----------
    labels : ndarray, shape (X, Y, Z)
        As stored. Whole numbers stored as floats are refused when any value is fractional.
    affine : ndarray, shape (4, 4)
        Voxel to millimetres.
    table : mapping of int to str
        Label to name; names that no voxel carries are allowed and left to the caller.
    name : str
        For the message.

    Raises
    ------
    pipeline.errors.AnatomyError
        On a wrong dimension, fractional or negative labels, labels missing in the table, a label image
        without any label, or an affine that is singular, not finite or has voxels outside 0.2–10 mm.
    """
    if labels.ndim != 3:
        raise AnatomyError(
            f"atlas {name}: the label image has {labels.ndim} dimensions", "give one 3D image of labels"
        )
    if labels.dtype.kind not in "iub" and not (
        np.isfinite(labels.astype(np.float64)).all() and np.array_equal(labels, np.round(labels))
    ):
        raise AnatomyError(
            f"atlas {name}: labels are not whole numbers",
            "resample label images with nearest neighbour only, and threshold probability maps first",
        )
    whole = labels.astype(np.int32)
    present = {int(value) for value in np.unique(whole)} - {0}
    if not present:
        raise AnatomyError(f"atlas {name}: no voxel carries a label", "check that this is the label image")
    if min(present) < 0:
        raise AnatomyError(f"atlas {name}: the label {min(present)} is negative", "number regions from 1")
    missing = sorted(present - set(table))
    if missing:
        listed = ", ".join(map(str, missing[:8])) + (" …" if len(missing) > 8 else "")
        raise AnatomyError(f"atlas {name}: labels {listed} are not in its table", "add their names to it")
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise AnatomyError(f"atlas {name}: the affine is not a transform", "write qform or sform to the file")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if spacing.min() < 0.2 or spacing.max() > 10:
        raise AnatomyError(
            f"atlas {name}: voxels of {spacing.min():.2g}–{spacing.max():.2g} mm", "check the affine's units"
        )
    return whole
