"""Atlases that nilearn downloads, where there is a network or its data folder already holds them."""

from __future__ import annotations

from typing import Any

import numpy as np

from atlases.atlas import Atlas, check_labels, hemisphere_pairs
from pipeline.errors import AnatomyError

# nilearn's fetcher and its options, the licence as its description states it, whether commercial use is open
FETCHED: dict[str, tuple[str, dict[str, Any], str, bool]] = {
    "schaefer-100": ("fetch_atlas_schaefer_2018", {"n_rois": 100}, "MIT", True),
    "schaefer-400": ("fetch_atlas_schaefer_2018", {"n_rois": 400}, "MIT", True),
    "destrieux": ("fetch_atlas_destrieux_2009", {}, "FreeSurfer Software License", True),
    "juelich": (
        "fetch_atlas_juelich",
        {"atlas_name": "maxprob-thr25-2mm"},
        "FSL licence: non-commercial use only",
        False,
    ),
    "talairach-gyrus": ("fetch_atlas_talairach", {"level_name": "gyrus"}, "not stated", False),
}


def fetch_atlas(name: str) -> Atlas:
    """Let nilearn fetch an atlas and check it.

    Parameters
    ----------
    name : str
        A key of `FETCHED`.

    Raises
    ------
    pipeline.errors.AnatomyError
        For an unknown name, or where it cannot be downloaded.
    """
    if name not in FETCHED:
        raise AnatomyError(f"nilearn:{name} is not known", f"use nilearn:<one of {', '.join(FETCHED)}>")
    import warnings

    import nibabel as nib
    from nilearn import datasets

    fetcher, options, licence, commercial = FETCHED[name]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            bunch = getattr(datasets, fetcher)(**options, verbose=0)
        image = bunch.maps if hasattr(bunch.maps, "dataobj") else nib.load(bunch.maps)
        array = np.asanyarray(image.dataobj)
        table = _table(bunch)
    except Exception as error:
        raise AnatomyError(
            f"nilearn:{name} could not be fetched ({type(error).__name__})",
            "connect to the network once, or use an installed atlas (`relevance-audit atlases`)",
        ) from error
    affine = np.asarray(image.affine, np.float64)
    labels = check_labels(array, affine, table, f"nilearn:{name}")
    present = sorted(set(np.unique(labels).tolist()) - {0})
    table = {index: table[index] for index in present}
    return Atlas(
        name=f"nilearn:{name}",
        labels=labels,
        affine=affine,
        table=table,
        licence=licence,
        source=f"nilearn.datasets.{fetcher}",
        space="MNI152",
        pairs=hemisphere_pairs(table),
        commercial=commercial,
    )


def _table(bunch: Any) -> dict[int, str]:
    """Label table of a nilearn bunch: its look-up table, else names in the order of the labels."""
    lut = getattr(bunch, "lut", None)
    if lut is not None and {"index", "name"} <= set(lut.columns):
        pairs = zip(lut["index"], lut["name"], strict=True)
        return {int(index): _text(name) for index, name in pairs if int(index) != 0}
    names = [_text(name) for name in bunch.labels]
    if names and names[0].lower() in {"background", "unknown"}:
        names = names[1:]
    return dict(enumerate(names, 1))


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
