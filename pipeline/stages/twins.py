"""Twins of one audit: made once, calibrated on its cohort, and the same when a run goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from pipeline.cohort import Case
from pipeline.errors import AuditError
from pipeline.images import read_photograph, read_volume
from pipeline.models.opening import OpenedModel
from pipeline.protocol import Method, Protocol
from pipeline.record.experts import TwinRow
from pipeline.record.kept import Kept, keep, take_up
from pipeline.record.schema import read_arrays, write_arrays

if TYPE_CHECKING:
    import torch
    from torch import nn

FAMILIES = ("backpropagation", "activation")
COSTLY = ("integrated_gradients", "smooth_grad")
"""Of these families, but dozens of passes a map: compared with twins only where the protocol names them."""
CALIBRATED_ON, BATCH = 16, 4


@dataclass(frozen=True)
class TwinSet:
    """Twins of one audit.

    Attributes
    ----------
    rows : tuple of TwinRow
        Also of the degenerate ones.
    modules : dict of str to torch.nn.Module
        Name → twin; only those that are compared with.
    """

    rows: tuple[TwinRow, ...]
    modules: dict[str, nn.Module]


class _Kept(Kept):
    rows: list[TwinRow] = Field(default_factory=list)


def twin_methods(protocol: Protocol) -> list[Method]:
    """Methods of a protocol that are compared with twins."""
    from pipeline.attribution import METHODS

    wanted = protocol.twins.methods
    if wanted is not None:
        return [m for m in protocol.methods if m.name in wanted]
    return [m for m in protocol.methods if METHODS[m.name].family in FAMILIES and m.name not in COSTLY]


def twins_of(model: OpenedModel, protocol: Protocol, cases: Sequence[Case], folder: Path) -> TwinSet:
    """Make the twins that a protocol asks for, or take up those of an earlier run into this folder.

    Parameters
    ----------
    model : OpenedModel
        The audited model: left as it is.
    protocol : Protocol
    cases : sequence of Case
        Random twins get the BatchNorm statistics of up to 16 of their images, drawn by the protocol's seed.
    folder : Path
        The audit directory: gets `twins.json` and `twins.npz`.

    Returns
    -------
    TwinSet
        What cannot be made is a row that says why.
    """
    names = _names(model, protocol)
    if not names:
        return TwinSet((), {})
    buffers = folder / "twins.npz"
    known = known_twins(model, protocol, folder)
    if known and buffers.is_file():
        return _take_up(model, protocol, known, read_arrays(buffers))
    batches = _batches(model, protocol, cases)
    rows: list[TwinRow] = []
    modules: dict[str, nn.Module] = {}
    statistics: dict[str, np.ndarray[Any, Any]] = {}
    for number, name in enumerate(names):
        row, twin = _make(model, name, _seed(protocol, number), batches)
        rows.append(row)
        if twin is None:
            continue
        if not row.degenerate:
            modules[name] = twin
        if name != "shuffled":
            statistics |= {f"{name}/{buffer}": value for buffer, value in _statistics(twin).items()}
    folder.mkdir(parents=True, exist_ok=True)
    write_arrays(buffers, statistics)
    keep(folder / "twins.json", _Kept(key=_key(model, protocol), rows=rows))
    return TwinSet(tuple(rows), modules)


def known_twins(model: OpenedModel, protocol: Protocol, folder: Path) -> list[TwinRow]:
    """Twins that an audit directory has of this model and protocol; empty if none."""
    kept = take_up(folder / "twins.json", _Kept, _key(model, protocol))
    return kept.rows if kept else []


def _names(model: OpenedModel, protocol: Protocol) -> list[str]:
    if not twin_methods(protocol):
        return []
    given = model.card is not None and "shuffled_labels" in model.card.twins
    shuffled = ["shuffled"] if protocol.twins.shuffled_labels and given else []
    return [f"twin-{n + 1}" for n in range(protocol.twins.random)] + shuffled


def _key(model: OpenedModel, protocol: Protocol) -> str:
    card = model.card.model_dump(mode="json") if model.card else None
    text = json.dumps([model.sha256, card, _names(model, protocol), protocol.seed], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _seed(protocol: Protocol, number: int) -> int:
    return int.from_bytes(hashlib.sha256(f"twin/{protocol.seed}/{number}".encode()).digest()[:4])


def _batches(model: OpenedModel, protocol: Protocol, cases: Sequence[Case]) -> list[torch.Tensor]:
    """Prepare images that can be read."""
    tensors: list[torch.Tensor] = []
    for index in np.random.default_rng(protocol.seed).permutation(len(cases)):
        try:
            path = cases[index].image
            image = read_volume(path) if protocol.modality == "mri" else read_photograph(path)
            tensors.append(model.prepare(image).tensor)
        except AuditError:
            continue  # it is listed where the case itself is audited
        if len(tensors) == CALIBRATED_ON:
            break
    return batched(tensors)


def batched(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Put images of one shape into batches of four, never one alone if avoidable."""
    import torch

    by_shape: dict[tuple[int, ...], list[torch.Tensor]] = {}
    for tensor in tensors:
        by_shape.setdefault(tuple(tensor.shape), []).append(tensor)
    batches = []
    for images in by_shape.values():
        parts = [images[i : i + BATCH] for i in range(0, len(images), BATCH)]
        if len(parts) > 1 and len(parts[-1]) == 1:
            parts[-2:] = [parts[-2] + parts[-1]]
        batches += [torch.cat(part) for part in parts]
    return batches


def _make(
    model: OpenedModel, name: str, seed: int, batches: Sequence[torch.Tensor]
) -> tuple[TwinRow, nn.Module | None]:
    """Make one twin and check it on the images."""
    from pipeline.attribution import logits
    from pipeline.comparison import check_twin, random_twin

    row = TwinRow(
        name=name,
        kind="shuffled labels" if name == "shuffled" else "random weights",
        images=sum(len(batch) for batch in batches),
    )
    try:
        twin = (
            model.twin("shuffled_labels")
            if name == "shuffled"
            else random_twin(model.module, batches, seed=seed)
        )
        answers = [
            np.concatenate([logits(m, b).double().numpy() for b in batches]) for m in (twin, model.module)
        ]
        check = check_twin(answers[0], model_logits=answers[1])
    except (AuditError, ValueError) as error:
        return row.model_copy(update={"degenerate": f"not made: {error}"}), None
    found = {"spread": check.spread, "relative_spread": check.relative_spread, "degenerate": check.degenerate}
    return row.model_copy(update=found), twin


def _statistics(twin: nn.Module) -> dict[str, np.ndarray[Any, Any]]:
    return {
        name: buffer.detach().cpu().numpy()
        for name, buffer in twin.named_buffers()
        if name.endswith(("running_mean", "running_var"))
    }


def _take_up(
    model: OpenedModel,
    protocol: Protocol,
    rows: Sequence[TwinRow],
    statistics: dict[str, np.ndarray[Any, Any]],
) -> TwinSet:
    """Draw the same weights again and give them the statistics of the first run."""
    import torch

    from pipeline.comparison import redrawn

    modules = {}
    for number, row in enumerate(rows):
        if row.degenerate:
            continue
        if row.name == "shuffled":
            modules[row.name] = model.twin("shuffled_labels")
            continue
        twin = redrawn(model.module, seed=_seed(protocol, number))
        with torch.no_grad():
            for name, buffer in twin.named_buffers():
                if f"{row.name}/{name}" in statistics:
                    buffer.copy_(torch.from_numpy(statistics[f"{row.name}/{name}"]))
        modules[row.name] = twin
    return TwinSet(tuple(rows), modules)
