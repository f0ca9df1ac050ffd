"""Where in the graph the last spatial activation, the pooling and the classifier are."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from pipeline.models.graph.kinds import MOVEMENT, POOLING
from pipeline.models.graph.operation import Batch, Operation

if TYPE_CHECKING:
    from pipeline.models.graph.normalise import Structure


@dataclass(frozen=True)
class Landmarks:
    """Names of operations that the activation-based methods need.

    Attributes
    ----------
    activation : str or None
        The last spatial activation before the image's arrangement is lost, shape (N, K, *grid).
    grid : tuple of int
        Its spatial shape.
    pooling : str or None
        Global average pooling that reads `activation` and nothing else, if there is one.
    classifier : str or None
        The one linear layer between `pooling` and the logits, if there is nothing else between.
    first_linear : str or None
        The first linear layer after `activation`.
    """

    activation: str | None
    grid: tuple[int, ...]
    pooling: str | None
    classifier: str | None
    first_linear: str | None


def find_landmarks(structure: Structure) -> Landmarks:
    """Find the landmarks by walking back from the logits."""
    makers = {op.name: op for op in structure.operations}
    dims = len(structure.spatial)
    activation = _last_spatial(structure, makers, dims)
    if activation is None:
        return Landmarks(None, (), None, None, None)
    after = _after(structure, activation.name)
    linears = [op for op in after if op.kind == "linear" or _is_pointwise(op, makers)]
    pooling = next((op for op in after if _is_global_average(op, activation, dims)), None)
    if pooling is not None and sum(activation.name in op.inputs for op in after) != 1:
        pooling = None
    plain = (
        all(op.kind in MOVEMENT or op is pooling or op is linears[-1] for op in after) if linears else False
    )
    return Landmarks(
        activation=activation.name,
        grid=_grid(activation),
        pooling=pooling.name if pooling else None,
        classifier=linears[-1].name if pooling and plain and len(linears) == 1 else None,
        first_linear=linears[0].name if linears else None,
    )


def _last_spatial(structure: Structure, makers: dict[str, Operation], dims: int) -> Operation | None:
    """Find what global average pooling reads; else the last activation, before any other pooling."""
    single: Operation | None = None  # a map of 1×1, unless it turns out to be a pooled one
    for op in reversed(structure.operations):
        if not op.dynamic:
            continue
        if op.kind in POOLING:
            source = next((makers[n] for n in op.inputs if n in makers), None)
            if source is not None and len(source.shape) == dims + 2 and _is_global_average(op, source, dims):
                return source
        elif op.kind not in MOVEMENT and len(op.shape) == dims + 2 and op.shape[0] == Batch(1):
            if prod(_grid(op)) > 1:
                return op if single is None or _was_pooled(single, makers) else single
            single = single or op
    return single


def _was_pooled(op: Operation, makers: dict[str, Operation]) -> bool:
    """Whether a 1×1 value became 1×1 by pooling (not by a convolution)."""
    while prod(_grid(op)) == 1:
        sources = [makers[n] for n in op.inputs if n in makers and makers[n].dynamic]
        if len(sources) != 1 or len(sources[0].shape) != len(op.shape):
            return False
        if prod(_grid(sources[0])) > 1:
            return op.kind in POOLING
        op = sources[0]
    return False


def _after(structure: Structure, start: str) -> list[Operation]:
    """Operations that depend on `start`, in order."""
    reached, after = {start}, []
    for op in structure.operations:
        if any(n.partition(":")[0] in reached for n in op.inputs):
            reached.add(op.name)
            after.append(op)
    return after


def _grid(op: Operation) -> tuple[int, ...]:
    return tuple(d for d in op.shape[2:] if isinstance(d, int))


def _is_pointwise(op: Operation, makers: dict[str, Operation]) -> bool:
    """Tell a 1×1 convolution on a 1×1 map, which is a linear layer."""
    return op.kind == "convolution" and prod(_grid(op)) == 1 and op.source("weight") not in makers


def _is_global_average(op: Operation, activation: Operation, dims: int) -> bool:
    if activation.name not in op.inputs:
        return False
    grid = _grid(activation)
    if op.kind == "mean":
        wanted = op.arguments.get("dim")
        return isinstance(wanted, list) and {d % (dims + 2) for d in wanted} == set(range(2, dims + 2))
    if op.kind == "adaptive_avg_pool":
        return prod(_grid(op)) == 1
    if op.kind == "avg_pool":
        return list(op.arguments["kernel_size"]) == list(grid) and not any(op.arguments.get("padding") or [])
    return False
