"""How much work and memory an occlusion takes, and which occlusions go through the network together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.attribution.incremental.steps import Boxes, Floats, LocalStep, Step
from pipeline.attribution.incremental.windows import Ints

CALL = 5e6
"""Multiplications that take as long as handling one more batch: worth growing boxes for."""
SMALL = 2**20
"""Bytes of a whole activation below which it does not count as an image."""


@dataclass(frozen=True)
class Budget:
    """What may be held at once.

    Attributes
    ----------
    wave : int
        Bytes that occlusions hold between two segments.
    batch : int
        Bytes of the largest value of a batch.
    images : int
        Most occlusions in a batch where whole activations are computed.
    """

    wave: int = 256 * 2**20
    batch: int = 16 * 2**20
    images: int = 8


@dataclass(frozen=True)
class Forecast:
    """What a run through local steps takes, one number an occlusion.

    Attributes
    ----------
    effort : array
        Multiplications of all steps.
    peak : array
        Multiplications of the largest step.
    numbers : array
        Numbers in the largest value.
    boxes : Boxes
        Where the changes are in the last step's value.
    """

    effort: Floats
    peak: Floats
    numbers: Floats
    boxes: Boxes


def forecast(steps: Sequence[Step], source: str, boxes: Boxes) -> Forecast:
    """Follow the boxes of many occlusions at once through the local steps among `steps`."""
    count = len(boxes[0])
    effort, peak, numbers = np.zeros(count), np.zeros(count), np.zeros(count)
    known = {source: boxes}
    for step in steps:
        if not isinstance(step, LocalStep) or not any(n in known for n in step.inputs):
            numbers = np.maximum(numbers, float(np.prod(step.shape)))
            continue
        boxes = known[step.name] = step.reach([known[n] for n in step.inputs if n in known])
        size = boxes[1] - boxes[0]
        one = step.effort(size)
        effort += one
        peak = np.maximum(peak, one)
        numbers = np.maximum(numbers, size.prod(1) * float(step.shape[1]))
    return Forecast(effort, peak, numbers, boxes)


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
        Whether whole activations are computed afterwards.

    Yields
    ------
    list of int
        Numbers of the occlusions of one batch.
    """
    volumes = sizes.prod(1).astype(float)
    order = np.lexsort((*sizes.T, volumes))
    each = item_bytes * ahead.numbers + 1
    most = np.maximum(budget.batch / each, 1.0)
    if whole:
        most = np.where(each > SMALL, np.minimum(most, budget.images), most)
    growth = 1.05 + np.minimum(CALL / (ahead.peak + 1), 0.45)
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
