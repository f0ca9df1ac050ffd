"""Which spatial activation a class activation map is taken from, and how it comes back to the image."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from pipeline.attribution.gradient import slopes
from pipeline.errors import MethodError
from pipeline.models.graph.kinds import MOVEMENT
from pipeline.models.graph.layout import fast_layout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.attribution.question import Question
    from pipeline.models.graph import CapturedGraph
    from pipeline.models.graph.operation import Operation


@dataclass(frozen=True)
class Layer:
    """One spatial activation of a captured graph.

    Attributes
    ----------
    name : str
        Its value in the graph, shape (N, K, *grid).
    grid : tuple of int
    stride : tuple of float
        Pixels of the image a cell of the grid stands for, one an axis.
    place : str
        Kind of operation and where it stands in the model.
    """

    name: str
    grid: tuple[int, ...]
    stride: tuple[float, ...]
    place: str

    def details(self) -> dict[str, object]:
        """Tell a reader of the map where it comes from."""
        return {
            "layer": self.place,
            "grid": self.grid,
            "stride": self.stride,
            "upsampling": f"{_mode(self.grid)}, align_corners=False",
        }


def spatial_layer(graph: CapturedGraph, stage: int = 0) -> Layer:
    """Find the last spatial activation, or the last one on a finer grid.

    Parameters
    ----------
    graph : CapturedGraph
    stage : int, default 0
        0 is the last activation; 1 the last one on the next finer grid, 2 on the one before that …  Finer
        ones are only taken where everything passes through them (not inside one branch of a block).

    Raises
    ------
    pipeline.errors.MethodError
        If there is none.
    """
    if isinstance(stage, bool) or not isinstance(stage, int) or stage < 0:
        raise MethodError(
            f"option stage={stage!r} is not known", "give 0 for the last grid, 1 for the next finer"
        )
    last = graph.landmarks.activation
    if last is None:
        raise MethodError("the model has no spatial activation", "use gradient, lrp or occlusion")
    op, grid = graph.makers[last], graph.landmarks.grid
    for _ in range(stage):
        finer = next((o for o in bottlenecks(graph, last) if _finer(_grid(o), grid)), None)
        if finer is None:
            raise MethodError(
                f"the model has no grid {stage} stages finer than its last activation", "use a smaller stage"
            )
        op, grid = finer, _grid(finer)
    stride = tuple(s / g for s, g in zip(graph.spatial, grid, strict=True))
    return Layer(op.name, grid, stride, str(op))


def bottlenecks(graph: CapturedGraph, before: str) -> Iterator[Operation]:
    """Spatial activations, last first, through which alone the image reaches the value `before`."""
    position = {op.name: i for i, op in enumerate(graph.operations)}
    frontier = {before}
    while frontier and frontier != {graph.source}:
        name = max(frontier, key=lambda n: position.get(n, -1))
        op = graph.makers[name]
        alone = len(frontier) == 1 and name != before
        if alone and op.kind not in MOVEMENT and op.outputs == 1 and len(op.shape) == len(graph.spatial) + 2:
            yield op
        frontier.remove(name)
        frontier |= {n.partition(":")[0] for n in op.inputs} & graph.dynamic


def only_way(graph: CapturedGraph, name: str) -> bool:
    """Tell whether the image reaches the logits through the value `name` alone."""
    needed = {graph.output} - {name}
    for op in reversed(graph.operations):
        if op.dynamic and op.name in needed and op.name != name:
            needed.update(n.partition(":")[0] for n in op.inputs)
    return graph.source not in needed


def activation_and_gradient(question: Question, layer: Layer) -> tuple[torch.Tensor, torch.Tensor]:
    """Activation A and slope ∂y_t/∂A, both (N, K, *grid); only what follows A is differentiated."""

    def below_and_above() -> tuple[torch.Tensor, list[torch.Tensor]]:
        with torch.inference_mode(mode=False):
            with torch.no_grad():
                images = fast_layout(question.images)
                below = question.graph.run(images, keep=[layer.name], stop=True, fold=True)[layer.name]
            return below, slopes_at(question, layer.name, below)

    activation, found = question.once(f"at {layer.name}", below_and_above)
    return activation, found[question.round]


def slopes_at(question: Question, name: str, value: torch.Tensor) -> list[torch.Tensor]:
    """Gradients of each image's explained score with respect to the value `name`, one tensor a round.

    The image goes along, for models in which something passes that value by.
    """
    with torch.inference_mode(mode=False), torch.enable_grad():
        point = value.detach().requires_grad_(True)  # noqa: FBT003
        given = {name: point, question.graph.source: question.images}
        logits = question.graph.run(given)[question.graph.output]
        question.passed(logits)
        return slopes(question, logits, point)


def refuse_single_cell(layer: Layer) -> None:
    """Refuse a map of 1×1: it could only say the same of every pixel.

    Raises
    ------
    pipeline.errors.MethodError
    """
    if prod(layer.grid) == 1:
        raise MethodError(
            f"the last spatial activation is a map of {'×'.join(map(str, layer.grid))}",
            "use stage=1 (a finer grid), lrp or occlusion, or give larger images",
        )


def upsample(coarse: torch.Tensor, spatial: tuple[int, ...]) -> torch.Tensor:
    """Bring a coarse map on the image's grid: bilinear or trilinear, `align_corners=False`."""
    if tuple(coarse.shape[2:]) == tuple(spatial):
        return coarse
    return functional.interpolate(coarse, size=tuple(spatial), mode=_mode(spatial), align_corners=False)


def _mode(spatial: tuple[int, ...]) -> str:
    return "bilinear" if len(spatial) == 2 else "trilinear"


def _grid(op: Operation) -> tuple[int, ...]:
    return tuple(d for d in op.shape[2:] if isinstance(d, int))


def _finer(grid: tuple[int, ...], than: tuple[int, ...]) -> bool:
    return prod(grid) > prod(than) and all(a >= b for a, b in zip(grid, than, strict=True))
