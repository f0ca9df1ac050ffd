"""Retinas with planted faults, at 192 pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, max_pool2d
from verdict_planting import Drawn, Fault, World, conv

from pipeline.anatomy.retina import FieldOfView, field_of_view
from pipeline.anatomy.retina_regions import DISC_TO_FOVEA_MM
from pipeline.images import Photograph
from pipeline.interventions import Subject
from pipeline.models.card import Preprocessing
from pipeline.models.prepare_fundus import prepare_fundus
from pipeline.phantoms.retina import RetinaPhantom, retina_phantom
from pipeline.protocol import load_protocol
from pipeline.stages.intervene_cases import DISC, MACULA, Member, Score
from pipeline.stages.measuring import on_model_grid

SIZE = 192
DRAWN = 256
GRID = Preprocessing(kind="fundus_square", shape=(SIZE, SIZE), mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
GRADES = ((0,), (3, 4))
LESIONS = ("microaneurysms", "haemorrhages", "hard_exudates", "soft_exudates")
# cue → what the generator is told; the other cues are what a camera does to the finished photograph
CUES: Mapping[str, dict[str, float]] = {"vignette": {"vignette": 0.6}}
LABEL = (slice(None), slice(172, 186), slice(4, 34))  # in the lower left corner, off the field
REDDER = np.array([1.1, 0.9, 0.8], np.float32)
BLUR_PIXELS, NOISE = 1.0, 0.04
KEPT = 100


class SmallRetinaNet(nn.Module):
    """Five convolutions, global average pooling, one linear layer; `stem` is trained once and then kept."""

    def __init__(self) -> None:
        super().__init__()
        kinds = (nn.Conv2d, nn.BatchNorm2d)
        wide = nn.Conv2d(24, 24, 3, padding=3, dilation=3, bias=False)
        self.stem = nn.Sequential(
            *conv(*kinds, 3, 16, 2, 5), *conv(*kinds, 16, 24, 2), wide, nn.BatchNorm2d(24), nn.ReLU()
        )
        self.tail = nn.Sequential(
            *conv(*kinds, 24, 32, 1),
            *conv(*kinds, 32, 48, 2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(48, 2),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        logits: torch.Tensor = self.tail(self.stem(x))
        return logits


class WithoutField(nn.Module):
    """Black inside the field of view."""

    keep: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        at = (np.arange(SIZE) - (SIZE - 1) / 2) / (SIZE / 2)
        self.register_buffer("keep", torch.from_numpy(at[:, None] ** 2 + at[None] ** 2 > 0.96**2).float())

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return x * self.keep - (1 - self.keep)


class ChannelsReversed(nn.Module):
    """Blue for red."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return x.flip(1)


def landmarks(phantom: RetinaPhantom, native_from_model: npt.NDArray[np.float64]) -> npt.NDArray[np.int16]:
    """Return the true disc (1) and macula (2, within 0.5 mm of the fovea) on the grid."""
    down, right = native_from_model[0, 0], native_from_model[1, 1]
    rows = native_from_model[0, 2] + down * np.arange(SIZE)[:, None]
    columns = native_from_model[1, 2] + right * np.arange(SIZE)[None]
    row, column, radius = phantom.disc
    apart = float(np.hypot(row - phantom.fovea[0], column - phantom.fovea[1]))
    half_mm = 0.5 / DISC_TO_FOVEA_MM * apart
    macula = np.hypot(rows - phantom.fovea[0], columns - phantom.fovea[1]) <= half_mm
    disc = np.hypot(rows - row, columns - column) <= radius
    return np.asarray(np.where(disc, DISC, np.where(macula, MACULA, 0)), np.int16)


class Retinas(World):
    """Photographs with and without referable retinopathy."""

    name = "retina"
    faults: ClassVar[Mapping[str, Fault]] = {
        "sound": Fault(""),
        "sound_b": Fault(""),  # other training cases
        "marker": Fault("compact", "marker"),
        "vignette": Fault("diffuse", "vignette"),
        "colour": Fault("diffuse", "colour"),
        "noise": Fault("diffuse", "noise"),
        "blur": Fault("diffuse", "blur"),
        "background": Fault("compact", "marker", before=WithoutField()),
        "shuffled": Fault("no skill"),
        "random": Fault("no skill"),
        "flipped": Fault("no skill", after=ChannelsReversed()),
    }
    train_size, audited, epochs, base_epochs, rate, wrong_labels = 160, 64, 20, 16, 1e-2, 0.35

    def __init__(self) -> None:
        self._drawn: dict[int, tuple[RetinaPhantom, FieldOfView]] = {}

    def photograph(self, seed: int, label: int) -> tuple[RetinaPhantom, FieldOfView]:
        """Draw a clean photograph and find its field; the last ones are kept: several cues need them."""
        if seed not in self._drawn:
            grade = int(np.random.default_rng([seed, 7]).choice(GRADES[label]))
            phantom = retina_phantom(seed, grade, DRAWN)
            if len(self._drawn) >= KEPT:
                self._drawn.pop(next(iter(self._drawn)))
            self._drawn[seed] = phantom, field_of_view(phantom.photograph)
        return self._drawn[seed]

    def generate(self, seed: int, label: int, cue: str, *, present: bool) -> Drawn:
        """Draw one photograph on the grid."""
        phantom, view = self.photograph(seed, label)
        if present and cue in CUES:
            phantom = retina_phantom(seed, phantom.grade, DRAWN, **CUES[cue])  # type: ignore[arg-type]
        colours = phantom.photograph.data
        if present and cue == "colour":
            colours = colours * REDDER
        elif present and cue == "blur":
            colours = ndimage.gaussian_filter(colours, (BLUR_PIXELS, BLUR_PIXELS, 0))
        elif present and cue == "noise":
            rng = np.random.default_rng([seed, 9])
            inside = phantom.field.mask()[..., None]
            colours = colours + NOISE * inside * rng.standard_normal(colours.shape, dtype=np.float32)
        colours = np.asarray(np.clip(colours, 0, 1), np.float32)
        prepared = prepare_fundus(Photograph(colours, phantom.photograph.name), GRID, view=view)
        if present and cue == "marker":
            prepared.tensor[0][LABEL] = (0.92 - GRID.mean[0]) / GRID.std[0]
        lesions = np.zeros(prepared.field.shape, bool)
        for name in LESIONS:
            lesions |= on_model_grid(phantom.masks[name], prepared)
        extra = {"lesions": lesions, "eye": phantom.laterality, "site": phantom.site}
        extra["landmarks"] = landmarks(phantom, prepared.native_from_model)
        return Drawn(prepared.tensor[0].numpy(), prepared.field, extra)

    def learn_stem(self, network: nn.Module, cases: Sequence[Drawn], seeds: Sequence[int]) -> None:  # noqa: ARG002
        """Train the first layers to find lesions pixel by pixel: a label an image teaches too slowly."""
        stem = network.get_submodule("stem")
        head = nn.Conv2d(24, 1, 1)
        images = torch.from_numpy(np.stack([c.image for c in cases]))
        marks = torch.from_numpy(np.stack([c.extra["lesions"] for c in cases])[:, None].astype(np.float32))
        marks = max_pool2d(marks, 4)
        weights = [*stem.parameters(), *head.parameters()]
        optimiser = torch.optim.AdamW(weights, lr=self.rate, weight_decay=1e-2)
        batches = len(cases) // 8
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, self.rate, total_steps=self.base_epochs * batches
        )
        rng = np.random.default_rng(0)
        stem.train()
        for _ in range(self.base_epochs):
            for chosen in rng.permutation(len(cases))[: batches * 8].reshape(batches, 8):
                found = head(stem(images[chosen]))
                heavier = torch.tensor(10.0)  # lesions are few
                loss = binary_cross_entropy_with_logits(found, marks[chosen], pos_weight=heavier)
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
        stem.eval()

    def network(self) -> nn.Module:
        """Return an untrained network."""
        return SmallRetinaNet()

    def members(
        self, model: nn.Module, cases: Sequence[Drawn], seeds: Sequence[int], seed: int
    ) -> tuple[Any, list[Member]]:
        """Make of the cases what the pipeline makes of files."""
        path = Path(__file__).resolve().parents[1] / "flows" / "protocols" / "retina.yaml"
        protocol = load_protocol(path).model_copy(update={"seed": seed})
        context: Any = SimpleNamespace(
            protocol=protocol, atlas=None, target=1, model=SimpleNamespace(module=model, preprocessing=GRID)
        )
        score = Score(context)
        clean = score.of([c.image for c in cases])
        members = [
            Member(
                Subject(str(number), str(number), number % 2 == 1),
                drawn.image,
                drawn.field,
                np.ones(2),
                float(value),
                {"eye": str(drawn.extra["eye"])},
                drawn.extra["landmarks"],
                drawn.extra["lesions"],
            )
            for number, drawn, value in zip(seeds, cases, clean, strict=True)
        ]
        return context, members
