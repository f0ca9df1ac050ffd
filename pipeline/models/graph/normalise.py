"""From two traces of a model to its structure: a short, explicit, batch-agnostic list of operations."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import fx, nn

from pipeline.errors import ModelError
from pipeline.models.graph.executors import EXECUTORS, FILLED, filled
from pipeline.models.graph.kinds import kind_of
from pipeline.models.graph.landmarks import Landmarks, find_landmarks
from pipeline.models.graph.operation import Batch, Operation, Ref, refs
from pipeline.models.graph.tracing import merge, place

_MIXES = "the model treats the images of a batch differently ({where}: {what})"


@dataclass(frozen=True, eq=False)
class Structure:
    """What a model computes, without its weights.

    Attributes
    ----------
    source : str
        Name of the images.
    output : str
        Name of the logits: the result, or the input of a final softmax or sigmoid.
    final : {"softmax", "log_softmax", "sigmoid", None}
        What was stripped.
    operations : tuple of Operation
        In the order of computation; only what the logits need.
    parameters : mapping
        Value name → name of the model's parameter or buffer, read afresh at every call.
    constants : mapping
        Value name → tensor that is neither parameter nor buffer.
    spatial : tuple of int
        Spatial shape of the images.
    """

    source: str
    output: str
    final: str | None
    operations: tuple[Operation, ...]
    parameters: Mapping[str, str]
    constants: Mapping[str, torch.Tensor]
    spatial: tuple[int, ...]

    @cached_property
    def makers(self) -> dict[str, Operation]:
        """Value name → the operation whose (first) result it is."""
        return {op.name: op for op in self.operations}

    @cached_property
    def readers(self) -> dict[str, tuple[Operation, ...]]:
        """Value name → the operations that read it, in order."""
        found: dict[str, list[Operation]] = {}
        for op in self.operations:
            for name in dict.fromkeys(op.inputs):
                found.setdefault(name, []).append(op)
        return {name: tuple(ops) for name, ops in found.items()}

    @cached_property
    def dynamic(self) -> frozenset[str]:
        """Names of the values that depend on the image, the image included."""
        return frozenset({self.source, *(op.name for op in self.operations if op.dynamic)})

    @cached_property
    def landmarks(self) -> Landmarks:
        """Last spatial activation, pooling and classifier."""
        return find_landmarks(self)


def normalise(model: nn.Module, few: fx.GraphModule, more: fx.GraphModule) -> Structure:
    """Build the structure from the traces for two and for three images."""
    builder = _Builder(model)
    a, b = list(few.graph.nodes), list(more.graph.nodes)
    if len(a) != len(b) or any(
        p.target != q.target for p, q in zip(a, b, strict=False) if p.op == "call_function"
    ):
        raise ModelError(
            _MIXES.format(where="whole model", what="the operations depend on the batch size"),
            "give a model whose computation is the same for every image",
        )
    for p, q in zip(a, b, strict=True):
        if p.op == "placeholder":
            builder.start(p)
        elif p.op == "get_attr":
            builder.tensor(p, getattr(few, str(p.target)))
        elif p.op == "call_function":
            builder.operation(p, q)
        else:
            builder.finish(p.args[0])
    return builder.structure()


class _Builder:
    def __init__(self, model: nn.Module) -> None:
        named = [
            *model.named_parameters(remove_duplicate=False),
            *model.named_buffers(remove_duplicate=False),
        ]
        self.names = {_key(t): name for name, t in reversed(named)}
        self.parameters: dict[str, str] = {}
        self.constants: dict[str, torch.Tensor] = {}
        self.operations: dict[str, Operation] = {}
        self.alias: dict[str, str] = {}
        self.owner: dict[str, str] = {}
        self.dynamic: set[str] = set()
        self.source = self.output = ""
        self.spatial: tuple[int, ...] = ()

    def start(self, node: fx.Node) -> None:
        self.source = node.name
        self.dynamic.add(node.name)
        self.spatial = tuple(node.meta["val"].shape[2:])

    def tensor(self, node: fx.Node, value: torch.Tensor) -> None:
        name = self.names.get(_key(value))
        if name is None:
            self.constants[node.name] = value.detach()
        else:
            self.parameters[node.name] = name

    def operation(self, few: fx.Node, more: fx.Node) -> None:
        if few.target is operator.getitem:
            first, index = few.args[0], few.args[1]
            assert isinstance(first, fx.Node)
            base = self.alias.get(first.name, first.name)
            self.alias[few.name] = base if index == 0 else f"{base}:{index}"
            return
        target: Any = few.target
        schema = target._schema  # noqa: SLF001  (the only way to an operation's argument names)
        arguments: dict[str, Any] = {}
        where = place(few, "")
        for i, argument in enumerate(schema.arguments):
            if i < len(few.args):
                pair = few.args[i], more.args[i]
            elif argument.name in few.kwargs:
                pair = few.kwargs[argument.name], more.kwargs[argument.name]
            else:
                pair = argument.default_value, argument.default_value
            try:
                arguments[argument.name] = self._renamed(merge(*pair))
            except ValueError as error:
                raise ModelError(
                    _MIXES.format(where=f"{few.target} at {where}", what=error),
                    "give a model whose computation is the same for every image",
                ) from error
        kind = kind_of(target.overloadpacket.__name__)
        read = [ref.name for ref in refs(arguments)]
        if kind == "identity" or self._moves_nothing(kind, few, arguments):
            self.alias[few.name] = read[0]
            return
        if kind in FILLED and not isinstance(arguments.get("fill_value"), Ref):
            self.operations[few.name] = filled(few.name, kind, arguments, _shape(few, more), few.meta["val"])
            return
        dynamic = any(name.partition(":")[0] in self.dynamic for name in read)
        self._owned(few.name, read)
        operation = Operation(
            name=few.name,
            kind=kind,
            target=target,
            arguments=arguments,
            shape=_shape(few, more),
            dynamic=dynamic,
            outputs=len(schema.returns),
            place=place(few, self.owner.get(few.name, "")),
            keyword_only=frozenset(a.name for a in schema.arguments if a.kwarg_only),
        )
        self._add(operation)

    def _add(self, operation: Operation) -> None:
        if operation.kind == "multiply" and self._is_training_dropout(operation):
            self.alias[operation.name] = operation.inputs[0]
            return
        if operation.kind == "multiply" and (signal := self._swished(operation)) is not None:
            silu = torch.nn.functional.silu
            operation = replace(operation, kind="silu", target=silu, arguments={"self": signal})
        if operation.kind == "linear":
            operation = self._linear(operation)
        elif operation.kind in EXECUTORS:
            operation = EXECUTORS[operation.kind](operation)
        self.operations[operation.name] = operation
        if operation.dynamic:
            self.dynamic.add(operation.name)

    def _linear(self, op: Operation) -> Operation:
        """`addmm(bias, x, t(w))` and `mm(x, t(w))` → linear(x, w, bias); else a plain matrix product."""
        arguments = op.arguments
        x, w = (
            (arguments["mat1"], arguments["mat2"])
            if "mat1" in arguments
            else (arguments["self"], arguments["mat2"])
        )
        plain = "mat1" not in arguments or (arguments["beta"] == 1 and arguments["alpha"] == 1)
        if w.name in self.dynamic or x.name not in self.dynamic or not plain:
            return replace(op, kind="matmul")
        made = self.operations.get(w.name)
        bias = arguments["self"] if "mat1" in arguments else None
        if made is not None and made.kind == "permute" and made.target is torch.ops.aten.t.default:
            weight = made.arguments["self"]
        else:
            weight = Ref(f"{op.name}_weight")
            self.operations[weight.name] = Operation(
                weight.name, "permute", torch.ops.aten.t.default, {"self": w}, (), dynamic=False
            )
        return replace(
            op,
            target=torch.nn.functional.linear,
            arguments={"input": x, "weight": weight, "bias": bias},
            keyword_only=frozenset(),
        )

    def _swished(self, op: Operation) -> Ref | None:
        """Recognise `x · sigmoid(x)`, however it was written, and return x."""
        a, b = op.arguments["self"], op.arguments["other"]
        for signal, gate in ((a, b), (b, a)):
            maker = self.operations.get(gate.name) if isinstance(gate, Ref) else None
            if maker is not None and maker.kind == "sigmoid" and maker.arguments["self"] == signal:
                return signal if isinstance(signal, Ref) else None
        return None

    def _is_training_dropout(self, op: Operation) -> bool:
        """Dropout traced in training mode: the signal times a scaled random mask."""
        if not op.inputs or op.inputs[0] not in self.dynamic:
            return False
        pending = list(op.inputs[1:])
        while pending:
            maker = self.operations.get(pending.pop())
            if maker is not None and "bernoulli" in maker.kind:
                return True
            if maker is not None and not (maker.dynamic and maker.kind not in {"bernoulli", "divide"}):
                pending += maker.inputs
        return False

    def _renamed(self, argument: Any) -> Any:
        if isinstance(argument, Ref):
            return Ref(self.alias.get(argument.name, argument.name))
        if isinstance(argument, list):
            return [self._renamed(a) for a in argument]
        return argument

    def _moves_nothing(self, kind: str, node: fx.Node, arguments: Mapping[str, Any]) -> bool:
        """`x[:]`, a view of the same shape, padding by nothing, a cast to the same type."""
        if kind not in {"view", "slice", "expand", "pad", "cast"}:
            return False
        first = node.args[0]
        if not isinstance(first, fx.Node) or not isinstance(node.meta.get("val"), torch.Tensor):
            return False
        before, after = first.meta.get("val"), node.meta["val"]
        if isinstance(before, list | tuple):
            before = before[0]
        if not isinstance(before, torch.Tensor):
            return False
        step = arguments.get("step", 1)
        reversed_or_cut = kind == "slice" and (step != 1 or arguments.get("start") not in (None, 0))
        return before.shape == after.shape and before.dtype == after.dtype and not reversed_or_cut

    def _owned(self, name: str, read: list[str]) -> None:
        """Say which module an operation belongs to: that of its weights, else the one before it."""
        for value in read:
            if value in self.parameters:
                self.owner[name] = self.parameters[value].rpartition(".")[0] or self.parameters[value]
                return
            maker = self.operations.get(value)
            if maker is not None and not maker.dynamic and value in self.owner:
                self.owner[name] = self.owner[value]
                return
        before = next((self.owner[v] for v in read if v in self.owner), "")
        if before:
            self.owner[name] = before if before.startswith("after ") else f"after {before}"

    def finish(self, result: Any) -> None:
        if not isinstance(result, fx.Node):
            raise ModelError(
                f"the model returns a {type(result).__name__}, not one tensor of logits",
                "wrap it so that it returns a tensor of shape (images, classes)",
            )
        self.output = self.alias.get(result.name, result.name)

    def structure(self) -> Structure:
        if self.output not in self.dynamic:
            raise ModelError("the model's result does not depend on the image", "give the right model")
        final = None
        last = self.operations.get(self.output)
        if last is not None and last.kind in {"softmax", "log_softmax", "sigmoid"}:
            final, self.output = last.kind, last.inputs[0]
        self._as_matrix()
        needed, operations = {self.output}, []
        for op in reversed(self.operations.values()):
            if any(n.partition(":")[0] == op.name for n in needed):
                needed.update(op.inputs)
                operations.append(op)
                if getattr(getattr(op.target, "_schema", None), "is_mutable", False):
                    raise ModelError(
                        f"the model changes its own state while computing: {op}", "use a model without memory"
                    )
        return Structure(
            source=self.source,
            output=self.output,
            final=final,
            operations=tuple(reversed(operations)),
            parameters={k: v for k, v in self.parameters.items() if k in needed},
            constants={k: v for k, v in self.constants.items() if k in needed},
            spatial=self.spatial,
        )

    def _as_matrix(self) -> None:
        """Logits are (images, classes): append a view where they are (images,) or (images, classes, 1, 1)."""
        last = self.operations.get(self.output)
        shape = last.shape if last is not None else ()
        sizes = [d for d in shape[1:] if isinstance(d, int)]
        if len(shape) == 2 and shape[0] == Batch(1) and len(sizes) == 1:
            return
        if (
            not shape
            or shape[0] != Batch(1)
            or len(sizes) != len(shape) - 1
            or any(d != 1 for d in sizes[1:])
        ):
            readable = tuple("images" if isinstance(d, Batch) else d for d in shape)
            raise ModelError(
                f"the model returns a tensor of shape {readable}",
                "wrap it so that it returns logits of shape (images, classes)",
            )
        wanted: list[int | Batch] = [Batch(1), sizes[0] if sizes else 1]
        self.operations["logits"] = Operation(
            "logits",
            "view",
            torch.reshape,
            {"self": Ref(self.output), "size": wanted},
            tuple(wanted),
            dynamic=True,
            place=last.place if last is not None else "",
        )
        self.output = "logits"


def _key(tensor: torch.Tensor) -> tuple[object, ...]:
    if tensor.layout is not torch.strided or tensor.numel() == 0:
        return (id(tensor),)
    return (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)


def _shape(few: fx.Node, more: fx.Node) -> tuple[int | Batch, ...]:
    a: Any
    b: Any
    a, b = few.meta.get("val"), more.meta.get("val")
    if isinstance(a, list | tuple):
        a, b = a[0], b[0]
    if not isinstance(a, torch.Tensor):
        return ()
    return tuple(merge(list(a.shape), list(b.shape)))
