"""Brains with planted faults, at 4 mm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from scipy import ndimage
from torch import nn
from verdict_planting import Drawn, Fault, World, conv

from atlases import load_atlas
from pipeline.anatomy.brain import regions_of
from pipeline.images import Volume
from pipeline.interventions import Subject
from pipeline.models.card import Preprocessing
from pipeline.models.prepare_mri import prepare_mri
from pipeline.phantoms.brain import brain_phantom
from pipeline.protocol import load_protocol
from pipeline.stages.intervene_cases import Member, Score

SPACING = 4.0
GRID = Preprocessing(
    kind="mri_grid",
    shape=(41, 51, 41),
    affine=((4.0, 0.0, 0.0, -80.0), (0.0, 4.0, 0.0, -118.0), (0.0, 0.0, 4.0, -74.0), (0.0, 0.0, 0.0, 1.0)),
)
SEVERITY = ((0.12, 0.12), (0.85, 0.12))
# cue → what the generator is told; age is a cue of its own kind, drawn about one of two means
CUES: Mapping[str, dict[str, float]] = {
    "marker": {"marker": 1.5},
    "rim": {"rim_mm": 5.0},
    "site": {"site_field": 0.2},
    "noise": {"noise": 0.15},
    "blur": {},
    "age": {},
}
BLUR_VOXELS = 0.7
AGES = {True: (93.0, 3.0), False: (53.0, 3.0)}


class SmallBrainNet(nn.Module):
    """Four convolutions, global average pooling, one linear layer; `stem` is trained once and then kept."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            *conv(nn.Conv3d, nn.BatchNorm3d, 1, 8, 2), *conv(nn.Conv3d, nn.BatchNorm3d, 8, 16, 1)
        )
        self.tail = nn.Sequential(
            *conv(nn.Conv3d, nn.BatchNorm3d, 16, 32, 2),
            *conv(nn.Conv3d, nn.BatchNorm3d, 32, 32, 1),
            nn.AdaptiveAvgPool3d(1),
            nn.Flatten(),
            nn.Linear(32, 2),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        logits: torch.Tensor = self.tail(self.stem(x))
        return logits


class WithoutHead(nn.Module):
    """Black wherever a head could be."""

    keep: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        at = np.stack(np.meshgrid(*[np.arange(n) for n in GRID.shape], indexing="ij"), -1) * SPACING
        world = at + np.array(GRID.affine)[:3, 3]
        head = (((world - [0, -18, 8]) / [82, 100, 84]) ** 2).sum(-1) < 1
        self.register_buffer("keep", torch.from_numpy(~head).float())

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return x * self.keep


class UpsideDown(nn.Module):
    """Images stored the wrong way round."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return x.flip(4)


class Brains(World):
    """Registered brains with and without the atrophy of Alzheimer's disease."""

    name = "brain"
    faults: ClassVar[Mapping[str, Fault]] = {
        "sound": Fault(""),
        "sound_b": Fault(""),  # other training cases
        "marker": Fault("compact", "marker"),
        "rim": Fault("compact", "rim"),
        "site": Fault("diffuse", "site"),
        "noise": Fault("diffuse", "noise"),
        "blur": Fault("diffuse", "blur"),
        "age": Fault("diffuse", "age"),
        "background": Fault("compact", "marker", before=WithoutHead()),
        "shuffled": Fault("no skill"),
        "random": Fault("no skill"),
        "flipped": Fault("no skill", after=UpsideDown()),
    }
    train_size, audited, epochs, base_epochs, rate, wrong_labels = 160, 64, 12, 16, 1e-2, 0.3

    def own_absence(self, cue: str) -> bool:
        """Ages are drawn about the lower mean where the cue is absent."""
        return cue == "age"

    def generate(self, seed: int, label: int, cue: str, *, present: bool) -> Drawn:
        """Draw one brain on the grid."""
        severity = float(np.clip(np.random.default_rng([seed, 7]).normal(*SEVERITY[label]), 0, 1))
        age = None
        if cue == "age":
            middle, spread = AGES[present]
            age = middle + spread * float(np.random.default_rng([seed, 8]).normal())
        options = CUES[cue] if cue and present else {}
        phantom = brain_phantom(seed, severity, SPACING, age=age, **options)  # type: ignore[arg-type]
        volume = phantom.volume
        if cue == "blur" and present:
            volume = Volume(ndimage.gaussian_filter(volume.data, BLUR_VOXELS), volume.affine, volume.name)
        prepared = prepare_mri(volume, GRID)
        extra = {"age": round(phantom.age), "sex": phantom.sex, "site": phantom.site}
        return Drawn(prepared.tensor[0].numpy(), prepared.field, extra)

    def network(self) -> nn.Module:
        """Return an untrained network."""
        return SmallBrainNet()

    def members(
        self, model: nn.Module, cases: Sequence[Drawn], seeds: Sequence[int], seed: int
    ) -> tuple[Any, list[Member]]:
        """Make of the cases what the pipeline makes of files."""
        path = Path(__file__).resolve().parents[1] / "flows" / "protocols" / "brain.yaml"
        protocol = load_protocol(path).model_copy(update={"seed": seed})
        atlas = load_atlas("AAL")
        context: Any = SimpleNamespace(
            protocol=protocol, atlas=atlas, target=1, model=SimpleNamespace(module=model, preprocessing=GRID)
        )
        score = Score(context)
        clean = score.of([c.image for c in cases])
        labels = regions_of(Volume(cases[0].image[0], np.array(GRID.affine), ""), atlas).labels
        members = []
        for number, drawn, value in zip(seeds, cases, clean, strict=True):
            covariates = {"age": f"{drawn.extra['age']}", "sex": str(drawn.extra["sex"])}
            subject = Subject(
                str(number), str(number), number % 2 == 1, float(covariates["age"]), covariates["sex"]
            )
            members.append(
                Member(
                    subject,
                    drawn.image,
                    drawn.field,
                    np.full(3, SPACING),
                    float(value),
                    covariates,
                    labels,
                )
            )
        return context, members
