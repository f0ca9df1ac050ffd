"""What all cases of one audit share."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cohort import Case
from pipeline.models.opening import OpenedModel
from pipeline.protocol import Protocol
from pipeline.provenance import versions

if TYPE_CHECKING:
    from atlases import Atlas
    from pipeline.stages.average_marks import AverageMarks
    from pipeline.stages.concepts import ConceptSet
    from pipeline.stages.twins import TwinSet


@dataclass(frozen=True)
class Audit:
    """What all cases of one audit share.

    Attributes
    ----------
    protocol : Protocol
    model : pipeline.models.opening.OpenedModel
    classes : tuple of str
    target : int
        Class index that is audited.
    atlas : atlases.Atlas or None
    folder : Path
        The audit directory.
    calibration : tuple of Case
        The cohort: twins are calibrated on its images, and its marks are averaged.
    """

    protocol: Protocol
    model: OpenedModel
    classes: tuple[str, ...]
    target: int
    atlas: Atlas | None
    folder: Path
    calibration: tuple[Case, ...] = ()

    @cached_property
    def twins(self) -> TwinSet:
        """Models to compare with, made when the first case needs them."""
        from pipeline.stages.twins import twins_of

        return twins_of(self.model, self.protocol, self.calibration, self.folder)

    @cached_property
    def average_marks(self) -> AverageMarks:
        """Marks of the cohort on one grid, gathered when the first case is compared with other patients'."""
        from pipeline.stages.average_marks import average_marks_of

        return average_marks_of(self)

    @cached_property
    def marks_key(self) -> str:
        """Hash of all marks of the cohort: what is measured against other patients' depends on them."""
        from pipeline.stages.average_marks import marks_key

        return marks_key(self.calibration)

    @cached_property
    def concepts(self) -> ConceptSet:
        """Concepts to explain with, learnt when the first case needs them."""
        from pipeline.stages.concepts import concepts_of

        return concepts_of(self)

    @cached_property
    def settings_key(self) -> str:
        """Hash of all that is the same for every case: protocol, weights, card, atlas, versions; no path."""
        protocol = self.protocol.model_dump(
            mode="json",
            exclude={
                "title",
                "criteria",
                "keep_maps",
                "case_pages",
                "cohort",
                "model",
                "smallest_group",
                "cues",
                "trust",
            },
        )
        atlas = hashlib.sha256(self.atlas.labels.tobytes()).hexdigest() if self.atlas else ""
        card = self.model.card.model_dump(mode="json") if self.model.card else None
        parts = [protocol, self.model.sha256, card, self.target, atlas, versions()]
        from pipeline.stages.concepts import concepts_key, mace_of

        if mace_of(self.protocol) is not None:
            parts.append(concepts_key(self))
        text = json.dumps(parts, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()
