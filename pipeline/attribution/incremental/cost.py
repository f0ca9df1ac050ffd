"""How much work and memory an occlusion takes, and which occlusions go through the network together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from pipeline.attribution.incremental.steps import Averaged, Boxes, Floats, LocalStep, Step, Windowed
from pipeline.attribution.incremental.windows import Ints, clipped

Shapes = Mapping[str, tuple[int, ...]]
CALL = 5e6
"""Multiplications that take as long as handling one more batch: worth growing boxes for."""
COPY = 50
"""Multiplications in the time of copying a number into a window."""
HANDLING = 1e6
"""Multiplications in the time of cutting one more window."""
WORTH = 1.5
"""How much more than its price something must spare to be done."""
SMALL = 2**20
"""Bytes of a whole activation below which it does not count as an image."""
GROWN = 1.5
"""How much larger boxes may be in a batch, where they are made alike."""


@dataclass(frozen=True)
class Budget:
    """What may be held at once.

    Attributes
    ----------
    wave : int
        Bytes that occlusions hold while they wait.
    alive : int
        Bytes that a batch holds while it is computed.
    batch : int
        Bytes of the largest value of a batch: more of them do not fit the processor's caches.
    images : int
        Most occlusions in a batch where whole activations are computed.
    """

    wave: int = 256 * 2**20
    alive: int = 256 * 2**20
    batch: int = 16 * 2**20
    images: int = 8


@dataclass(frozen=True)
class Forecast:
    """What a run through steps takes, one number an occlusion.

    Attributes
    ----------
    effort : array
        Multiplications of all local steps.
    peak : array
        Multiplications of the largest local step.
    numbers : array
        Numbers in the largest value.
    alive : array
        Numbers held at once, at most.
    boxes : Boxes
        Where the changes are in the last local step's value.
    """

    effort: Floats
    peak: Floats
    numbers: Floats
    alive: Floats
    boxes: Boxes


def forecast(steps: Sequence[Step], source: str, boxes: Boxes, shapes: Shapes) -> Forecast:
    """Follow the boxes of many occlusions at once through steps.

    Parameters
    ----------
    steps : sequence of Step
    source : str
        The value in which the boxes are.
    boxes : Boxes
    shapes : mapping
        Shapes of all values for one image.
    """
    count = len(boxes[0])
    effort, peak, numbers, alive = (np.zeros(count) for _ in range(4))
    last = {n: i for i, step in enumerate(steps) for n in step.inputs}
    known = {source: boxes}
    held: dict[str, Floats] = {source: numbers_in(boxes, shapes[source])}
    local = 0
    for step in steps:
        if not isinstance(step, LocalStep) or not any(n in known for n in step.inputs):
            break
        boxes = known[step.name] = step.reach([known[n] for n in step.inputs if n in known])
        size = boxes[1] - boxes[0]
        one = step.effort(size)
        effort += one
        peak = np.maximum(peak, one)
        alive = np.maximum(alive, step.scratch(size) + sum(held.values()))
        held[step.name] = numbers_in(boxes, step.shape)
        numbers = np.maximum(numbers, held[step.name])
        held = {n: v for n, v in held.items() if last.get(n, -1) > local or n == step.name}
        local += 1
    rest = steps[local:]
    if rest:
        numbers = np.maximum(numbers, max(float(prod(step.shape)) for step in rest))
        alive = np.maximum(alive, sum(held.values()) + in_full(rest, shapes))
    return Forecast(effort, peak, numbers, alive, boxes)


def better_apart(steps: Sequence[Step], source: str, boxes: Boxes) -> frozenset[str]:
    """Poolings that had better not be joined to the convolution before them.

    Joined, what lies between need not be kept and cut, but all that the pooled boxes look at is convolved
    again, changed or not.
    """
    known = {source: boxes}
    found = set()
    for step in steps:
        if not isinstance(step, LocalStep) or not any(n in known for n in step.inputs):
            continue
        known[step.name] = step.reach([known[n] for n in step.inputs if n in known])
        if not isinstance(step, Windowed) or len(step.stages) != 2:
            continue
        convolution, pooling = step.stages
        low, high = clipped(*convolution.window.reaches(*known[step.inputs[0]]), convolution.limit)
        size = known[step.name][1] - known[step.name][0]
        joined = np.minimum(pooling.window.needs(0 * size, size)[1], convolution.limit).prod(1)
        spared = (joined - (high - low).prod(1)).sum() * convolution.effort
        if spared > WORTH * (joined.sum() * step.shape[1] * COPY + len(size) * HANDLING):
            found.add(step.pooling)
    return frozenset(found)


def in_full(steps: Sequence[Step], shapes: Shapes) -> float:
    """Numbers held at most while steps are computed for one whole image, what they read included."""
    last = {n: i for i, step in enumerate(steps) for n in step.inputs}
    made = {step.name for step in steps}
    read = {
        n for s in steps if not isinstance(s, Averaged) for n in s.inputs if n in shapes and n not in made
    }
    held = {n: float(prod(shapes[n])) for n in read}
    most = sum(held.values())
    for i, step in enumerate(steps):
        whole = float(prod(step.shape))
        between = 0.0
        if isinstance(step, Windowed) and len(step.stages) > 1:
            between = float(step.stages[0].limit.prod() * step.shape[1])
        most = max(most, sum(held.values()) + whole + between)
        held[step.name] = whole
        held = {n: v for n, v in held.items() if last.get(n, -1) > i}
    return most


def numbers_in(boxes: Boxes, shape: tuple[int, ...]) -> Floats:
    """Numbers in boxes of a value of this shape."""
    numbers: Floats = (boxes[1] - boxes[0]).prod(1) * float(prod(shape[:2]))
    return numbers


def batches(
    sizes: Ints, ahead: Forecast, budget: Budget, item_bytes: int, whole: bool
) -> Iterator[list[int]]:
    """Put occlusions together that are alike in size; the more work, the more alike.

    Parameters
    ----------
    sizes : integer array, shape (occlusions, axes)
        Sizes of the boxes now.
    ahead : Forecast
    budget : Budget
    item_bytes : int
        Bytes of one number.
    whole : bool
        Whether whole activations are computed.

    Yields
    ------
    list of int
        Numbers of the occlusions of one batch.
    """
    volumes = sizes.prod(1).astype(float)
    order = np.lexsort((*sizes.T, volumes))
    each = item_bytes * ahead.numbers + 1
    growth = 1.05 + np.minimum(CALL / (ahead.peak + 1), GROWN - 1.05)
    fitting = budget.alive / (item_bytes * ahead.alive * growth + 1)
    most = np.maximum(np.minimum(budget.batch / each, fitting), 1.0)
    if whole:
        most = np.where(each > SMALL, np.minimum(most, budget.images), most)
    group: list[int] = []
    volume, largest, limit = 0.0, sizes[0] * 0, 0.0
    for k in order.tolist():
        grown = np.maximum(largest, sizes[k]) if group else sizes[k]
        room = min(limit, most[k]) if group else most[k]
        count = len(group) + 1
        if group and (count > room or float(grown.prod()) * count > growth[k] * (volume + volumes[k])):
            yield group
            group, volume, grown, room = [], 0.0, sizes[k], most[k]
        group.append(k)
        volume, largest, limit = volume + volumes[k], grown, room
    if group:
        yield group
