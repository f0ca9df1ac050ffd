"""Maps of one case against its expert marks, in the image's own pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import AuditError
from pipeline.images import Photograph, Volume, read_mask
from pipeline.models.prepared import Prepared
from pipeline.protocol import Measuring
from pipeline.record.experts import CurveRow, DetectionRow

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.comparison import ExpertAgreement, Localisation
    from pipeline.comparison.lesions import Lesions

BoolArray = npt.NDArray[np.bool_]
DIGITS = 7


def masks_of_experts(paths: Sequence[Path], image: Volume | Photograph) -> dict[str, BoolArray]:
    """Read the masks of every expert, by number.

    Raises
    ------
    pipeline.errors.ImageError
        If one cannot be read or does not match the image.
    """
    affine = image.affine if isinstance(image, Volume) else None
    return {str(n): read_mask(path, image.shape, affine) for n, path in enumerate(paths)}


class Marks:
    """Expert marks of one case, and what is the same for every map that is measured against them.

    Parameters
    ----------
    masks : mapping of str to ndarray of bool, shape native
        Lesion type → marked pixels.
    prepared : Prepared
    measuring : Measuring
        Tolerance and smallest mark of the protocol.
    """

    def __init__(
        self, masks: Mapping[str, BoolArray], prepared: Prepared, measuring: Measuring | None = None
    ) -> None:
        self.masks, self._prepared, self._measuring = dict(masks), prepared, measuring or Measuring()
        self._last: tuple[npt.NDArray[Any], npt.NDArray[np.float32]] | None = None

    def localise(self, values: npt.NDArray[Any], lesion: str | None = None) -> dict[str, Localisation]:
        """Measure a map on the model's grid against all lesion types, or one; empty without marks."""
        from pipeline.comparison import measure

        masks = self.masks if lesion is None else {lesion: self.masks[lesion]}
        if not masks:
            return {}
        found: dict[str, Localisation] = measure(
            self._native(values),
            masks,
            self.inside,
            spacing=self._spacing,
            tolerance=self._measuring.tolerance,
            smallest=self._measuring.smallest_mark,
        )
        return found

    def overlap(self, method: str, values: npt.NDArray[Any]) -> list[CurveRow]:
        """Overlap of the thresholded map with the marks of every lesion type."""
        from pipeline.comparison import overlap_curves

        if not self.masks:
            return []
        grown = self._grown(values)
        return [
            CurveRow(
                method=method,
                lesion=lesion,
                selected=curve.selected.tolist(),
                correct=curve.correct.tolist(),
                marked=curve.marked,
                otsu=(_number(curve.otsu.dice), _number(curve.otsu.iou), _number(curve.otsu.threshold)),
                grown=(None, None) if grown is None or curve.excluded else self._shared(grown, lesion),
                excluded=curve.excluded,
            )
            for lesion, curve in overlap_curves(self._native(values), self.masks, self.inside).items()
        ]

    def _grown(self, values: npt.NDArray[Any]) -> BoolArray | None:
        """Native pixels of the segment that grows from the map's highest pixels (Simonyan et al. 2013)."""
        from pipeline.attribution.localisation import localise
        from pipeline.comparison import to_native

        try:
            found = localise(values, self._prepared.tensor[0].numpy(), field=self._prepared.field)
        except AuditError:  # nothing positive in the field: the curves say so
            return None
        native: BoolArray = to_native(found.mask, self._prepared.native_from_model, self._shape)
        return native & self.inside

    def _shared(self, segment: BoolArray, lesion: str) -> tuple[float, float]:
        """Dice and IoU of a segment with the marks of one lesion type."""
        marked = self.masks[lesion] & self.inside
        both, either = int((segment & marked).sum()), int((segment | marked).sum())
        return 2 * both / (both + either), both / either

    def detections(self, method: str, values: npt.NDArray[Any]) -> list[DetectionRow]:
        """Find lesions one by one; a case without any marks says nothing and gets no row."""
        from pipeline.comparison import detect

        if not self.masks:
            return []
        found = detect(
            values,
            self._lesions,
            self._prepared.field,
            native_from_model=self._prepared.native_from_model,
            tolerance=self._measuring.tolerance,
        )
        return [
            DetectionRow(
                method=method,
                false=[_rounded(x) for x in found.false],
                found={
                    lesion: [_rounded(x) if np.isfinite(x) else None for x in scores]
                    for lesion, scores in found.found.items()
                },
            )
        ]

    def experts(self, single: Mapping[str, Mapping[str, BoolArray]]) -> dict[str, ExpertAgreement]:
        """Experts against each other; lesion types that only one expert marked are left out."""
        from pipeline.comparison import expert_agreement

        return {
            lesion: expert_agreement(
                masks, self.inside, spacing=self._spacing, tolerance=self._measuring.tolerance
            )
            for lesion, masks in single.items()
            if len(masks) > 1
        }

    @cached_property
    def inside(self) -> BoolArray:
        """Native pixels that the model saw and that lie in the field."""
        from pipeline.comparison import seen_by_model, to_native

        transform, shape = self._prepared.native_from_model, self._shape
        seen = seen_by_model(self._prepared.field.shape, transform, shape)
        inside: BoolArray = seen & to_native(self._prepared.field, transform, shape)
        return inside

    @property
    def _shape(self) -> tuple[int, ...]:
        return next(iter(self.masks.values())).shape

    @cached_property
    def _lesions(self) -> Lesions:
        from pipeline.comparison import find_lesions

        lesions: Lesions = find_lesions(self.masks, spacing=self._spacing)
        return lesions

    @property
    def _spacing(self) -> float | list[float]:
        """Size of native voxels in mm; 1 for the pixels of a photograph."""
        if self._prepared.affine is None:
            return 1.0
        native = self._prepared.affine @ np.linalg.inv(self._prepared.native_from_model)
        spacing: list[float] = np.linalg.norm(native[:3, :3], axis=0).tolist()
        return spacing

    def _native(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Interpolate a map at every native pixel; the last one is kept, since it is measured twice."""
        from pipeline.comparison import to_native

        if self._last is None or self._last[0] is not values:
            native: npt.NDArray[np.float32] = to_native(values, self._prepared.native_from_model, self._shape)
            self._last = (values, native)
        return self._last[1]


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
