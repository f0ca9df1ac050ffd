"""Atlases by name, by file, or through nilearn: loaded and checked.

No atlas is copied into this repository: the files stay in the packages that carry them, and each card
states the atlas's **own** licence, which is often not that of the package.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from atlases.atlas import Atlas, check_labels, hemisphere_pairs
from atlases.cards import ATLASES, AtlasCard
from atlases.tables import read_table
from pipeline.errors import AnatomyError

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["ATLASES", "AtlasCard", "load_atlas", "read_table"]

_MIN_PROBABILITY = 25  # percent


def load_atlas(name: str | Path, *, use: Literal["any", "commercial"] = "any") -> Atlas:
    """Load an atlas, checked.

    Parameters
    ----------
    name : str or Path
        A key of `ATLASES`, upper or lower case; the path of your own label image (`.nii`, `.nii.gz`), with
        a BIDS `dseg.tsv` or a FreeSurfer colour table beside it; or `nilearn:<name>` for what nilearn
        downloads.
    use : {"any", "commercial"}
        What it is to be used for; `"commercial"` refuses an atlas whose licence does not allow it or does
        not say so.

    Returns
    -------
    Atlas
        Arrays of an atlas in `ATLASES` are shared between calls and read-only.

    Raises
    ------
    pipeline.errors.AnatomyError
        For an unknown name, an atlas whose package is not installed, labels that fail the checks, or a
        licence that forbids the use.
    """
    text = str(name)
    if text.lower().endswith((".nii", ".nii.gz")):
        from atlases.own import own_atlas

        atlas = own_atlas(Path(text))
    elif text.startswith("nilearn:"):
        from atlases.fetched import fetch_atlas

        atlas = fetch_atlas(text.removeprefix("nilearn:"))
    else:
        known = {key.lower(): key for key in ATLASES}
        if text.lower() not in known:
            raise AnatomyError(
                f"unknown atlas {text!r}",
                f"use one of {', '.join(ATLASES)}, nilearn:<name>, or the path of a label image",
            )
        card = ATLASES[known[text.lower()]]
        if use == "commercial" and not card.commercial:
            raise _forbidden(card.name, card.licence)
        return _load(card.name)
    if use == "commercial" and not atlas.commercial:
        raise _forbidden(atlas.name, atlas.licence)
    return atlas


def _forbidden(name: str, licence: str) -> AnatomyError:
    fit = ", ".join(key for key, card in ATLASES.items() if card.commercial)
    return AnatomyError(
        f"atlas {name}: its licence ({licence}) does not allow the declared commercial use",
        f"use one of {fit}",
    )


@lru_cache(maxsize=4)
def _load(name: str) -> Atlas:
    import nibabel as nib
    from nibabel.filebasedimages import ImageFileError

    card = ATLASES[name]
    spec = find_spec(card.package)  # the package itself is never imported: its own imports may be broken
    if spec is None or not spec.submodule_search_locations:
        package = card.package.replace("_", "-")
        what = f'"relevance-audit[{card.extra}]"' if card.extra else package
        raise AnatomyError(f"atlas {name}: the package {package} is not installed", f"pip install {what}")
    folder = Path(next(iter(spec.submodule_search_locations)))
    try:
        content = folder.joinpath(card.image).read_bytes()
        image = nib.Nifti1Image.from_bytes(_unzipped(content))
        text = folder.joinpath(card.table).read_text(encoding="utf-8")
        array = np.asanyarray(image.dataobj)
    except (OSError, ValueError, EOFError, ImageFileError) as error:
        raise AnatomyError(
            f"atlas {name}: its files cannot be read from {card.package} ({error})", "install it again"
        ) from error
    table = {i: card.renamed.get(n, n) for i, n in read_table(text).items() if n not in card.drop}
    if card.kind == "probabilities":
        array, table = _most_probable(array), {i + 1: n for i, n in table.items()}
    elif card.drop:
        array = np.where(np.isin(array, list(table)), array, 0)
    affine = np.array(image.affine, dtype=np.float64)
    affine[:3, 3] += card.shift_mm
    labels = check_labels(array, affine, table, name)
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
        commercial=card.commercial,
    )


def _unzipped(content: bytes) -> bytes:
    import gzip

    return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content


def _most_probable(maps: npt.NDArray[np.generic]) -> npt.NDArray[np.int32]:
    """Label = 1 + index of the most probable map, 0 below 25 %; ties go to the first."""
    best = np.zeros(maps.shape[:3], np.uint8)
    labels = np.zeros(maps.shape[:3], np.int32)
    for index in range(maps.shape[3]):
        more = maps[..., index].astype(np.uint8) > np.maximum(best, _MIN_PROBABILITY - 1)
        labels[more] = index + 1
        best = np.where(more, maps[..., index].astype(np.uint8), best)
    return labels
