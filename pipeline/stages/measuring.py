"""The maps of one case, and every number that is measured on them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.cohort import Case
from pipeline.errors import AnatomyError, AuditError
from pipeline.images.maps import write_map
from pipeline.models.prepared import Prepared
from pipeline.protocol import Method
from pipeline.record.concepts import ConceptRow
from pipeline.record.experts import CurveRow, DetectionRow
from pipeline.record.schema import CaseRow, ErrorRow, Measurement
from pipeline.record.small_maps import LEFT, packed, small_map
from pipeline.stages.audit import Audit
from pipeline.stages.average_marks import AVERAGE
from pipeline.stages.concepts import concept_rows
from pipeline.stages.marks import Marks
from pipeline.stages.twins import twin_methods

if TYPE_CHECKING:
    from pipeline.anatomy.brain import Regions
    from pipeline.attribution import Relevance

BoolArray = npt.NDArray[np.bool_]
NULL = "null:"
FLOORED = "floored"
THRESHOLDED = "contrast"
EXPERTS = "experts:agreement"
RIM_MM, RIM_PIXELS = 6.0, 8.0


class CaseWork:
    """Maps and measurements of one case, gathered method by method."""

    def __init__(
        self,
        case: Case,
        audit: Audit,
        prepared: Prepared,
        marks: Mapping[str, BoolArray],
        regions: Regions | None,
        row: CaseRow,
    ) -> None:
        self.case, self.audit, self.prepared, self.marks, self.regions, self.row = (
            case,
            audit,
            prepared,
            marks,
            regions,
            row,
        )
        self.maps: dict[str, npt.NDArray[np.float32]] = {}
        self.measurements: list[Measurement] = []
        self.detections: list[DetectionRow] = []
        self.curves: list[CurveRow] = []
        self.concepts: list[ConceptRow] = []
        self.concept_masks: dict[str, BoolArray] = {}
        self.small_maps: dict[str, str] = {}
        self.errors: list[ErrorRow] = []
        self._marks = Marks(marks, prepared, audit.protocol.measuring)
        mri = audit.protocol.modality == "mri"
        affine = prepared.affine if prepared.affine is not None else np.eye(4)
        self.spacing: Any = np.linalg.norm(affine[:3, :3], axis=0) if mri else 1.0
        self.rim = RIM_MM if mri else RIM_PIXELS

    def run(self, method: Method, targets: Sequence[int]) -> None:
        """Make and measure one method's maps for some classes, from one forward pass; refusals are rows."""
        from pipeline.attribution import METHODS, attribute

        labels = None
        if method.name == "region_occlusion":
            if self.regions is None or not self.regions.registered:
                reason = self.regions.reason if self.regions is not None else "no atlas for this image"
                self._refused(method.name, f"no regions: {reason}")
                return
            labels = _tensor(self.regions.labels)
        options = dict(method.options)
        if method.name == "mace":
            if self.audit.concepts.state is None:
                return  # said once, for all cases
            options = {"state": self.audit.concepts.state}
        begin = time.perf_counter()
        try:
            made = attribute(
                self.audit.model.module,
                self.prepared.tensor,
                [list(targets)],
                method=method.name,
                regions=labels,
                **options,
            )
        except AuditError as error:
            if len(targets) == 1:
                self._refused(method.name, str(error))
            else:  # one class may be refused where the other is not
                for target in targets:
                    self.run(method, [target])
            return
        seconds = (time.perf_counter() - begin) / len(targets)
        for index, target in enumerate(targets):
            self._add(method.name, target, "seconds", seconds)
            own = None if made.region_scores is None else made.region_scores[index].double().numpy()
            values = one_channel(made, index, signed=METHODS[method.name].signed)
            self._keep(method.name, target, values, own)
            if method.name == "mace":
                rows, masks = concept_rows(made, index, values.shape)
                self.concepts += rows
                self.concept_masks |= masks
                self._add(method.name, target, "concepts_agree", float(rows[0].agrees))

    def _keep(
        self, method: str, target: int, values: npt.NDArray[np.float32], own: npt.NDArray[Any] | None
    ) -> None:
        """Write and measure one map; `own` are the method's own scores of the regions."""
        name = f"{method}_class-{target}"
        self.maps[name] = values
        self.row.maps.append(name)
        write_map(
            self.audit.folder / "maps" / self.case.case,
            name,
            values,
            affine=self.prepared.affine,
            native_from_model=self.prepared.native_from_model,
            native_shape=self.prepared.native_shape,
        )
        measured = self._smooth(values)
        self._measure(method, target, measured)
        self._measure_regions(method, target, measured, own)
        if target == self.audit.target:
            self._segment(method, measured)
            self._keep_small(method, values)

    def _keep_small(self, method: str, values: npt.NDArray[np.float32]) -> None:
        """Keep where the relevance lies that speaks for the model's answer, on a small grid."""
        from pipeline.attribution import METHODS

        if METHODS[method].signed and self.row.predicted != self.audit.target:
            values = -values
        small = small_map(
            np.maximum(values, 0),
            self.prepared.field,
            self.prepared.affine,
            left=self.case.covariates.get("eye", "").lower() in LEFT,
        )
        self.small_maps[method] = packed(small)

    def _smooth(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Smooth a map as the protocol says, before it is measured; it is kept as it was made."""
        from pipeline.comparison import smoothed

        made: npt.NDArray[np.float32] = smoothed(values, self.audit.protocol.measuring.smoothing)
        return made

    def _segment(self, method: str, values: npt.NDArray[Any]) -> None:
        """Lesions one by one, and the map as a segmentation."""
        self.detections += self._marks.detections(method, values)
        curves = self._marks.overlap(method, values)
        self.curves += curves
        for curve in curves:
            for kind, (dice, iou) in {"otsu": curve.otsu[:2], "grown": curve.grown}.items():
                for metric, value in (("dice", dice), ("iou", iou)):
                    self._add(
                        method,
                        self.audit.target,
                        f"{kind}_{metric}",
                        np.nan if value is None else value,
                        lesion=curve.lesion,
                        status=curve.excluded,
                    )

    def run_twins(self) -> None:
        """Make and measure the same maps with every twin of the model; they are not kept.

        A twin with a negative logit has learnt no more than one with a positive, but its relevance that sums
        to the logit would have hardly any positive part, and anything would beat it: its map is taken for
        what it calls. Maps that do not follow the sign of the score (guided ones, softmax-gradient and
        contrastive LRP, Grad-CAM++) stay as they are: turned over, they would say nothing of any class.
        """
        from pipeline.attribution import METHODS, attribute

        target = self.audit.target
        if not self.marks and (self.regions is None or not self.regions.registered):
            return
        made = {row.method for row in self.measurements if row.metric == "seconds" and row.target == target}
        for method in (m for m in twin_methods(self.audit.protocol) if m.name in made):
            for twin, module in self.audit.twins.modules.items():
                name = f"{twin}:{method.name}"
                try:
                    relevance = attribute(
                        module, self.prepared.tensor, target, method=method.name, **method.options
                    )
                except AuditError as error:
                    self._refused(name, str(error))
                    continue
                card = METHODS[method.name]
                values = one_channel(relevance, 0, signed=card.signed)
                if card.turns_over(method.options) and float(relevance.scores[0, target]) < 0:
                    values = -values
                values = self._smooth(values)
                self._add(name, target, "zero_map", float(not np.any(values)))
                self._measure(name, target, values)
                self._measure_regions(name, target, values, None, single=False)

    def measure_experts(self, single: Mapping[str, Mapping[str, BoolArray]]) -> None:
        """Measure several experts of this case against each other: what people reach is the ceiling."""
        for lesion, agreed in self._marks.experts(single).items():
            for metric, value in {"dice": agreed.dice, **agreed.ceiling}.items():
                self._add(EXPERTS, self.audit.target, metric, value, lesion=lesion, status=agreed.excluded)

    def measure_nulls(self) -> None:
        """Measure the maps that ignore the model, exactly as a method's."""
        from pipeline.comparison import null_maps

        if not self.marks and self.regions is None:
            return
        image = self.prepared.tensor[0].numpy()
        maps = null_maps(
            image, self.prepared.field, seed=_case_seed(self.audit.protocol.seed, self.case.case)
        )
        for name in self.audit.protocol.nulls:
            if name == AVERAGE:
                self._measure_average()
                continue
            values = self._smooth(maps[name])
            self._measure(f"{NULL}{name}", self.audit.target, values)
            self._measure_regions(f"{NULL}{name}", self.audit.target, values, None)
            self.detections += self._marks.detections(f"{NULL}{name}", values)
            if name == THRESHOLDED:
                self.curves += self._marks.overlap(f"{NULL}{name}", values)

    def _measure_average(self) -> None:
        """Measure where the other patients' marks lie, for each lesion type its own map."""
        for lesion in self.marks:
            made = self.audit.average_marks.of_others(self.case.case, lesion, self.prepared)
            name = f"{NULL}{AVERAGE}"
            if isinstance(made, str):
                self._add(name, self.audit.target, "log2_mass_lift", np.nan, lesion=lesion, status=made)
            else:
                self._add_localisation(name, self.audit.target, self._smooth(made), lesion)

    def display(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays that the report draws, all on the model's grid."""
        arrays: dict[str, npt.NDArray[Any]] = {
            "image": shown_image(self.prepared, self.audit),
            "field": self.prepared.field,
        }
        arrays |= {
            f"marks_{lesion}": on_model_grid(mask, self.prepared) for lesion, mask in self.marks.items()
        }
        arrays |= {f"map_{name}": values for name, values in self.maps.items()}
        arrays |= self.concept_masks
        if self.prepared.affine is not None:
            arrays["affine"] = self.prepared.affine
        if self.regions is not None and self.regions.registered:
            arrays["regions"] = self.regions.labels.astype(np.int16)
        return arrays

    def _measure(self, method: str, target: int, values: npt.NDArray[Any]) -> None:
        from pipeline.comparison import checkerboard, field_shares

        shares = field_shares(values, self.prepared.field, rim=self.rim, spacing=self.spacing)
        self._add(method, target, "share_outside", shares.outside, status=shares.excluded)
        self._add(method, target, "log2_rim_density", shares.log2_rim_density, status=shares.excluded)
        self._add(method, target, "checkerboard", checkerboard(values))
        self._add_localisation(method, target, values)

    def _add_localisation(
        self, method: str, target: int, values: npt.NDArray[Any], only: str | None = None
    ) -> None:
        for lesion, localisation in self._marks.localise(values, only).items():
            for row in localisation.rows():
                status = str(row["excluded"]) or (FLOORED if row["floored"] else "")
                self._add(
                    method, target, str(row["metric"]), float(row["value"]), lesion=lesion, status=status
                )

    def _measure_regions(
        self,
        method: str,
        target: int,
        values: npt.NDArray[Any],
        own: npt.NDArray[Any] | None,
        *,
        single: bool = True,
    ) -> None:
        if self.regions is None or not self.regions.registered:
            return
        from atlases import expected_regions
        from pipeline.comparison import agreement, region_scores, scores_from_sums

        table = self.regions.table
        scores = region_scores(values, self.regions.labels, table, voxel_volume=float(np.prod(self.spacing)))
        if own is not None:
            scores = scores_from_sums(scores.names, own, own, scores.volume)
        regions = zip(scores.names, scores.density, scores.signed, strict=True) if single else ()
        for name, density, signed in regions:
            self._add(method, target, "region_density", density, region=name)
            self._add(method, target, "region_signed", signed, region=name)
        try:
            expected = expected_regions(self.audit.protocol.disease, table)
        except AnatomyError:  # quadrants of a photograph whose landmarks were not found
            return
        agreed = agreement(
            scores, [table[i] for i in expected.labels()], [table[i] for i in expected.negative_labels]
        )
        for metric in ("precision", "mean_rank", "log2_density_lift", "control_lift"):
            self._add(method, target, f"expected_{metric}", getattr(agreed, metric), status=agreed.excluded)

    def _add(
        self,
        method: str,
        target: int,
        metric: str,
        value: float,
        *,
        lesion: str = "",
        region: str = "",
        status: str = "",
    ) -> None:
        self.measurements.append(
            Measurement(
                case=self.case.case,
                patient=self.case.patient,
                method=method,
                target=target,
                lesion=lesion,
                region=region,
                metric=metric,
                value=float(value) if np.isfinite(value) else None,
                status=status,
            )
        )

    def _refused(self, stage: str, reason: str) -> None:
        row = ErrorRow(case=self.case.case, stage=stage, reason=reason)
        if row not in self.errors:
            self.errors.append(row)


def on_model_grid(mask: BoolArray, prepared: Prepared) -> BoolArray:
    """Bring a native mask onto the model's grid: true where any marked native pixel's centre falls.

    Where the model's grid is the finer one, also the pixels whose own centre lies in a marked native pixel.
    """
    grid = np.zeros(prepared.field.shape, bool)
    steps = np.linalg.norm(prepared.native_from_model[:-1, :-1], axis=0)
    if steps.min() < 1:
        at = np.argwhere(np.ones(grid.shape, bool)) @ prepared.native_from_model[:-1, :-1].T
        native = np.rint(at + prepared.native_from_model[:-1, -1]).astype(int)
        within = ((native >= 0) & (native < mask.shape)).all(axis=1)
        grid.flat[np.flatnonzero(within)] = mask[tuple(native[within].T)]
    where = np.argwhere(mask)
    inverse = np.linalg.inv(prepared.native_from_model)
    index = np.rint(where @ inverse[:-1, :-1].T + inverse[:-1, -1]).astype(int)
    inside = ((index >= 0) & (index < grid.shape)).all(axis=1)
    grid[tuple(index[inside].T)] = True
    return grid


def one_channel(relevance: Relevance, index: int, *, signed: bool) -> npt.NDArray[np.float32]:
    """Add the colours of one map, or their sizes where its sign means nothing."""
    values = relevance.values[index]
    one = values.sum(0) if signed else values.abs().sum(0)
    plain: npt.NDArray[np.float32] = one.float().numpy()
    return plain


def shown_image(prepared: Prepared, audit: Audit) -> npt.NDArray[np.float32]:
    """Return the image on the model's grid as a reader knows it: photographs without their normalisation."""
    data = prepared.tensor[0].numpy()
    if data.ndim == 4:
        volume: npt.NDArray[np.float32] = data[0]
        return volume
    mean, std = (
        np.array(v, np.float32).reshape(-1, 1, 1)
        for v in (audit.model.preprocessing.mean, audit.model.preprocessing.std)
    )
    colours: npt.NDArray[np.float32] = (data * std + mean).clip(0, 1).transpose(1, 2, 0)
    return colours


def _case_seed(seed: int, case: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{case}".encode()).digest()[:4])


def _tensor(labels: npt.NDArray[np.integer[Any]]) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(labels, np.int64))
