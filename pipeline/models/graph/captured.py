"""Capture what a model computes, and compute it: any value of it, from any point on."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, reduce
from typing import Any

import torch
from torch import nn

from pipeline.models.graph.folding import fold_batch_norm
from pipeline.models.graph.landmarks import Landmarks
from pipeline.models.graph.normalise import Structure, normalise
from pipeline.models.graph.operation import Operation
from pipeline.models.graph.tracing import FEW, MORE, trace

_structures: weakref.WeakKeyDictionary[nn.Module, dict[Any, Structure]] = weakref.WeakKeyDictionary()
_KEPT_A_MODEL = 8


def capture(model: nn.Module, example: torch.Tensor) -> CapturedGraph:
    """Capture what `model` computes in evaluation mode for images like `example`.

    The structure is cached per model (by weak reference, and by what its modules look like), image shape,
    type and device, so a second call costs next to nothing. Weights are no part of it: they are read from
    the model at every run. The batch size is free. The model is left exactly as it was.

    Parameters
    ----------
    model : torch.nn.Module
        Eager or TorchScript (traced, scripted or frozen) module that maps images to logits or probabilities.
    example : torch.Tensor, shape (N, C, *spatial)
        Only its shape, type and device are used.

    Raises
    ------
    pipeline.errors.ModelError
        If the model cannot be captured: it does not accept such images, its computation depends on values
        of the image, it mixes the images of a batch or does not return (images, classes).
    """
    key = (tuple(example.shape[1:]), example.dtype, example.device, _look(model))
    known = _structures.setdefault(model, {})
    if key not in known:
        structure = normalise(model, trace(model, example, FEW), trace(model, example, MORE))
        while len(known) >= _KEPT_A_MODEL:
            known.pop(next(iter(known)))
        known[key] = structure
    return CapturedGraph(known[key], model)


class CapturedGraph:
    """What a model computes, bound to that model's weights.

    Attributes
    ----------
    source, output : str
        Names of the images and of the logits (a final softmax or sigmoid is stripped).
    final : {"softmax", "log_softmax", "sigmoid", None}
        What was stripped.
    operations : tuple of Operation
        In the order of computation.
    spatial : tuple of int
        Spatial shape of the images.
    """

    def __init__(self, structure: Structure, model: nn.Module) -> None:
        self.structure = structure
        self.model = model
        self.source = structure.source
        self.output = structure.output
        self.final = structure.final
        self.operations = structure.operations
        self.spatial = structure.spatial

    @property
    def makers(self) -> Mapping[str, Operation]:
        """Value name → the operation whose (first) result it is."""
        return self.structure.makers

    @property
    def readers(self) -> Mapping[str, tuple[Operation, ...]]:
        """Value name → the operations that read it, in order."""
        return self.structure.readers

    @property
    def dynamic(self) -> frozenset[str]:
        """Names of the values that depend on the image, the image included."""
        return self.structure.dynamic

    @property
    def landmarks(self) -> Landmarks:
        """Last spatial activation, pooling and classifier."""
        return self.structure.landmarks

    @cached_property
    def classes(self) -> int:
        """Number of logits as the model gives them (1 for a single-logit model)."""
        return int(self.makers[self.output].shape_for(1)[1])

    def weights(self) -> dict[str, torch.Tensor]:
        """Parameters, buffers and constants by value name, read now, without gradients."""
        values = dict(self.structure.constants)
        owners: dict[str, Any] = {}
        for value, path in self.structure.parameters.items():
            owner, _, leaf = path.rpartition(".")
            if owner not in owners:
                owners[owner] = reduce(getattr, owner.split("."), self.model) if owner else self.model
            values[value] = getattr(owners[owner], leaf).detach()
        return values

    def static(self, images: int) -> dict[str, torch.Tensor]:
        """Every value that does not depend on the image: weights and what is computed from them alone."""
        values = self.weights()
        with torch.no_grad():
            for op in self.operations:
                if not op.dynamic:
                    store(values, op, op.compute(values, images))
        return values

    def run(
        self,
        given: torch.Tensor | Mapping[str, torch.Tensor],
        keep: Iterable[str] = (),
        *,
        stop: bool = False,
        fold: bool = False,
        instead: Mapping[str, Compute] | None = None,
    ) -> dict[str, torch.Tensor]:
        """Compute logits and any other value; differentiable with respect to what is given.

        Parameters
        ----------
        given : tensor of shape (N, C, *spatial), or mapping of value name to tensor
            The images; or values to start from (an activation): what they replace is not computed.
        keep : iterable of str
            Names of further values to return. Everything else is freed after its last use.
        stop : bool
            Compute only what `keep` needs, not the logits.
        fold : bool
            Fold BatchNorm first: fewer operations, equal up to rounding.
        instead : mapping of kind to function, optional
            Computes operations of that kind in another way (a rectifier with another gradient).

        Returns
        -------
        dict
            Value name → tensor, with `graph.output` (the logits, shape (N, classes)) unless `stop`.
        """
        start = {self.source: given} if isinstance(given, torch.Tensor) else dict(given)
        wanted = set(keep) if stop else {self.output, *keep}
        images = next(iter(start.values())).shape[0]
        operations, values = self.operations, {}
        if fold:
            folded = fold_batch_norm(self, images, {*wanted, *start})
            operations, values = folded.operations, folded.values
        else:
            values = self.static(images)
        values = {**values, **start}
        execute(needed_for(operations, start, wanted), values, images, wanted, instead)
        return {name: values[name] for name in wanted}

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of `images`, shape (N, classes), without gradients."""
        with torch.inference_mode():
            return self.run(images)[self.output]


Compute = Callable[[Operation, Mapping[str, torch.Tensor], int], Any]
"""`compute(operation, values, images)` → its result(s), like `Operation.compute`."""


def needed_for(
    operations: Iterable[Operation], start: Iterable[str], wanted: Iterable[str]
) -> list[Operation]:
    """Operations, in order, that are needed to compute `wanted` when `start` is given."""
    given = set(start)
    needed = {name.partition(":")[0] for name in set(wanted) - given}
    todo = []
    for op in reversed(tuple(operations)):
        if op.dynamic and op.name in needed and op.name not in given:
            todo.append(op)
            needed.update(n.partition(":")[0] for n in op.inputs)
    return todo[::-1]


def execute(
    operations: Sequence[Operation],
    values: dict[str, torch.Tensor],
    images: int,
    wanted: set[str],
    instead: Mapping[str, Compute] | None = None,
) -> None:
    """Compute operations in order into `values`; results not `wanted` are dropped after their last use."""
    last = {name: i for i, op in enumerate(operations) for name in op.inputs}
    made = {op.name for op in operations}
    for i, op in enumerate(operations):
        compute = (instead or {}).get(op.kind)
        store(values, op, compute(op, values, images) if compute else op.compute(values, images))
        for name in {*op.inputs, *(f"{op.name}:{k}" for k in range(1, op.outputs)), op.name}:
            if last.get(name, -1) <= i and name.partition(":")[0] in made and name not in wanted:
                values.pop(name, None)


def store(values: dict[str, torch.Tensor], op: Operation, result: Any) -> None:
    """Put an operation's result(s) under their names."""
    if isinstance(result, torch.Tensor):
        values[op.name] = result
        return
    for k, part in enumerate(result):
        values[op.name if k == 0 else f"{op.name}:{k}"] = part


def _look(model: nn.Module) -> int:
    """Hash of what decides the structure: modules, their settings and hooks, names and shapes of weights."""
    parts: list[object] = []
    for module in model.modules():
        parts.append(type(module))
        for name, value in vars(module).items():
            if name in _NO_STRUCTURE:
                continue
            if name in _TENSORS:
                parts += [(k, None if v is None else v.shape) for k, v in value.items()]
            elif name in _HOOKS:
                parts += value
            elif name == "_modules":
                parts += [(k, id(v)) for k, v in value.items()]
            elif isinstance(value, tuple):
                parts += (name, str(value))
            elif isinstance(value, _PLAIN):
                parts += (name, value)
            elif isinstance(value, torch.Tensor):
                parts += (name, id(value))
    return hash(tuple(parts))


_PLAIN = (int, float, str, bool, type(None))
_TENSORS = frozenset({"_parameters", "_buffers"})
_HOOKS = frozenset({"_forward_hooks", "_forward_pre_hooks"})
_NO_STRUCTURE = frozenset({"training"}) | (frozenset(vars(nn.Module())) - _TENSORS - _HOOKS - {"_modules"})
"""What every module has and what says nothing of its computation."""
