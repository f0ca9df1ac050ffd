"""The cases that methods are measured on, and what the report draws of one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.cohort import Case
from pipeline.errors import AnatomyError
from pipeline.images import read_photograph, read_volume
from pipeline.models.prepared import Prepared
from pipeline.stages.audit import Audit
from pipeline.stages.marks import masks_of_experts
from pipeline.stages.measuring import on_model_grid, shown_image
from pipeline.stages.regions import regions_on
from pipeline.trust.colour import colours_exchanged
from pipeline.trust.stability import noisy

if TYPE_CHECKING:
    import torch

    from pipeline.anatomy.brain import Regions

BoolArray = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
FULL = 99.5
"""Percentile of |R| in the field that is drawn at full colour, as on the pages of the cases."""
CLIPPED = 4.0


@dataclass(frozen=True, eq=False)
class CardCase:
    """One case, ready to be explained in every way.

    Attributes
    ----------
    name : str
    prepared : Prepared
    other : int
        The likeliest class that is not the audited one.
    spacing : float or ndarray, shape (D,)
        Millimetres, or native pixels, a pixel of the model's grid.
    noisy : torch.Tensor
        The image under small noise.
    exchanged : torch.Tensor or None
        The photograph with exchanged colours; None for what has no colours.
    labels : ndarray of int, optional
        Regions on the model's grid.
    no_regions : str
        Why there are none.
    expected : ndarray of bool, optional
        Regions expected for the disease.
    marks : mapping of str to ndarray of bool
        Expert marks on the model's grid.
    """

    name: str
    prepared: Prepared
    other: int
    spacing: npt.NDArray[np.float64]
    noisy: torch.Tensor
    exchanged: torch.Tensor | None
    labels: npt.NDArray[np.integer[Any]] | None
    no_regions: str
    expected: BoolArray | None
    marks: Mapping[str, BoolArray]

    @property
    def image(self) -> torch.Tensor:
        """As the model takes it."""
        return self.prepared.tensor

    @property
    def field(self) -> BoolArray:
        """Brain or field of view."""
        return self.prepared.field

    @property
    def label_tensor(self) -> torch.Tensor:
        """`labels` as methods take them."""
        import torch

        assert self.labels is not None
        return torch.from_numpy(np.ascontiguousarray(self.labels, np.int64))


def card_case(audit: Audit, case: Case) -> CardCase:
    """Read and prepare a case.

    Raises
    ------
    pipeline.errors.AuditError
        If it cannot be used.
    """
    from pipeline.attribution import logits
    from pipeline.comparison import consensus

    mri = audit.protocol.modality == "mri"
    image = read_volume(case.image) if mri else read_photograph(case.image)
    prepared = audit.model.prepare(image)
    scores = logits(audit.model.module, prepared.tensor)[0].double().clone()
    scores[audit.target] = -np.inf
    regions = regions_on(case, image, prepared, audit)
    known = regions is not None and regions.registered
    reason = "the protocol names no atlas" if regions is None else regions.reason
    colour = prepared.tensor.ndim == 4 and prepared.tensor.shape[1] == 3
    pre = audit.model.preprocessing
    grid = prepared.affine[:3, :3] if prepared.affine is not None else prepared.native_from_model[:-1, :-1]
    return CardCase(
        name=case.case,
        prepared=prepared,
        other=int(scores.argmax()),
        spacing=np.asarray(np.linalg.norm(grid, axis=0), np.float64),
        noisy=noisy(prepared.tensor, prepared.field, draws=1, seed=audit.protocol.seed),
        exchanged=colours_exchanged(prepared.tensor, _three(pre.mean), _three(pre.std)) if colour else None,
        labels=regions.labels if regions is not None and known else None,
        no_regions="" if known else reason,
        expected=_expected(audit, regions) if regions is not None and known else None,
        marks={
            lesion: on_model_grid(consensus(list(masks_of_experts(paths, image).values())), prepared)
            for lesion, paths in case.marks.items()
        },
    )


def card_picture(audit: Audit, case: CardCase, maps: Mapping[str, Floats]) -> dict[str, npt.NDArray[Any]]:
    """Arrays for the report: every map as a share of its own scale, of a volume one coronal slice.

    Parameters
    ----------
    audit : Audit
    case : CardCase
    maps : mapping of str to ndarray, shape spatial

    Returns
    -------
    dict of str to ndarray
        `image`, `field`, `affine` (of the slice), `marks_<lesion>`, `regions_expected`, `map_<method>`. The
        slice is the one in which the expected regions (or, without regions, the brain) hold most of the
        relevance, all methods counting alike.
    """
    shares = {name: _share(values, case.field) for name, values in maps.items()}
    arrays: dict[str, npt.NDArray[Any]] = {"image": shown_image(case.prepared, audit), "field": case.field}
    arrays |= {f"marks_{lesion}": mask for lesion, mask in case.marks.items()}
    if case.expected is not None:
        arrays["regions_expected"] = case.expected
    arrays |= {f"map_{name}": values.astype(np.float16) for name, values in shares.items()}
    if case.field.ndim == 2:
        return arrays
    affine = np.eye(4) if case.prepared.affine is None else case.prepared.affine.copy()
    axis = _coronal(affine)
    where = case.field if case.expected is None else case.expected
    total = sum(
        (np.abs(v) / (np.abs(v[case.field]).sum() or 1.0) for v in maps.values()), np.zeros(where.shape)
    )
    others = tuple(a for a in range(3) if a != axis)
    place = int(np.argmax((total * where).sum(axis=others)))
    arrays = {name: np.take(values, [place], axis=axis) for name, values in arrays.items()}
    affine[:3, 3] += place * affine[:3, axis]
    return arrays | {"affine": affine}


def _share(values: Floats, field: BoolArray) -> Floats:
    """Divide a map by its scale; what is far beyond full colour anyway is cut off."""
    size = np.abs(values[field])
    full = float(np.percentile(size, FULL)) or float(np.abs(values).max()) or 1.0
    share: Floats = np.clip(values / full, -CLIPPED, CLIPPED)
    return share


def _coronal(affine: npt.NDArray[np.float64]) -> int:
    """Axis of a volume that runs from the back of the head to the front."""
    from nibabel.orientations import io_orientation

    return int(np.flatnonzero(io_orientation(affine)[:, 0] == 1)[0])


def _expected(audit: Audit, regions: Regions) -> BoolArray | None:
    from atlases import expected_regions

    try:
        found = expected_regions(audit.protocol.disease, regions.table)
    except AnatomyError:  # quadrants of a photograph, a segmentation of other parts
        return None
    return np.isin(regions.labels, found.labels())


def _three(values: tuple[float, ...]) -> tuple[float, ...]:
    return values * 3 if len(values) == 1 else values
