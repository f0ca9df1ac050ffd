"""Incremental or plain forward passes: decided from the shapes alone, before anything is computed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from pipeline.attribution.fills import Box
from pipeline.attribution.incremental.cost import Budget, forecast
from pipeline.attribution.incremental.plan import Plan, make_plan
from pipeline.attribution.incremental.steps import LocalStep
from pipeline.attribution.incremental.windows import Ints
from pipeline.attribution.question import Question
from pipeline.models.graph.captured import CapturedGraph

FEW = 2
"""Covers an image below which preparing costs more than it saves."""
OVERHEAD = 3e6
"""Multiplications that one step of one occlusion costs in handling."""

LEAST = 256 * 2**20
"""Bytes that may always be used beside the cache, where nothing else was asked for."""


@dataclass(frozen=True, eq=False)
class Choice:
    """What will be done.

    Attributes
    ----------
    plan : Plan or None
        None: plain forward passes.
    budget : Budget
    images : int
        Images in a plain forward pass.
    cost : str
        What it is expected to cost, for a reader.
    passes : float
        The same in forward passes.
    """

    plan: Plan | None
    budget: Budget
    images: int
    cost: str
    passes: float = 0.0

    def __str__(self) -> str:
        how = "plain forward passes" if self.plan is None else "incremental"
        return f"{how}, predicted {self.cost}"


def choose(
    question: Question, boxes: Sequence[Box | None], *, batch_size: int, memory_limit: float | None
) -> Choice:
    """Choose how occlusions are computed.

    Parameters
    ----------
    question : Question
    boxes : sequence of box or None
        What is to be covered, over all images.
    batch_size : int
    memory_limit : float or None
        Gigabytes.
    """
    given = [box for box in boxes if box is not None]
    images = question.images
    limit = (memory_limit * 2**30) if memory_limit is not None else _free() / 2
    size = images.element_size()
    plain = Choice(None, Budget(), batch_size, f"{len(given) + len(images)} forward passes")
    if not question.capturable or len(given) < FEW * len(images) or images.device.type != "cpu":
        return plain
    plan = make_plan(question.graph, images.shape[1], images.dtype)
    low = np.array([[s.start for s in box] for box in given], np.int64)
    high = np.array([[s.stop for s in box] for box in given], np.int64)
    full = max(sum(_whole(step) for step in (*plan.local, *plan.rest)), 1.0)
    work = operations_limit(plan, low, high, len(images))
    passes = work + len(given) * OVERHEAD * len(plan.local) / full
    cache = sum(prod(plan.shapes[n]) for n in plan.needed) * size
    largest = max(prod(shape) for shape in plan.shapes.values()) * size
    usual = cache + max(2 * _forward(question.graph) * size, LEAST)
    room = (min(limit, usual) if memory_limit is None else limit) - cache - 2 * largest
    if room < 0 or passes > 1.1 * (len(given) + len(images)):
        fitting = int(limit / (4 * largest))
        return Choice(None, Budget(), max(1, min(batch_size, fitting)), plain.cost)
    budget = Budget(
        wave=int(min(room / 4, 512 * 2**20)), batch=int(max(min(room / 8, 16 * 2**20), 1)), images=batch_size
    )
    cost = f"{passes:.1f} forward passes for {len(given)} occlusions (operations alone {work:.1f})"
    return Choice(plan, budget, batch_size, cost, passes)


def operations_limit(plan: Plan, low: Ints, high: Ints, images: int = 1) -> float:
    """Operations inside the boxes that changes can reach, in forward passes, those of the images included.

    Parameters
    ----------
    plan : Plan
    low, high : integer arrays, shape (occlusions, axes)
        Boxes that change, `high` exclusive.
    images : int
    """
    rest = sum(_whole(step) for step in plan.rest)
    full = rest + sum(_whole(step) for step in plan.local)
    again = float(forecast(plan.local, plan.source, (low, high)).effort.sum()) + len(low) * rest
    return images + again / max(full, 1.0)


def _forward(graph: CapturedGraph) -> int:
    """Numbers that are alive at once, at most, in a plain forward pass of one image."""
    operations = [op for op in graph.operations if op.dynamic]
    last = {name: op.name for op in operations for name in op.inputs}
    alive: dict[str, int] = {}
    most = 0
    for op in operations:
        alive[op.name] = prod(op.shape_for(1))
        most = max(most, sum(alive.values()))
        alive = {name: numbers for name, numbers in alive.items() if last.get(name) not in {None, op.name}}
    return most


def _whole(step: object) -> float:
    """Multiplications of a step for a whole image."""
    if isinstance(step, LocalStep) and len(step.shape) > 2:
        return float(step.effort(step.limit[None])[0])
    shape: tuple[int, ...] = getattr(step, "shape", ())
    return float(prod(shape)) if shape else 0.0


def _free() -> float:
    """Bytes of memory that are free."""
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError, AttributeError):
        return 4.0 * 2**30
