"""Where MACE stands in a model: the activation it reads, the one it reproduces, the frozen rest behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from pipeline.attribution.cam_layers import Layer, only_way, spatial_layer
from pipeline.attribution.question import scores
from pipeline.errors import MethodError
from pipeline.models.graph.kinds import ACTIVATIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import nn

    from pipeline.models.graph import CapturedGraph
    from pipeline.models.graph.operation import Operation

_AT_ONCE = 8


@dataclass(frozen=True, eq=False)
class Bridge:
    """Two values of a captured graph, and what is computed between and behind them.

    Attributes
    ----------
    graph : CapturedGraph
    layer : Layer
        The spatial activation that is read.
    target : str
        The value that is reproduced: the activation behind the first linear layer where others follow, else
        what enters the only one; the logits where there is none, or where something passes it by.
    exclusive : bool
        Whether the model decides for one class, or on each alone.
    """

    graph: CapturedGraph
    layer: Layer
    target: str
    exclusive: bool

    @property
    def classes(self) -> int:
        """Classes of the model; a single logit has two."""
        return max(self.graph.classes, 2)

    def look(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Activation (n, K, *grid), vector to reproduce (n, width) and class scores (n, classes)."""
        with torch.inference_mode(mode=False), torch.no_grad():
            found = self.graph.run(images, keep=[self.layer.name, self.target])
            logits = found[self.graph.output]
            return found[self.layer.name], found[self.target].flatten(1), self.class_scores(logits)

    def rest(self, vector: torch.Tensor) -> torch.Tensor:
        """Class scores (n, classes) of the frozen rest, from the vector (n, width); differentiable."""
        own = next((v for v in self.graph.weights().values() if v.is_floating_point()), vector)
        shape = (len(vector), *self.graph.makers[self.target].shape_for(1)[1:])
        given = {self.target: vector.to(own.dtype).reshape(shape)}
        return self.class_scores(self.graph.run(given)[self.graph.output])

    def decisions(self, class_scores: torch.Tensor) -> torch.Tensor:
        """Decide as the model does, bool (n, classes): the largest score, or each above 0."""
        if not self.exclusive:
            return class_scores > 0
        return torch.nn.functional.one_hot(class_scores.argmax(1), class_scores.shape[1]).bool()

    def class_scores(self, logits: torch.Tensor) -> torch.Tensor:
        """Scores of all classes from the model's logits."""
        return scores(logits, "logit", self.graph.final)


def find_bridge(graph: CapturedGraph, stage: int = 0, *, exclusive: bool | None = None) -> Bridge:
    """Find where MACE goes; `exclusive` is by default False only for several sigmoid outputs."""
    if exclusive is None or graph.classes == 1:
        exclusive = graph.final != "sigmoid" or graph.classes == 1
    return Bridge(graph, spatial_layer(graph, stage), _target(graph), exclusive)


def _target(graph: CapturedGraph) -> str:
    first = graph.landmarks.first_linear
    if first is None:
        return graph.output
    after = _after(graph, first)
    if any(op.kind in {"linear", "convolution"} for op in after):
        name = _activated(graph, first)
    else:
        name = next(n for n in graph.makers[first].inputs if n in graph.dynamic)
    return name if name in graph.makers and only_way(graph, name) else graph.output


def _activated(graph: CapturedGraph, name: str) -> str:
    """Follow a value through the activation functions that alone read it."""
    while len(readers := graph.readers.get(name, ())) == 1 and readers[0].kind in ACTIVATIONS:
        name = readers[0].name
    return name


def _after(graph: CapturedGraph, start: str) -> list[Operation]:
    reached, after = {start}, []
    for op in graph.operations:
        if any(n.partition(":")[0] in reached for n in op.inputs):
            reached.add(op.name)
            after.append(op)
    return after


def batches(model: nn.Module, images: torch.Tensor | Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
    """Yield the images a few at a time, in the model's type and on its device."""
    own = next((p for p in (*model.parameters(), *model.buffers()) if p.is_floating_point()), None)
    for batch in torch.split(images, _AT_ONCE) if isinstance(images, torch.Tensor) else images:
        if not isinstance(batch, torch.Tensor) or not batch.is_floating_point() or batch.ndim not in {4, 5}:
            raise MethodError(
                "the cohort is not made of float tensors (N, C, *spatial)", "give a tensor or batches of them"
            )
        yield batch.detach() if own is None else batch.detach().to(device=own.device, dtype=own.dtype)
