"""The captured graph: what a model computes, as a flat list of operations that every method walks.

>>> from pipeline.models.graph import capture       # doctest: +SKIP
>>> graph = capture(model, images)                  # structure is cached, weights are read afresh
>>> values = graph.run(images, keep=[graph.landmarks.activation])
>>> values[graph.output]                            # logits, final softmax or sigmoid stripped
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.models.graph.captured import CapturedGraph, capture
    from pipeline.models.graph.landmarks import Landmarks
    from pipeline.models.graph.operation import Batch, Operation, Ref
    from pipeline.models.graph.quiet import quiet

__all__ = ["Batch", "CapturedGraph", "Landmarks", "Operation", "Ref", "capture", "quiet"]

_HOME = {
    "Batch": "operation",
    "CapturedGraph": "captured",
    "Landmarks": "landmarks",
    "Operation": "operation",
    "Ref": "operation",
    "capture": "captured",
    "quiet": "quiet",
}


def __getattr__(name: str) -> object:
    """Import torch only when a name is used."""
    from importlib import import_module

    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
