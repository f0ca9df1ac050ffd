"""What the planted-fault bench needs of brains and retinas alike: drawing, planting, training, the truth."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from pipeline.stages.intervene_cases import Member, Score

CACHE = Path(__file__).resolve().parents[1] / "out" / "verdict-cache"
POOL = 192
POOL_START = 2_000_000
TRUTH = 24
WELL_TIED = 0.7


@dataclass(frozen=True)
class Fault:
    """One way in which a model can be wrong.

    Attributes
    ----------
    kind : {"", "compact", "diffuse", "no skill"}
        Empty for sound ones.
    cue : str
        Which cue the generator plants; empty for none.
    before : torch.nn.Module, optional
        What the images go through in training and use.
    after : torch.nn.Module, optional
        What the images go through in use only.
    """

    kind: str
    cue: str = ""
    before: nn.Module | None = None
    after: nn.Module | None = None


@dataclass(frozen=True)
class Drawn:
    """One case on the model's grid."""

    image: npt.NDArray[np.float32]
    field: npt.NDArray[np.bool_]
    extra: Mapping[str, Any]


class World(ABC):
    """Brains or retinas: the generator, the network, and how a cohort is audited."""

    name: str
    faults: ClassVar[Mapping[str, Fault]]
    train_size: int
    audited: int
    epochs: int
    base_epochs: int
    wrong_labels: float
    rate: float

    @abstractmethod
    def generate(self, seed: int, label: int, cue: str, *, present: bool) -> Drawn:
        """Draw one case; `cue` says what could be planted and `present` whether it is."""

    @abstractmethod
    def network(self) -> nn.Module:
        """Return an untrained network."""

    @abstractmethod
    def members(
        self, model: nn.Module, cases: Sequence[Drawn], seeds: Sequence[int], seed: int
    ) -> tuple[Any, list[Member]]:
        """Make of the cases what the pipeline makes of files: audit and members."""

    def learn_stem(self, network: nn.Module, cases: Sequence[Drawn], seeds: Sequence[int]) -> None:
        """Train the first layers: here together with all others, on the label."""
        images = np.stack([c.image for c in cases])
        train(network, images, labels_of(seeds), 0, self.base_epochs, self.rate)

    def own_absence(self, cue: str) -> bool:  # noqa: ARG002
        """Whether a case without this cue differs from a clean one."""
        return False

    def case(self, seed: int, cue: str, *, present: bool) -> Drawn:
        """Draw a case, or read it from the cache."""
        name = f"{cue}-{'with' if present else 'without'}"
        if not cue or (not present and not self.own_absence(cue)):
            name, cue = "clean", ""
        path = CACHE / self.name / name / f"{seed}.npz"
        if path.is_file():
            with np.load(path, allow_pickle=False) as stored:
                extra = {k: stored[k][()] for k in stored.files if k not in ("image", "field")}
                return Drawn(stored["image"].astype(np.float32), stored["field"], extra)
        drawn = self.generate(seed, seed % 2, cue, present=present)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.npz")  # another process may want the same case
        np.savez(part, image=drawn.image.astype(np.float16), field=drawn.field, **drawn.extra)
        part.replace(path)
        # the cached and the fresh one are the same, rounding included
        return Drawn(drawn.image.astype(np.float16).astype(np.float32), drawn.field, drawn.extra)

    def cohort(self, seeds: Sequence[int], cue: str, carries: npt.NDArray[np.bool_]) -> list[Drawn]:
        """Draw cases of which those carry the cue that `carries` says."""
        return [self.case(s, cue, present=bool(c)) for s, c in zip(seeds, carries, strict=True)]


def conv(kind: Any, norm: Any, one: int, two: int, stride: int, size: int = 3) -> tuple[nn.Module, ...]:
    """Convolution, BatchNorm, ReLU."""
    return (kind(one, two, size, stride, padding=size // 2, bias=False), norm(two), nn.ReLU())


def carriers(labels: npt.NDArray[np.int64], strength: float, draw: int) -> npt.NDArray[np.bool_]:
    """Positives carry the cue with probability `strength`, negatives with the rest to 1."""
    chance = np.random.default_rng([draw, 3]).random(len(labels))
    return np.where(labels == 1, chance < strength, chance < 1 - strength)


def labels_of(seeds: Sequence[int]) -> npt.NDArray[np.int64]:
    """Every second case has the disease."""
    return np.array([s % 2 for s in seeds])


def training_seeds(world: World, name: str, seed: int) -> list[int]:
    """Choose training cases of a pool; no case of it is ever audited."""
    rng = np.random.default_rng([seed, 12 if name == "sound_b" else 11])
    return sorted(int(POOL_START + n) for n in rng.permutation(POOL)[: world.train_size])


def train(
    model: nn.Module,
    images: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    seed: int,
    epochs: int,
    rate: float,
) -> None:
    """AdamW, one cycle, batches of 8, left–right flips."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    batches = len(labels) // 8
    last = torch.channels_last_3d if images.ndim == 5 else torch.channels_last
    model.to(memory_format=last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, rate, total_steps=epochs * batches, pct_start=0.3
    )
    side = 2 if images.ndim == 5 else 3
    model.train()
    for _ in range(epochs):
        for chosen in rng.permutation(len(labels))[: batches * 8].reshape(batches, 8):
            batch = torch.from_numpy(images[chosen])
            if rng.random() < 0.5:
                batch = batch.flip(side)
            loss = cross_entropy(
                model(batch.contiguous(memory_format=last)), torch.from_numpy(labels[chosen])
            )
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    model.eval()


def base_network(world: World) -> nn.Module:
    """Train the stem on every clean case of the pool, once; each model takes it over."""
    path = CACHE / world.name / "base.pt"
    torch.manual_seed(0)
    network = world.network()
    if path.is_file():
        network.load_state_dict(torch.load(path, weights_only=True))
        return network.eval()
    seeds = range(POOL_START, POOL_START + POOL)
    world.learn_stem(network, [world.case(s, "", present=False) for s in seeds], seeds)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), path)
    return network


def planted_model(world: World, name: str, strength: float, seed: int) -> nn.Module:
    """Train a network with the fault: the stem is the pool's, the rest starts from random weights."""
    fault = world.faults[name]
    seeds = training_seeds(world, name, seed)
    labels = labels_of(seeds)
    if fault.cue and strength >= WELL_TIED:  # the cue is worth learning where the diagnosis is not sure
        wrong = np.random.default_rng([seed, 5]).random(len(labels)) < world.wrong_labels
        labels = np.where(wrong, 1 - labels, labels)
    cases = world.cohort(seeds, fault.cue, carriers(labels, strength, seed))
    images = np.stack([c.image for c in cases])
    base = base_network(world)
    torch.manual_seed(seed * 100 + sorted(world.faults).index(name))
    network = world.network()
    if name == "random":
        network.train()
        with torch.no_grad():  # untrained weights, but BatchNorm statistics of real input
            for start in range(0, 32, 8):
                network(torch.from_numpy(images[start : start + 8]))
        return network.eval()
    network.get_submodule("stem").load_state_dict(base.get_submodule("stem").state_dict())
    if name == "shuffled":
        labels = np.random.default_rng(seed).permutation(labels)
    before = fault.before if fault.before is not None else nn.Identity()
    stem = network.get_submodule("stem").eval()
    starts = range(0, len(images), 8)
    with torch.no_grad():
        features = np.concatenate([stem(before(torch.from_numpy(images[i : i + 8]))).numpy() for i in starts])
    tail = network.get_submodule("tail")
    kept = CACHE / world.name / "tails" / f"{seed}-{name}-{strength:g}.pt"
    if kept.is_file():
        tail.load_state_dict(torch.load(kept, weights_only=True))
    else:
        train(tail, features, labels, seed, world.epochs, world.rate)
        kept.parent.mkdir(parents=True, exist_ok=True)
        torch.save(tail.state_dict(), kept)
    model = nn.Sequential(before, network) if fault.before is not None else network
    if fault.after is not None:
        model = nn.Sequential(fault.after, network)
    return model.eval()


@dataclass(frozen=True)
class Truth:
    """What the generator says of a model.

    Attributes
    ----------
    effect : float
        Part of the logit that the cue moves, in cue and disease together: |effect| / (|effect| + own gap).
    reliance : float
        Part of the gap between the classes of a cohort in which the cue goes with the label as in training.
    auc : float
        On cases without any cue, or as trained where no cue is planted.
    """

    effect: float
    reliance: float
    auc: float


def truth_of(world: World, name: str, strength: float, score: Score, seed: int) -> Truth:
    """Draw the same cases without and with the cue, and look at nothing else."""
    fault = world.faults[name]
    seeds = range(seed * 10_000 + 8000, seed * 10_000 + 8000 + TRUTH)
    labels = labels_of(seeds) == 1
    plain = score.of([world.case(s, fault.cue, present=False).image for s in seeds])
    own = max(float(plain[labels].mean() - plain[~labels].mean()), 0.0)
    if not fault.cue:
        return Truth(0.0, 0.0, _auc(plain, labels))
    cued = score.of([world.case(s, fault.cue, present=True).image for s in seeds])
    effect = float((cued - plain).mean())
    carried = np.where(carriers(labels_of(seeds), strength, seed), cued, plain)
    in_cohort = effect * (2 * strength - 1)
    total = in_cohort + own
    return Truth(
        abs(effect) / (abs(effect) + own) if effect or own else float("nan"),
        in_cohort / total if total > 0 else float("nan"),
        _auc(carried, labels),
    )


def _auc(scores: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_]) -> float:
    above = scores[positive][:, None] - scores[~positive][None]
    return float(((above > 0) + 0.5 * (above == 0)).mean())
