"""How relevance passes everything that has no weights: one short function a kind of operation.

Movement copies it, activations hand it on unchanged, sums split it in proportion, max-pooling gives it to the
winner, a gate gives it to the signal. An operation that is not here is an error that names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch

from pipeline.attribution.propagation.accounts import per_image, ratio
from pipeline.errors import UnsupportedOperationError
from pipeline.models.graph.kinds import ACTIVATIONS, GATES, MOVEMENT
from pipeline.models.graph.layout import fast_format, fast_layout
from pipeline.models.graph.operation import Operation, Ref, resolve

Shares = Iterator[tuple[str, torch.Tensor]]


@dataclass(eq=False)
class Walk:
    """State of one walk back.

    Attributes
    ----------
    makers : dict
        Value name → operation, of those that depend on the image.
    dynamic : frozenset of str
        Names of values that depend on the image.
    values : dict
        What the rules need of the forward pass, and everything static.
    images : int
    epsilon : float
    bias, absorbed : torch.Tensor, shape (N,)
        Running accounts.
    """

    makers: dict[str, Operation]
    dynamic: frozenset[str]
    values: dict[str, torch.Tensor]
    images: int
    epsilon: float
    bias: torch.Tensor
    absorbed: torch.Tensor
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def ratio(self, relevance: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """R / s(z); what the stabiliser absorbs is booked."""
        s, absorbed = ratio(relevance, z, self.epsilon)
        self.absorbed = self.absorbed + absorbed
        return s


def needs(op: Operation, dynamic: frozenset[str]) -> tuple[str, ...]:
    """Names of the values that the rule of an operation will read."""
    gated = op.kind == "multiply" and all(name in dynamic for name in op.inputs) and len(op.inputs) > 1
    if gated or op.kind in MOVEMENT | ACTIVATIONS | {"negate"}:
        return ()
    if op.kind in {"max_pool", "adaptive_max_pool"}:
        return (f"{op.name}:1",)
    return op.inputs


def pass_back(walk: Walk, op: Operation, relevance: torch.Tensor) -> Shares:
    """Share the relevance of an operation's result among its inputs.

    Raises
    ------
    pipeline.errors.UnsupportedOperationError
        If there is no rule for it.
    """
    if op.kind in ACTIVATIONS:
        yield _only_input(walk, op), relevance
        return
    handler = _movement if op.kind in MOVEMENT else HANDLERS.get(op.kind)
    if handler is None:
        raise unsupported(op)
    yield from handler(walk, op, relevance)


def unsupported(op: Operation, why: str = "") -> UnsupportedOperationError:
    """Say which operation has no rule."""
    return UnsupportedOperationError(
        f"relevance propagation has no rule for {op.kind} at {op.place or 'an unnamed place'}{why}",
        "use gradient, grad_cam or occlusion for this model",
    )


def _only_input(walk: Walk, op: Operation) -> str:
    return next(name for name in op.inputs if name in walk.dynamic)


def _adjoint(walk: Walk, op: Operation, s: torch.Tensor) -> Shares:
    """Transpose a linear operation: Σ_k w_jk s_k for every input that depends on the image."""
    names = [n for n in dict.fromkeys(op.inputs) if n in walk.dynamic]
    with torch.enable_grad():
        leaves = {}
        for name in names:
            known = walk.values.get(name)
            leaf = s.new_zeros(()).expand(walk.shapes[name]) if known is None else known.detach()
            leaves[name] = leaf.requires_grad_(True)  # noqa: FBT003
        result = op.compute({**walk.values, **leaves}, walk.images)
        gradients = torch.autograd.grad(result, list(leaves.values()), s)
    yield from zip(names, gradients, strict=True)


def _movement(walk: Walk, op: Operation, relevance: torch.Tensor) -> Shares:
    """Take back the relevance of copies; what stands on constants is lost to them."""
    if op.kind == "view":
        name = _only_input(walk, op)
        yield name, fast_layout(relevance.reshape(walk.shapes[name]))
    elif op.kind == "cat":
        axis, start = op.arguments["dim"], 0
        for ref in op.arguments["tensors"]:
            shape = walk.shapes.get(ref.name) or walk.values[ref.name].shape
            part = relevance.narrow(axis, start, shape[axis])
            start += shape[axis]
            if ref.name in walk.dynamic:
                yield ref.name, part
            else:
                walk.bias = walk.bias + per_image(part)
    else:
        shares = list(_adjoint(walk, op, relevance))
        if op.kind in {"pad", "stack"}:
            walk.bias = walk.bias + per_image(relevance) - sum(per_image(share) for _, share in shares)
        yield from shares


def _proportional(walk: Walk, op: Operation, relevance: torch.Tensor) -> Shares:
    """Average, sum, interpolation: R_j = z_j / s(Σ z) · R."""
    z = op.compute(walk.values, walk.images)
    s = walk.ratio(relevance, z)
    for name, slope in _adjoint(walk, op, s):
        yield name, walk.values[name] * slope


def _matmul(walk: Walk, op: Operation, relevance: torch.Tensor) -> Shares:
    """Apply the rule of a matrix product with constants."""
    if sum(name in walk.dynamic for name in op.inputs) != 1:
        raise unsupported(op, " of two results that depend on the image")
    name = _only_input(walk, op)
    s = walk.ratio(relevance, op.compute(walk.values, walk.images))
    still = op.compute({**walk.values, name: torch.zeros_like(walk.values[name])}, walk.images)
    walk.bias = walk.bias + per_image(s * still)
    for source, slope in _adjoint(walk, op, s):
        yield source, walk.values[source] * slope


def _terms(walk: Walk, op: Operation) -> list[tuple[str, torch.Tensor | float]]:
    """Terms of a sum, with their signs and factors; those that depend on the image by name."""
    a, b = op.arguments["self"], op.arguments["other"]
    factor = op.arguments.get("alpha", 1)
    signs = (1, factor) if op.kind == "add" else (1, -factor)
    if op.kind == "subtract" and "rsub" in str(op.target):
        signs = (-factor, 1)
    terms = []
    for argument, sign in zip((a, b), signs, strict=True):
        value = resolve(argument, walk.values, walk.images)
        name = argument.name if isinstance(argument, Ref) and argument.name in walk.dynamic else ""
        terms.append((name, value if sign == 1 else sign * value))
    return terms


def _sum(walk: Walk, op: Operation, relevance: torch.Tensor) -> Shares:
    """Addition and subtraction: every term in proportion; a constant takes its share like a bias."""
    (first, a), (second, b) = _terms(walk, op)
    s = walk.ratio(relevance, torch.as_tensor(a + b))
    for name, term in ((first, a), (second, b)):
        if name:
            yield name, (s * term).sum_to_size(walk.shapes[name])
        else:
            walk.bias = walk.bias + per_image(s * term)


def _scaled(walk: Walk, op: Operation, relevance: torch.Tensor) -> Shares:
    """Multiply or divide by a constant: R_j = z_j / s(z_j) · R; by a gate: the signal takes all."""
    a, b = op.arguments["self"], op.arguments["other"]
    moving = [v.name for v in (a, b) if isinstance(v, Ref) and v.name in walk.dynamic]
    if op.arguments.get("rounding_mode") is not None or (op.kind == "divide" and moving != [a.name]):
        raise unsupported(op)
    if len(moving) == 1:
        s = walk.ratio(relevance, z := op.compute(walk.values, walk.images))
        yield moving[0], (s * z).sum_to_size(walk.shapes[moving[0]])
        return
    gates = [is_gate(walk, name) for name in moving]
    if gates.count(True) != 1:
        raise unsupported(op, " of two branches of which not exactly one is a gate")
    signal = moving[gates.index(False)]
    yield signal, relevance.sum_to_size(walk.shapes[signal])


def is_gate(walk: Walk, name: str) -> bool:
    """Whether a value ends in sigmoid, hardsigmoid or softmax (also written as a bounded, scaled ReLU6)."""
    op, scaled = walk.makers.get(name), False
    while op is not None:
        if op.kind in GATES:
            return True
        if op.kind in {"hardtanh", "clamp"}:
            return scaled and not any(v is None for v in op.arguments.values())
        sources = [n for n in op.inputs if n in walk.dynamic]
        if len(sources) != 1 or op.kind not in MOVEMENT | {"multiply", "divide"}:
            return False
        scaled = scaled or op.kind in {"multiply", "divide"}
        op = walk.makers.get(sources[0])
    return False


def _affine(walk: Walk, op: Operation, relevance: torch.Tensor) -> Shares:
    """BatchNorm that stands alone: R_j = x_j w_j / s(x_j w_j + b_j) · R."""
    x = walk.values[op.source("input") or ""]
    weight, bias = walk.values[op.source("weight") or ""], walk.values[op.source("bias") or ""]
    z = x * weight
    s = walk.ratio(relevance, z + bias)
    walk.bias = walk.bias + per_image(s * bias)
    yield op.source("input") or "", s.mul_(z)


def _max_pool(walk: Walk, op: Operation, relevance: torch.Tensor) -> Shares:
    """Winner takes all: the first index of the largest value in a window."""
    name = _only_input(walk, op)
    relevance = fast_layout(relevance)
    layout = fast_format(relevance)
    if layout is torch.preserve_format:
        layout = torch.contiguous_format
    size, dtype, device = walk.shapes[name], relevance.dtype, relevance.device
    empty = torch.empty(size, dtype=dtype, device=device, memory_format=layout)
    indices = walk.values.pop(f"{op.name}:1")
    dims = relevance.ndim - 2
    if op.kind == "adaptive_max_pool":
        back = getattr(torch.ops.aten, f"adaptive_max_pool{dims}d_backward")
        yield name, back(relevance, empty, indices)
        return
    settings = [op.arguments[k] for k in ("kernel_size", "stride", "padding", "dilation", "ceil_mode")]
    back = getattr(torch.ops.aten, f"max_pool{dims}d_with_indices_backward")
    yield name, back(relevance, empty, *settings, indices)


def _maximum(walk: Walk, op: Operation, relevance: torch.Tensor) -> Shares:
    """Maximum over axes: the first of the largest values takes all."""
    name = _only_input(walk, op)
    x = walk.values[name]
    given = op.arguments.get("dim")
    axes = [given] if isinstance(given, int) else list(given or range(x.ndim))
    axes = sorted(a % x.ndim for a in axes)
    if 0 in axes or [n for n in op.inputs if n != name]:
        raise unsupported(op)
    front = x.movedim(axes, tuple(range(-len(axes), 0)))
    flat = front.reshape(*front.shape[: x.ndim - len(axes)], -1)
    won = torch.zeros_like(flat).scatter_(-1, flat.argmax(-1, keepdim=True), 1)
    taken = won * relevance.reshape(*flat.shape[:-1], 1)
    yield name, taken.reshape(front.shape).movedim(tuple(range(-len(axes), 0)), axes)


def _negate(walk: Walk, op: Operation, relevance: torch.Tensor) -> Shares:
    yield _only_input(walk, op), relevance


HANDLERS: dict[str, Callable[[Walk, Operation, torch.Tensor], Shares]] = {
    "add": _sum,
    "subtract": _sum,
    "multiply": _scaled,
    "divide": _scaled,
    "negate": _negate,
    "affine": _affine,
    "matmul": _matmul,
    "max_pool": _max_pool,
    "adaptive_max_pool": _max_pool,
    "maximum": _maximum,
    **dict.fromkeys(("mean", "sum", "avg_pool", "adaptive_avg_pool", "upsample"), _proportional),
}
