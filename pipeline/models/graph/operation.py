"""One operation of a captured graph: what it computes, from what, and where it stands in the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class Ref:
    """A value of the graph, by name: the image, an activation, a parameter, a buffer or a constant."""

    name: str


@dataclass(frozen=True, slots=True)
class Batch:
    """An integer that grows with the batch: `factor` times the number of images."""

    factor: int


@dataclass(frozen=True)
class Operation:
    """One step of the computation.

    Attributes
    ----------
    name : str
        Name of its (first) result.
    kind : str
        What it is, in the vocabulary of `pipeline.models.graph.kinds`: `"convolution"`, `"linear"`,
        `"batch_norm"`, `"relu"`, `"add"` … Operations unknown there carry their ATen name.
    target : callable
        Computes it: `target(*arguments.values())`, those in `keyword_only` by name.
    arguments : mapping
        Argument name → `Ref`, number, `Batch`, list of them or None; in the order of the call and with
        defaults filled in. `convolution`: input, weight, bias, stride, padding, dilation, transposed,
        output_padding, groups. `linear`: input, weight (out × in), bias. `batch_norm`: input, weight, bias,
        running_mean, running_var, eps. `max_pool`: self, kernel_size, stride, padding, dilation, ceil_mode.
        Others: as in the ATen schema.
    shape : tuple of int or Batch
        Shape of the first result.
    dynamic : bool
        True where the result depends on the image.
    outputs : int
        Number of results; the second is called `name + ":1"` (max-pool: the indices).
    place : str
        Where it stands: module path and source line as far as known.
    """

    name: str
    kind: str
    target: Callable[..., Any]
    arguments: Mapping[str, Any]
    shape: tuple[int | Batch, ...]
    dynamic: bool
    outputs: int = 1
    place: str = ""
    keyword_only: frozenset[str] = field(default_factory=frozenset)

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Names of the values read, in order, repeated where one is read twice."""
        return tuple(ref.name for ref in refs(self.arguments))

    def source(self, argument: str) -> str | None:
        """Name of the value given as `argument`, or None where it is a plain number or absent."""
        value = self.arguments.get(argument)
        return value.name if isinstance(value, Ref) else None

    def shape_for(self, images: int) -> tuple[int, ...]:
        """Shape of the first result for a batch of `images`."""
        return tuple(d.factor * images if isinstance(d, Batch) else d for d in self.shape)

    def compute(self, values: Mapping[str, torch.Tensor], images: int) -> Any:
        """Compute the result from the values it reads."""
        positional: list[Any] = []
        by_name: dict[str, Any] = {}
        for key, argument in self.arguments.items():
            value = resolve(argument, values, images)
            if key in self.keyword_only:
                by_name[key] = value
            else:
                positional.append(value)
        return self.target(*positional, **by_name)

    def __str__(self) -> str:
        return f"{self.kind} ({self.place})" if self.place else self.kind


def refs(argument: Any) -> Iterator[Ref]:
    """Yield every value referred to inside a (nested) argument."""
    if isinstance(argument, Ref):
        yield argument
    elif isinstance(argument, Mapping):
        for value in argument.values():
            yield from refs(value)
    elif isinstance(argument, list | tuple):
        for value in argument:
            yield from refs(value)


def resolve(argument: Any, values: Mapping[str, torch.Tensor], images: int) -> Any:
    """Replace every `Ref` by its value and every `Batch` by its number."""
    if isinstance(argument, Ref):
        return values[argument.name]
    if isinstance(argument, Batch):
        return argument.factor * images
    if isinstance(argument, list):
        return [resolve(a, values, images) for a in argument]
    return argument
