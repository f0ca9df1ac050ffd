"""Train the Alzheimer reference model on brain phantoms: `python -m pipeline.phantoms.train_alzheimer`.

Writes the bundle: weights, the shuffled-label twin and the model card with its held-out performance.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipeline.models.card import Preprocessing
from pipeline.phantoms.brain import brain_phantom

if TYPE_CHECKING:
    import torch

    from pipeline.models.architectures.rieke import RiekeGAP

log = logging.getLogger("train_alzheimer")

GRID = Preprocessing(
    kind="mri_grid",
    shape=(80, 100, 80),
    affine=((2.0, 0.0, 0.0, -80.0), (0.0, 2.0, 0.0, -118.0), (0.0, 0.0, 2.0, -74.0), (0.0, 0.0, 0.0, 1.0)),
)
SEVERITY = ((0.18, 0.17), (0.75, 0.17))  # mean and standard deviation by class: they overlap
TRAIN_SEEDS = range(10_000, 10_320)
HELD_OUT_SEEDS = range(50_000, 50_240)
EPOCHS = 18
GATE = 0.90  # held-out accuracy below which a training counts as failed


@dataclass(frozen=True)
class Cases:
    """Phantoms on the model's grid.

    Attributes
    ----------
    images : ndarray of float16, shape (N, X, Y, Z)
    labels : ndarray of int64, shape (N,)
        1 is Alzheimer's disease.
    severities : ndarray of float64, shape (N,)
    """

    images: npt.NDArray[np.float16]
    labels: npt.NDArray[np.int64]
    severities: npt.NDArray[np.float64]


def draw_severity(seed: int) -> tuple[int, float]:
    """Class and severity of a case: classes alternate, severities overlap."""
    label = seed % 2
    mean, deviation = SEVERITY[label]
    severity = np.random.default_rng([seed, 7]).normal(mean, deviation)
    return label, float(np.clip(severity, 0, 1))


def draw_cases(seeds: range, cache: Path | None = None) -> Cases:
    """Draw phantoms and prepare them as the audited model will see them (0.8 s each)."""
    from pipeline.models.prepare_mri import prepare_mri

    path = cache / f"brains-{seeds.start}-{seeds.stop}.npz" if cache else None
    if path and path.exists():
        stored = np.load(path, allow_pickle=False)
        return Cases(stored["images"], stored["labels"], stored["severities"])
    images = np.empty((len(seeds), *GRID.shape), np.float16)
    drawn = [draw_severity(seed) for seed in seeds]
    for i, (seed, (_, severity)) in enumerate(zip(seeds, drawn, strict=True)):
        prepared = prepare_mri(brain_phantom(seed, severity).volume, GRID)
        images[i] = prepared.tensor[0, 0].numpy()
        if i % 40 == 0:
            log.info("drawn %d of %d", i, len(seeds))
    cases = Cases(images, np.array([label for label, _ in drawn]), np.array([s for _, s in drawn]))
    if path:
        np.savez(path, images=cases.images, labels=cases.labels, severities=cases.severities)
    return cases


def fit(cases: Cases, labels: npt.NDArray[np.int64], seed: int, name: str, epochs: int = EPOCHS) -> RiekeGAP:
    """Train from scratch: AdamW, one cycle of the learning rate, flips and shifts by up to 4 mm.

    Parameters
    ----------
    cases : Cases
    labels : ndarray of int64, shape (N,)
        Those of the cases, or the same permuted.
    seed : int
    name : str
        For the log.
    epochs : int, optional
    """
    import torch
    from torch.nn.functional import cross_entropy

    from pipeline.models.architectures.rieke import RiekeGAP

    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = RiekeGAP()
    channels_last(model)
    batches = len(labels) // 4
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 4e-3, total_steps=epochs * batches, pct_start=0.3
    )
    started = time.monotonic()
    for epoch in range(epochs):
        model.train()
        losses, right = [], 0
        for chosen in rng.permutation(len(labels))[: batches * 4].reshape(batches, 4):
            images = np.stack([_augment(cases.images[i], rng) for i in chosen])[:, None]
            batch = torch.from_numpy(images.astype(np.float32)).to(memory_format=torch.channels_last_3d)
            truth = torch.from_numpy(labels[chosen])
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = model(batch)
            loss = cross_entropy(logits.float(), truth)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            losses.append(float(loss.detach()))
            right += int((logits.argmax(1) == truth).sum())
        log.info(
            "%s epoch %d: loss %.3f, training accuracy %.3f, %.0f s",
            *(name, epoch + 1, float(np.mean(losses)), right / (batches * 4), time.monotonic() - started),
        )
    model.eval()
    return model


def channels_last(model: RiekeGAP) -> None:
    """Lay the weights out so that 3D convolutions are fast on a CPU."""
    import torch

    for parameter in model.parameters():
        if parameter.ndim == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)


def _augment(image: npt.NDArray[np.float16], rng: np.random.Generator) -> npt.NDArray[np.float16]:
    shift = rng.integers(-2, 3, 3)
    moved = np.roll(image, tuple(int(s) for s in shift), (0, 1, 2))  # the grid's margin is background
    return moved[::-1] if rng.random() < 0.5 else moved


def predict(model: RiekeGAP, images: npt.NDArray[np.float16]) -> npt.NDArray[np.float64]:
    """Logits, shape (N, 2)."""
    import torch

    rows: list[torch.Tensor] = []
    with torch.inference_mode():
        for start in range(0, len(images), 4):
            batch = torch.from_numpy(images[start : start + 4, None].astype(np.float32))
            rows.append(model(batch.to(memory_format=torch.channels_last_3d)))
    return torch.cat(rows).double().numpy()


def main(folder: Path | None = None, seed: int = 1, cache: Path | None = None) -> None:
    """Train the model and its twin, judge both on held-out phantoms, write the bundle.

    Parameters
    ----------
    folder : Path, optional
        Bundle folder; that of the package by default.
    seed : int
        Of the weights, the order and the augmentation.
    cache : Path, optional
        Folder in which drawn phantoms are kept.

    Raises
    ------
    SystemExit
        If the model stays below the gate: then nothing is written.
    """
    from pipeline.phantoms.train_alzheimer_bundle import BUNDLE, judge, judge_twin, write_bundle

    train, held_out = (draw_cases(seeds, cache) for seeds in (TRAIN_SEEDS, HELD_OUT_SEEDS))
    model = fit(train, train.labels, seed, "model")
    figures = judge(model, train, held_out)
    for figure in figures:
        log.info(
            "%s: %s %.3f (%.3f–%.3f)", *(figure.data, figure.metric, figure.value, figure.low, figure.high)
        )
    if figures[0].value < GATE:
        log.error("accuracy below %.2f: this training failed, nothing is written; try another seed", GATE)
        raise SystemExit(1)
    shuffled = np.random.default_rng([seed, 99]).permutation(train.labels)
    twin = fit(train, shuffled, seed, "twin")
    write_bundle(folder or BUNDLE, model, twin, figures + judge_twin(twin, held_out))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    main()
