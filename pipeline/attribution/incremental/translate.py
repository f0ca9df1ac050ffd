"""From one captured operation to a step: which operations are local, and what they look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from pipeline.attribution.incremental.stages import AvgPool, Convolution, Cut, MaxPool, Stage, Transposed
from pipeline.attribution.incremental.steps import Averaged, Joined, Step, Touch, Windowed
from pipeline.attribution.incremental.windows import Ints, Spread, Window, ints, per_axis
from pipeline.models.graph.kinds import ACTIVATIONS
from pipeline.models.graph.operation import Batch, Operation

Static = Mapping[str, torch.Tensor]
ARITHMETIC = frozenset({"add", "subtract", "multiply", "divide"})
NUMBERWISE = ACTIVATIONS | ARITHMETIC | {"negate", "abs", "exp", "pow", "sqrt", "square"}


class Translator:
    """Translate operations of a graph; None where an operation is not local.

    Parameters
    ----------
    static : mapping
        Values that do not depend on the image, for a batch of one.
    shapes : mapping
        Shapes of the dynamic values for one image.
    """

    def __init__(self, static: Static, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.static = static
        self.shapes = shapes

    def __call__(self, op: Operation) -> Step | None:
        """Make the step of an operation."""
        shape = tuple(op.shape)
        if not shape or shape[0] != Batch(1) or any(isinstance(d, Batch) for d in shape[1:]):
            return None
        maker: Callable[[Operation], Step | None] | None = getattr(self, f"_{op.kind}", None)
        if maker is None and op.kind in NUMBERWISE:
            maker = self._numberwise
        return maker(op) if maker is not None else None

    # -- windows -------------------------------------------------------------------------------------------

    def _convolution(self, op: Operation) -> Step | None:
        weight, bias = self._fixed(op, "weight"), self._fixed(op, "bias")
        if weight is None or (bias is None and op.arguments["bias"] is not None):
            return None
        axes = len(op.shape) - 2
        stride, padding, dilation = (
            per_axis(op.arguments[k], axes) for k in ("stride", "padding", "dilation")
        )
        extent = dilation * (ints(weight.shape[2:]) - 1) + 1
        common: dict[str, Any] = {
            "weight": weight,
            "bias": bias,
            "stride": stride.tolist(),
            "padding": padding.tolist(),
            "dilation": dilation.tolist(),
            "groups": op.arguments["groups"],
            "effort": float(weight.numel()),
            "reads": self.shapes.get(op.inputs[0], (1, 0))[1],
        }
        limit = self._limit(op)
        if op.arguments["transposed"]:
            extra = per_axis(op.arguments["output_padding"], axes).tolist()
            window = Spread(extent, stride, padding)
            common["effort"] /= prod(stride.tolist())
            return self._windowed(op, "input", Transposed(window, limit, 0.0, output_padding=extra, **common))
        return self._windowed(op, "input", Convolution(Window(extent, stride, padding), limit, 0.0, **common))

    def _max_pool(self, op: Operation) -> Step | None:
        kernel, stride, padding = self._pooling(op)
        axes = len(kernel)
        dilation = per_axis(op.arguments.get("dilation", 1) or 1, axes)
        stage = MaxPool(
            Window(dilation * (kernel - 1) + 1, stride, padding),
            self._limit(op),
            float("-inf"),
            effort=float(prod(kernel.tolist())),
            kernel=kernel.tolist(),
            stride=stride.tolist(),
            padding=padding.tolist(),
            dilation=dilation.tolist(),
            ceil_mode=bool(op.arguments.get("ceil_mode")),
        )
        return self._windowed(op, "self", stage)

    def _avg_pool(self, op: Operation) -> Step | None:
        kernel, stride, padding = self._pooling(op)
        source = ints(self.shapes[op.inputs[0]][2:])
        limit = self._limit(op)
        if prod(limit.tolist()) == 1 and (kernel == source).all() and not padding.any():
            divisor = op.arguments.get("divisor_override") or prod(kernel.tolist())
            return Averaged(op.name, op.inputs, self._shape(op), op, int(divisor), fresh=False)
        counts: list[Ints] | None = None
        divisor = op.arguments.get("divisor_override")
        if divisor is None:
            counts = _counts(kernel, stride, padding, source, limit, bool(op.arguments["count_include_pad"]))
            if all((c == k).all() for c, k in zip(counts, kernel, strict=True)):
                counts = None
        stage = AvgPool(
            Window(kernel, stride, padding),
            limit,
            0.0,
            effort=float(prod(kernel.tolist())),
            kernel=kernel.tolist(),
            stride=stride.tolist(),
            original=self._alone(op),
            divisor=float(divisor or prod(kernel.tolist())),
            counts=counts,
        )
        return self._windowed(op, "self", stage)

    def _adaptive_avg_pool(self, op: Operation) -> Step | None:
        source, limit = ints(self.shapes[op.inputs[0]][2:]), self._limit(op)
        if prod(limit.tolist()) == 1:
            return Averaged(op.name, op.inputs, self._shape(op), op, prod(source.tolist()), fresh=False)
        if (source % limit).any():
            return None
        kernel = source // limit
        stage = AvgPool(
            Window(kernel, kernel, kernel * 0),
            limit,
            0.0,
            effort=float(prod(kernel.tolist())),
            kernel=kernel.tolist(),
            stride=kernel.tolist(),
            original=self._alone(op),
            divisor=float(prod(kernel.tolist())),
            counts=None,
        )
        return self._windowed(op, "self", stage)

    def _mean(self, op: Operation) -> Step | None:
        source = self.shapes.get(op.inputs[0], ())
        wanted = op.arguments.get("dim")
        whole = set(range(2, len(source)))
        if len(source) < 3 or not isinstance(wanted, list) or {d % len(source) for d in wanted} != whole:
            return None
        if op.arguments.get("dtype") is not None:
            return None
        count = prod(source[2:]) if op.kind == "mean" else 1
        return Averaged(op.name, op.inputs, self._shape(op), op, count, fresh=False)

    _sum = _mean

    def _pad(self, op: Operation) -> Step | None:
        axes = len(op.shape) - 2
        given = [int(p) for p in op.arguments["pad"]]
        pairs = [(given[k], given[k + 1]) for k in range(0, len(given), 2)]
        pairs = (pairs + [(0, 0)] * (axes + 2 - len(pairs)))[::-1]
        if any(pairs[0]):
            return None
        if not any(any(p) for p in pairs[2:]):
            return self._alike(op)
        if any(pairs[1]):
            return None
        before = ints([p[0] for p in pairs[2:]])
        return self._cut(op, before, (1,) * axes, float(op.arguments.get("value") or 0.0))

    def _slice(self, op: Operation) -> Step | None:
        if op.target is not torch.ops.aten.slice.Tensor:
            return None
        axes = len(op.shape) - 2
        dim, step = op.arguments["dim"] % (axes + 2), int(op.arguments["step"])
        if dim == 1:
            return self._alike(op)
        length = self.shapes[op.inputs[0]][dim]
        start = int(op.arguments.get("start") or 0)
        start = min(start + length if start < 0 else start, length)
        if dim == 0:
            return None
        before, steps = [0] * axes, [1] * axes
        before[dim - 2], steps[dim - 2] = -start, step
        return self._cut(op, ints(before), tuple(steps), 0.0)

    def _cut(self, op: Operation, before: Ints, steps: tuple[int, ...], border: float) -> Step | None:
        window = Window(np.ones_like(before), ints(steps), before)
        stage = Cut(window, self._limit(op), border, step=steps, original=self._alone(op))
        step = self._windowed(op, "self", stage)
        if step is not None:
            step.fresh = False
        return step

    # -- number by number ----------------------------------------------------------------------------------

    def _batch_norm(self, op: Operation) -> Step | None:
        given = [op.source(k) for k in ("running_mean", "running_var", "weight", "bias")]
        if any(name is not None and name not in self.static for name in given):
            return None
        shape = (1, -1, *[1] * (len(op.shape) - 2))
        kind = self.static[given[0]].dtype if given[0] is not None else torch.float32
        a, b = (part.to(kind).reshape(shape) for part in affine_of(op, self.static))
        source = op.source("input")
        assert source is not None
        step = Joined(op.name, (source,), self._shape(op), lambda parts: torch.addcmul(b, parts[0], a))
        step.as_touch = Touch(lambda x: x.mul_(a).add_(b))
        return step

    def _cat(self, op: Operation) -> Step | None:
        if op.arguments.get("dim", 0) % len(op.shape) != 1:
            return None
        return self._joined(op)

    def _numberwise(self, op: Operation) -> Step | None:
        step = self._joined(op)
        if step is not None and len(step.inputs) == 1 and op.kind in ACTIVATIONS | ARITHMETIC:
            step.as_touch = touch_of(op, self.static)
        return step

    def _alike(self, op: Operation) -> Step | None:
        """One input, and what is computed does not depend on the place."""
        alone = self._alone(op)
        return Joined(op.name, op.inputs[:1], self._shape(op), lambda parts: alone(parts[0]), fresh=False)

    def _joined(self, op: Operation) -> Joined | None:
        """All inputs are of the result's spatial shape, or fixed and the same everywhere."""
        shape = self._shape(op)
        names, fixed = [], {}
        for name in dict.fromkeys(op.inputs):
            if name in self.static:
                tensor = self.static[name]
                padded = (1,) * (len(shape) - tensor.ndim) + tuple(tensor.shape)
                if op.kind != "cat" and all(d == 1 for k, d in enumerate(padded) if k != 1):
                    fixed[name] = tensor
                    continue
                if tensor.ndim != len(shape) or tensor.shape[0] != 1 or tensor.shape[2:] != shape[2:]:
                    return None
            elif self.shapes.get(name, ())[2:] != shape[2:] or len(self.shapes[name]) != len(shape):
                return None
            names.append(name)
        if op.kind != "cat" and any(self._channels(n) != shape[1] for n in names):
            return None

        def join(parts: Sequence[torch.Tensor]) -> torch.Tensor:
            result: torch.Tensor = op.compute(
                {**fixed, **dict(zip(names, parts, strict=True))}, len(parts[0])
            )
            return result

        distinct = len(set(op.inputs)) == len(op.inputs)
        return Joined(op.name, tuple(names), shape, join, op.kind == "cat" and distinct) if names else None

    # -- helpers -------------------------------------------------------------------------------------------

    def _channels(self, name: str) -> int:
        return int(self.static[name].shape[1]) if name in self.static else self.shapes[name][1]

    def _windowed(self, op: Operation, argument: str, stage: Stage) -> Windowed | None:
        source = op.source(argument)
        if source is None or len(self.shapes.get(source, ())) != len(op.shape):
            return None
        return Windowed(op.name, (source,), self._shape(op), [stage])

    def _fixed(self, op: Operation, argument: str) -> torch.Tensor | None:
        name = op.source(argument)
        return self.static.get(name) if name is not None else None

    def _pooling(self, op: Operation) -> tuple[Ints, Ints, Ints]:
        axes = len(op.shape) - 2
        kernel = per_axis(op.arguments["kernel_size"], axes)
        stride = op.arguments.get("stride")
        padding = op.arguments.get("padding") or 0
        return kernel, per_axis(stride, axes) if stride else kernel, per_axis(padding, axes)

    def _alone(self, op: Operation) -> Callable[[torch.Tensor], torch.Tensor]:
        source = op.inputs[0]

        def compute(x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = op.compute({source: x}, len(x))
            return result

        return compute

    @staticmethod
    def _shape(op: Operation) -> tuple[int, ...]:
        return op.shape_for(1)

    def _limit(self, op: Operation) -> Ints:
        return ints(self._shape(op)[2:])


def affine_of(op: Operation, static: Static) -> tuple[torch.Tensor, torch.Tensor]:
    """BatchNorm as scale and shift, one a channel, in double precision."""
    given = {k: static[n] for k in ("weight", "bias", "running_mean", "running_var") if (n := op.source(k))}
    scale = torch.rsqrt(given["running_var"].double() + op.arguments["eps"])
    if "weight" in given:
        scale = scale * given["weight"].double()
    shift = -given["running_mean"].double() * scale
    if "bias" in given:
        shift = shift + given["bias"].double()
    return scale, shift


def touch_of(op: Operation, static: Static) -> Touch:
    """Make an activation work in place where torch can."""
    given = op.arguments
    if op.kind == "relu":
        return Touch(torch.relu_, rising=True)
    if op.kind == "hardtanh":
        low, high = float(given["min_val"]), float(given["max_val"])
        return Touch(lambda x: x.clamp_(low, high), rising=True)
    if op.kind == "silu":
        return Touch(lambda x: functional.silu(x, inplace=True))
    fixed = {n: static[n] for n in op.inputs if n in static}
    source = next(n for n in op.inputs if n not in static)

    def apply(x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = op.compute({**fixed, source: x}, len(x))
        return result

    return Touch(apply, rising=op.kind == "clamp" and not fixed and "threshold" not in str(op.target))


def _counts(kernel: Ints, stride: Ints, padding: Ints, source: Ints, limit: Ints, padded: bool) -> list[Ints]:
    """How many positions each output of an average pooling counts, one array an axis."""
    counts = []
    for k, s, p, n, out in zip(kernel, stride, padding, source, limit, strict=True):
        start = np.arange(out) * s - p
        stop = np.minimum(start + k, n + p)  # with ceil_mode a window may begin inside and end outside
        counts.append(stop - start if padded else np.minimum(stop, n) - np.maximum(start, 0))
    return counts
