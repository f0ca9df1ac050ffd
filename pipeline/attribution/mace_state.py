"""What training MACE leaves behind: weights, what they were trained on, and how faithful they are."""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pipeline.attribution.mace_network import ConceptNetwork
from pipeline.errors import MethodError
from pipeline.files import whole_file

if TYPE_CHECKING:
    from pipeline.models.graph import CapturedGraph

FAITHFUL = 0.9
"""Least agreement with the model on held-out images at which concepts may be shown."""
_FORMAT = "relevance-audit mace 1"


@dataclass(frozen=True)
class Fidelity:
    """How often the model decides the same when its activation is replaced by that made of concepts.

    Attributes
    ----------
    agreement : float
        Share of images with the same decision.
    low, high : float
        Its 95 % interval (Wilson).
    images : int
    majority : float
        Share of the model's most frequent decision: what a constant answer would reach.
    """

    agreement: float
    low: float
    high: float
    images: int
    majority: float

    @property
    def faithful(self) -> bool:
        """Whether concepts may be shown: agreement of at least `FAITHFUL`, above a constant answer's."""
        return self.agreement >= FAITHFUL and (self.agreement > self.majority or self.agreement == 1)


@dataclass(frozen=True, eq=False)
class MaceState:
    """A trained concept network, bound to one model and image shape.

    Attributes
    ----------
    weights : mapping of str to tensor
    channels, grid, classes, concepts, width
        Of the `ConceptNetwork`. A single-logit model has two classes.
    spatial : tuple of int
        Spatial shape of the images.
    stage : int
        Which activation it reads (see `spatial_layer`).
    exclusive : bool
        Whether the model decides for one class (the largest logit) or on each alone (logit above 0).
    model : str
        SHA-256 of the weights of the model it explains.
    seed, epochs, images : int
        Of the training.
    fidelity : Fidelity or None
        On the held-out part of the cohort.
    """

    weights: dict[str, torch.Tensor] = field(repr=False)
    channels: int
    grid: tuple[int, ...]
    classes: int
    concepts: int
    width: int
    spatial: tuple[int, ...]
    stage: int
    exclusive: bool
    model: str
    seed: int
    epochs: int
    images: int
    fidelity: Fidelity | None = None

    @property
    def faithful(self) -> bool:
        """Whether its concepts may be shown: faithful on held-out images."""
        return self.fidelity is not None and self.fidelity.faithful

    @cached_property
    def network(self) -> ConceptNetwork:
        """The concept network with these weights."""
        network = ConceptNetwork(self.channels, self.grid, self.classes, self.concepts, self.width)
        network.load_state_dict(self.weights)
        return network.eval().requires_grad_(False)  # noqa: FBT003

    def network_like(self, value: torch.Tensor) -> ConceptNetwork:
        """Give the concept network in the type and on the device of a value."""
        own = next(self.network.parameters())
        if (own.dtype, own.device) == (value.dtype, value.device):
            return self.network
        return copy.deepcopy(self.network).to(value)

    def save(self, path: str | Path) -> Path:
        """Write a safetensors file whose metadata are JSON; whole or not at all."""
        from safetensors.torch import save_file

        about = {k: v for k, v in asdict_flat(self).items() if k != "weights"}
        path = Path(path)
        with whole_file(path) as part:
            save_file(self.weights, part, metadata={"format": _FORMAT, "mace": json.dumps(about)})
        return path

    def check(self, graph: CapturedGraph) -> None:
        """Refuse a model other than the one this state was trained for.

        Raises
        ------
        pipeline.errors.MethodError
        """
        if graph.spatial != self.spatial:
            raise MethodError(
                f"this MACE state is for images of {self.spatial}, not {graph.spatial}",
                "fit_mace on such images",
            )
        if weights_hash(graph) != self.model:
            raise MethodError(
                "this MACE state was trained for other model weights", "run fit_mace for this model"
            )


def asdict_flat(state: MaceState) -> dict[str, Any]:
    """Fields of a state as JSON values (the weights stay tensors)."""
    fields = {name: getattr(state, name) for name in state.__dataclass_fields__}
    return {**fields, "fidelity": asdict(state.fidelity) if state.fidelity else None}


def load_mace(path: str | Path) -> MaceState:
    """Read what `MaceState.save` wrote; nothing in the file is run.

    Raises
    ------
    pipeline.errors.MethodError
        If it is no such file, or its parts do not fit each other.
    """
    from safetensors import SafetensorError, safe_open

    problem = MethodError(f"{path} is not a MACE state", "write it with fit_mace(...).save(path)")
    try:
        with safe_open(str(path), framework="pt") as stream:
            metadata = stream.metadata() or {}
            weights = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        if metadata.get("format") != _FORMAT:
            raise problem
        about = json.loads(metadata["mace"])
        fidelity = about.pop("fidelity")
        for name in ("grid", "spatial"):
            about[name] = tuple(int(v) for v in about[name])
        state = MaceState(weights=weights, fidelity=Fidelity(**fidelity) if fidelity else None, **about)
        _ = state.network
    except FileNotFoundError:
        raise MethodError(f"{path} does not exist", "fit_mace(...).save(path) first") from None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise problem from error
    return state


def weights_hash(graph: CapturedGraph) -> str:
    """SHA-256 of all the weights a captured model reads, as float32 and whatever their names."""
    parts = []
    for value in graph.weights().values():
        content = value.detach().cpu().float().contiguous().numpy().tobytes()
        parts.append(hashlib.sha256(f"{tuple(value.shape)}".encode() + content).digest())
    return hashlib.sha256(b"".join(sorted(parts))).hexdigest()
