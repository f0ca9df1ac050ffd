"""Coarser regions out of finer ones: both sides of a region together, or lobes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt

from atlases.atlas import split_side
from atlases.expected import plain_name
from pipeline.errors import AnatomyError

# Words in a region's name, in the order they are tried: the first that occurs decides.
_LOBES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("cerebellum", ("cerebel", "vermis")),
    ("brain stem", ("brain stem", "brainstem", "pons", "medulla", "red n", "substantia", "sn p", "vta",
                    "raphe", "locus", "lc")),
    ("ventricles", ("ventricle", "inf lat vent", "csf", "choroid", "3rd vent", "4th vent")),
    ("limbic", ("hippocamp", "amygdala", "parahippo", "phg", "cingul", "entorhinal", "cgg", "acc sub",
                "acc pre", "acc sup", "subcallosal")),
    ("insula", ("insula", "insular", "ains", "pins")),
    ("deep grey", ("caudate", "putamen", "pallid", "thal", "accumbens", "ventraldc", "ventral dc",
                   "basal forebrain", "n acc")),
    ("occipital", ("occipital", "calcarine", "cuneus", "cuneal", "lingual", "precune")),
    ("temporal", ("temporal", "fusiform", "heschl", "planum", "bankssts")),
    ("parietal", ("parietal", "postcentral", "supramarginal", "angular", "paracentral", "precuneus")),
    ("frontal", ("frontal", "precentral", "rolandic", "supp motor", "supplementary motor", "olfactory",
                 "rectus", "ofc", "orbital", "opercul", "parsop", "parstri", "juxtapositional")),
    ("white matter", ("white matter", "wm", "cc ", "corpus")),
)  # fmt: skip
_FIRST: Mapping[str, str] = {"precuneus": "parietal", "precuneous cortex": "parietal"}


def lobe_of(name: str) -> str:
    """Lobe of a region by its name, in any atlas's spelling; `"other"` where none fits.

    Examples
    --------
    >>> lobe_of("Temporal_Pole_Sup_L")
    'temporal'
    >>> lobe_of("Precuneus_R")
    'parietal'
    """
    stem = plain_name(split_side(name)[0])
    for word, lobe in _FIRST.items():
        if stem == word or stem.endswith(f" {word}"):
            return lobe
    return next((lobe for lobe, words in _LOBES if any(word in stem for word in words)), "other")


def grouped(
    labels: npt.NDArray[np.integer], table: Mapping[int, str], by: Literal["sides", "lobes"]
) -> tuple[npt.NDArray[np.int32], dict[int, str]]:
    """Merge regions.

    Parameters
    ----------
    labels : ndarray of int, any shape
        Of an atlas, or carried to a patient.
    table : mapping of int to str
        Label to region name.
    by : {"sides", "lobes"}
        `"sides"`: left and right of a region become one; `"lobes"`: lobes, each side apart.

    Returns
    -------
    labels : ndarray of int32
        Numbered from 1 in the order of the finer labels.
    table : dict of int to str
    """
    if by not in ("sides", "lobes"):
        raise AnatomyError(f"regions cannot be grouped by {by!r}", "use sides or lobes")
    names: dict[int, str] = {}
    for index in sorted(table):
        stem, side = split_side(table[index])
        names[index] = stem if by == "sides" else " ".join(filter(None, (lobe_of(table[index]), side)))
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names.values()), 1)}
    lookup = np.zeros(max([int(labels.max(initial=0)), *table]) + 1, np.int32)
    for index, name in names.items():
        lookup[index] = numbers[name]
    return lookup[labels], {number: name for name, number in numbers.items()}
