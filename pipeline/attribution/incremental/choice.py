"""Incremental or plain forward passes: decided from the shapes alone, before anything is computed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import torch

from pipeline.attribution.fills import Box
from pipeline.attribution.incremental.cost import Budget, better_apart, forecast, numbers_in
from pipeline.attribution.incremental.plan import Plan, make_plan
from pipeline.attribution.incremental.steps import LocalStep
from pipeline.attribution.incremental.windows import Ints, ints
from pipeline.attribution.question import Question
from pipeline.errors import MethodError
from pipeline.models.graph.captured import CapturedGraph

FEW = 2
"""Covers an image below which preparing costs more than it saves."""
OVERHEAD = 3e6
"""Multiplications that one step of one occlusion costs in handling."""
COPIES = 0.4
"""Share of the room for copies of weights with BatchNorm folded in."""
MAPS = 2
"""Images' worth of memory for what is not computed: labels, masks, the map."""
LARGEST = 16 * 2**20
"""Bytes of the largest value of a batch: more of them do not fit the processor's caches."""


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
    memory : str
        What it takes at most, for a reader.
    given_limit : float or None
        Gigabytes that were asked for and still have to be seen to.
    """

    plan: Plan | None
    budget: Budget
    images: int
    cost: str
    passes: float = 0.0
    memory: str = ""
    given_limit: float | None = None

    def __str__(self) -> str:
        how = "plain forward passes" if self.plan is None else "incremental"
        return f"{how}, predicted {self.cost}" + (f"; memory: {self.memory}" if self.memory else "")


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
    number = images.element_size()
    limit = _free() / 2 if memory_limit is None else memory_limit * 2**30
    plain = Choice(
        None, Budget(), batch_size, f"{len(given) + len(images)} forward passes", given_limit=memory_limit
    )
    if not question.capturable:
        return plain
    forward = largest_at_once(question.graph) * number
    if memory_limit is not None:
        plain = replace(plain, images=fitting(forward, images, memory_limit, batch_size))
    if len(given) < FEW * len(images) or images.device.type != "cpu":
        return plain
    plan = make_plan(question.graph, images.shape[1], images.dtype)
    low = np.array([[s.start for s in box] for box in given], np.int64)
    high = np.array([[s.stop for s in box] for box in given], np.int64)
    apart = better_apart(plan.local, plan.source, (low, high))
    if apart:
        plan = make_plan(question.graph, images.shape[1], images.dtype, apart)
    full = _full(plan)
    work = operations_limit(plan, low, high, len(images))
    handling = len(given) * OVERHEAD * len(plan.local) / full
    cache = sum(prod(plan.shapes[n]) for n in plan.needed) * number
    bound = limit if memory_limit is not None else min(limit, cache + 2 * forward)
    one, waiting = (v * number for v in _least(plan, low, high))
    room = bound - cache - one - waiting - MAPS * images[0].nbytes
    if room < 0 or work + handling > 1.1 * (len(given) + len(images)):
        return plain
    room -= plan.prepare(room * COPIES)
    passes = handling + operations_limit(plan, low, high, len(images), full)  # some are spared by then
    budget = Budget(
        wave=int(waiting + room / 2),
        alive=int(one + room / 2),
        batch=int(min(one + room / 2, LARGEST)),
        images=batch_size,
    )
    mega = 2**20
    memory = (
        f"at most {bound / mega:.1f} MiB beside model and images "
        f"(activations kept {cache / mega:.1f}, a forward pass {forward / mega:.1f})"
    )
    cost = f"{passes:.1f} forward passes for {len(given)} occlusions (operations alone {work:.1f})"
    return Choice(plan, budget, batch_size, cost, passes, memory)


def _least(plan: Plan, low: Ints, high: Ints) -> tuple[float, float]:
    """Numbers that one occlusion needs while computed, and one waiting at the start of every stretch."""
    boxes, alive, waiting = (low, high), 0.0, 0.0
    for stretch in plan.stretches:
        waiting += float(numbers_in(boxes, plan.shapes[stretch[0].value]).max())
        for section in stretch:
            ahead = forecast(section.steps, section.value, boxes, plan.shapes)
            alive, boxes = max(alive, float(ahead.alive.max())), ahead.boxes
            if section.rest:
                shape = plan.shapes[section.result]
                boxes = np.zeros((1, len(shape) - 2), np.int64), ints(shape[2:])[None]
    return alive, waiting


def fitting(forward: float, images: torch.Tensor, memory_limit: float, batch_size: int) -> int:
    """Images in a plain pass of so many bytes each that `memory_limit` gigabytes have room for."""
    image = images[0].nbytes
    each, once = forward + 2 * image, MAPS * image  # an image is copied, and put into a batch
    if each + once > memory_limit * 2**30:
        raise MethodError(
            f"memory_limit of {memory_limit:.3g} GB is less than a forward pass takes",
            f"give {(each + once) / 2**30 + 5e-6:.5f} or more",
        )
    return int(min(batch_size, (memory_limit * 2**30 - once) // each))


def operations_limit(plan: Plan, low: Ints, high: Ints, images: int = 1, full: float | None = None) -> float:
    """Operations inside the boxes that changes can reach, in forward passes, those of the images included.

    Parameters
    ----------
    plan : Plan
    low, high : integer arrays, shape (occlusions, axes)
        Boxes that change, `high` exclusive.
    images : int
    full : float, optional
        Multiplications of a forward pass; default: those of the plan.
    """
    ahead = forecast(plan.local, plan.source, (low, high), plan.shapes)
    again = float(ahead.effort.sum()) + len(low) * sum(_whole(step) for step in plan.rest)
    return images + again / (full or _full(plan))


def largest_at_once(graph: CapturedGraph) -> int:
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


def _full(plan: Plan) -> float:
    """Multiplications of a forward pass."""
    return max(sum(_whole(step) for step in (*plan.local, *plan.rest)), 1.0)


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
