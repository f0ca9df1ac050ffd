"""What a model says of itself: the `relevance_audit` part of a MONAI bundle's metadata.json."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator


class Performance(BaseModel):
    """One held-out figure with its 95 % interval.

    Attributes
    ----------
    data : str
        Which images: `"held-out brain phantoms"`, `"IDRiD, 5-fold cross-validation"`.
    metric : str
        `"accuracy"`, `"auc"` …
    value, low, high : float
        Estimate and 95 % interval.
    n : int
        Number of patients (or images, where there is one a patient).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str
    metric: str
    value: float
    low: float
    high: float
    n: int


class Preprocessing(BaseModel):
    """How a native image becomes the model's input.

    Attributes
    ----------
    kind : {"mri_grid", "fundus_square", "as_read"}
        `mri_grid`: resampled (linear) in world space to `shape` and `affine`, then scaled so that the
        mean of the brain is 1. `fundus_square`: the field of view's bounding square, resized to `shape`,
        then `(x - mean) / std` per channel. `as_read`: no card: stored MRI intensities, photographs 0–1.
    shape : tuple of int
        Spatial shape of the input.
    affine : 4 rows of 4 floats, optional
        Grid voxel → world millimetres (`mri_grid`).
    mean, std : tuple of float
        Per channel (`fundus_square`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["mri_grid", "fundus_square", "as_read"]
    shape: tuple[int, ...] = ()
    affine: tuple[tuple[float, float, float, float], ...] | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    @model_validator(mode="after")
    def _can_be_done(self) -> Preprocessing:
        axes = {"mri_grid": 3, "fundus_square": 2}.get(self.kind)
        wrong = ""
        if axes is not None and (len(self.shape) != axes or min(self.shape) < 1):
            wrong = f"{self.kind} needs a shape of {axes} positive numbers, not {list(self.shape)}"
        elif self.kind == "mri_grid" and self.affine is None:
            wrong = "mri_grid needs an affine"
        elif self.kind == "mri_grid" and not _invertible(self.affine or ()):
            wrong = "the affine of mri_grid is not invertible"
        elif len(self.mean) != len(self.std) or not all(0 < s < math.inf for s in self.std):
            wrong = "mean and std need one number a channel each, and std positive ones"
        elif not all(map(math.isfinite, self.mean)):
            wrong = "mean needs finite numbers"
        if wrong:
            raise ValueError(wrong)
        return self


def _invertible(rows: tuple[tuple[float, ...], ...]) -> bool:
    import numpy as np

    matrix = np.array(rows)
    return matrix.shape == (4, 4) and bool(np.isfinite(matrix).all()) and abs(np.linalg.det(matrix)) > 0


class ModelCard(BaseModel):
    """What the audit has to know of a model.

    Attributes
    ----------
    name : str
    modality : {"mri", "fundus"}
    architecture : str
        Name in `pipeline.models.architectures.ARCHITECTURES`; nothing else is ever built.
    arguments : dict
        Keyword arguments of the architecture: JSON values only.
    weights : str
        safetensors file, relative to the bundle folder.
    twins : dict of str to str
        Name (`"shuffled_labels"`) → safetensors file that holds the tensors which differ from `weights`.
    classes : tuple of str
        In the order of the logits. A single-logit model has two: (negative, positive).
    target : int
        The class audited by default.
    preprocessing : Preprocessing
    trained_on : str
        One sentence: which images, real or phantom.
    performance : tuple of Performance
    credits : tuple of str
        Data and weights to be credited, with licences.
    limits : str
        What the model must not be used for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    modality: Literal["mri", "fundus"]
    architecture: str
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    weights: str
    twins: dict[str, str] = Field(default_factory=dict)
    classes: tuple[str, ...]
    target: int
    preprocessing: Preprocessing
    trained_on: str
    performance: tuple[Performance, ...] = ()
    credits: tuple[str, ...] = ()
    limits: str = ""

    @model_validator(mode="after")
    def _target_is_a_class(self) -> ModelCard:
        if not 0 <= self.target < len(self.classes):
            msg = f"target {self.target} is not one of the {len(self.classes)} classes"
            raise ValueError(msg)
        return self
