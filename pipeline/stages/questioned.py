"""Cases whose maps are questioned, with the maps that the audit made of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.cohort import Case
from pipeline.errors import AuditError
from pipeline.images import read_photograph, read_volume
from pipeline.models.prepared import Prepared
from pipeline.protocol import Method
from pipeline.record.parts import Figure, figure_of
from pipeline.record.schema import read_arrays
from pipeline.stages.audit import Audit
from pipeline.stages.twins import COSTLY, FAMILIES
from pipeline.trust.maps import Price, maps_of

if TYPE_CHECKING:
    from torch import nn

Floats = npt.NDArray[np.float64]


@dataclass
class Questioned:
    """One case, as all questions need it.

    Attributes
    ----------
    case : Case
    prepared : Prepared
    maps : dict of str to ndarray of float64, shape spatial
        Method → relevance for the target, as the audit made it.
    """

    case: Case
    prepared: Prepared
    maps: dict[str, Floats] = field(default_factory=dict)


def take_up(audit: Audit, cases: Sequence[Case], methods: Sequence[Method], price: Price) -> list[Questioned]:
    """Read cases and take up their maps; maps that a finished run no longer has are made again if cheap.

    Parameters
    ----------
    audit : Audit
    cases : sequence of Case
    methods : sequence of Method
    price : Price
        Counted on.

    Returns
    -------
    list of Questioned
        Without the cases that have no map.
    """
    made = [_take_up(audit, case, methods, price) for case in cases]
    return [one for one in made if one.maps]


def is_cheap(method: Method) -> bool:
    """Whether a map takes a few forward passes only."""
    from pipeline.attribution import METHODS

    return METHODS[method.name].family in FAMILIES and method.name not in COSTLY


def seed_for(audit: Audit, purpose: str) -> int:
    """Seed for one purpose: from the protocol's, and unlike that of any other purpose."""
    return int.from_bytes(hashlib.sha256(f"{purpose}/{audit.protocol.seed}".encode()).digest()[:4])


def figure_of_patients(values: Any, asked: Sequence[Questioned]) -> Figure:
    """Mean over the patients of `asked` with its interval; NaN is excluded and counted."""
    from pipeline.comparison import mean_interval

    return figure_of(mean_interval(values, [one.case.patient for one in asked]))


def map_by(audit: Audit, module: nn.Module, one: Prepared, method: Method, price: Price) -> Floats:
    """Map of one image by any model, for the audited class."""
    made: Floats = maps_of(module, one.tensor, audit.target, method.name, method.options, price)[0]
    return made


def _take_up(audit: Audit, case: Case, methods: Sequence[Method], price: Price) -> Questioned:
    mri = audit.protocol.modality == "mri"
    prepared = audit.model.prepare(read_volume(case.image) if mri else read_photograph(case.image))
    one = Questioned(case, prepared)
    path = audit.folder / "cases" / f"{case.case}.npz"
    stored = read_arrays(path) if path.is_file() else {}
    for method in methods:
        name = f"map_{method.name}_class-{audit.target}"
        if name in stored and stored[name].shape == prepared.field.shape:
            one.maps[method.name] = stored[name].astype(np.float64)
        elif is_cheap(method):
            try:
                one.maps[method.name] = map_by(audit, audit.model.module, prepared, method, price)
            except AuditError:
                continue  # it is an error row where the case itself is audited
    return one
