"""Winograd's minimal filtering for 3×3×3 convolutions: 64 products for eight outputs instead of 216.

Tiles of 4×4×4 inputs and the weights are taken into a domain where convolution is multiplication, place by
place; over the channels that is a matrix product for each of the 64 places. With the points 0, 1, −1 and ∞
all steps but the weights' halves are sums and differences, and the result is nearly as exact as the direct
sum: 3.0e-7 instead of 1.9e-7 of the outputs' root mean square for 64 channels. Larger tiles spare more, but
are not: 1.8e-6 and 4.7e-6 with three and four outputs a side.

Winograd 1980, Arithmetic Complexity of Computations; Lavin and Gray 2016, arXiv:1509.09308.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod

import torch
from torch.nn import functional

CHANNELS = 128
"""Fewest channels, in and out, for which the sums and differences are worth the products that they spare."""
ROWS = 27
"""Fewest tiles for which reading the larger weights is."""
FILL = 1.5
"""Most places in tiles for one in the box."""
GAIN = 2.0
"""How many times faster than the direct sum, for boxes that tiles fill."""
SCRATCH = 24 * 2**20
"""Bytes of what is between, at most; a row of tiles may need more."""
POINTS = 4
"""Places of a tile along an axis; two outputs."""

_WEIGHTS = ((-1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, 1.0))


def suits(weight: torch.Tensor, stride: Sequence[int], dilation: Sequence[int], groups: int) -> bool:
    """Whether a convolution is one of 3×3×3 places, step by step, of enough channels, in single precision."""
    return (
        tuple(weight.shape[2:]) == (3, 3, 3)
        and min(weight.shape[:2]) >= CHANNELS
        and groups == 1
        and all(v == 1 for v in (*stride, *dilation))
        and weight.dtype == torch.float32
        and weight.device.type == "cpu"
    )


def pays(items: int, outputs: Sequence[int]) -> bool:
    """Whether tiles fill so many boxes of this size well enough."""
    tiles = items * prod((n + 1) // 2 for n in outputs)
    return tiles >= ROWS and 8 * tiles < FILL * items * prod(outputs)


def room(weight: torch.Tensor, outputs: Sequence[int]) -> tuple[int, int]:
    """Bytes of the weights in the other domain, and of what is between outputs and inputs at most."""
    row = _row([(n + 1) // 2 for n in outputs], sum(weight.shape[:2]))
    return weight.nbytes // 27 * POINTS**3, max(row, SCRATCH)


def _row(tiles: Sequence[int], channels: int) -> int:
    """Bytes that a row of tiles takes: places and their products, and what was on the way to them."""
    return 4 * 36 * prod(tiles[1:]) * channels


def transformed(weight: torch.Tensor, scale: torch.Tensor | None, some: int) -> torch.Tensor:
    """Take weights into the other domain.

    Parameters
    ----------
    weight : torch.Tensor, shape (K, C, 3, 3, 3)
    scale : torch.Tensor of float64 or None, shape (K,)
        They are multiplied by this first, one number an output channel.
    some : int
        Output channels at a time.

    Returns
    -------
    torch.Tensor, shape (4, 16, K, C)
        For each place of a tile a matrix.
    """
    one = torch.tensor(_WEIGHTS)
    places = torch.einsum("ai,bj,ck->abcijk", one, one, one).reshape(POINTS**3, 27)
    out, channels = weight.shape[:2]
    found = weight.new_empty(POINTS**3, out, channels)
    for k in range(0, out, some):
        part = weight[k : k + some]
        if scale is not None:
            part = (part.double() * scale[k : k + some].reshape(-1, 1, 1, 1, 1)).to(weight.dtype)
        found[:, k : k + some] = (places @ part.reshape(-1, 27).T).view(POINTS**3, -1, channels)
    return found.view(POINTS, POINTS**2, out, channels)


def convolve(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, padding: Sequence[int]
) -> torch.Tensor:
    """Convolve.

    Parameters
    ----------
    x : torch.Tensor, shape (N, C, D, H, W)
    weight : torch.Tensor, shape (4, 16, K, C)
        See `transformed`.
    bias : torch.Tensor or None, shape (K,)
    padding : sequence of int
        Zeros before and after each axis.

    Returns
    -------
    torch.Tensor, shape (N, K, D', H', W')
        Channels last.
    """
    given = x.permute(0, 2, 3, 4, 1)
    sizes = [n + 2 * p - 2 for n, p in zip(given.shape[1:4], padding, strict=True)]
    made = given.new_empty(len(x), *sizes, weight.shape[2])
    for items, low, high in _parts(len(x), sizes, sum(weight.shape[2:])):
        part = _cut(given[items], (low, 0, 0), (high, *sizes[1:]), padding)
        _tiles(part, weight, bias, made[items, low:high])
    return made.permute(0, 4, 1, 2, 3)


def _parts(count: int, sizes: Sequence[int], channels: int) -> Iterator[tuple[slice, int, int]]:
    """Items and rows of outputs that go together: what is between them must not take more than `SCRATCH`."""
    tiles = [(n + 1) // 2 for n in sizes]
    rows, fitting = tiles[0], max(1, SCRATCH // _row(tiles, channels))
    together = min(fitting, rows)
    items = max(1, fitting // rows)
    for k, row in product(range(0, count, items), range(0, rows, together)):
        yield slice(k, min(k + items, count)), 2 * row, min(2 * (row + together), sizes[0])


def _cut(x: torch.Tensor, low: Sequence[int], high: Sequence[int], padding: Sequence[int]) -> torch.Tensor:
    """Cut out what outputs from `low` to `high` read, and as much as fills their tiles; zeros outside."""
    outside: list[int] = []
    for axis, (a, b, p) in enumerate(zip(low, high, padding, strict=True), 1):
        first, last = a - p, a - p + (b - a + 1) // 2 * 2 + 2
        begin, end = max(first, 0), min(last, x.shape[axis])
        x = x.narrow(axis, begin, end - begin)
        outside = [begin - first, last - end, *outside]
    return functional.pad(x, (0, 0, *outside)) if any(outside) else x


def _tiles(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, into: torch.Tensor) -> None:
    """Convolve tiles, which begin at every second place; places of their first axis come one by one."""
    count, *sizes, channels = x.shape
    rows, columns, lines = ((n - 2) // 2 for n in sizes)
    along = x.new_empty(count, rows, *sizes[1:], channels)
    across = x.new_empty(POINTS, count, rows, columns, sizes[2], channels)
    places = x.new_empty(POINTS, POINTS, count, rows, columns, lines, channels)
    products = x.new_empty(POINTS**2, count * rows * columns * lines, weight.shape[2])
    found = products.view(*places.shape[:-1], -1)
    half = x.new_empty(POINTS, count, rows, columns, 2 * lines, weight.shape[2])
    whole = x.new_empty(count, rows, 2 * columns, 2 * lines, weight.shape[2])
    even, odd = into[:, 0::2], into[:, 1::2]
    one = whole[:, :, : into.shape[2], : into.shape[3]]
    other = one[:, : odd.shape[1]]
    for place in range(POINTS):
        _to_place(x, 1, place, along)
        for k in range(POINTS):
            _to_place(along, 2, k, across[k])
        for k in range(POINTS):
            _to_place(across, 4, k, places[:, k])
        torch.bmm(places.view(POINTS**2, -1, channels), weight[place].transpose(1, 2), out=products)
        _from_places(found.unbind(1), half[..., 0::2, :], half[..., 1::2, :])
        _from_places(half.unbind(0), whole[:, :, 0::2], whole[:, :, 1::2])
        if place == 0:
            even.copy_(one)
        elif place == 1:
            even.add_(one)
            odd.copy_(other)
        elif place == 2:
            even.add_(one)
            odd.sub_(other)
        else:
            odd.add_(other)
    if bias is not None:
        into.add_(bias)


def _to_place(x: torch.Tensor, axis: int, place: int, into: torch.Tensor) -> None:
    """Combine the inputs of tiles along an axis for one of their four places."""
    tiles = x.shape[axis] // 2 - 1
    first, second = ((2, 0), (1, 2), (2, 1), (3, 1))[place]
    before = (slice(None),) * axis
    a, b = (x[(*before, slice(k, k + 2 * tiles - 1, 2))] for k in (first, second))
    (torch.add if place == 1 else torch.sub)(a, b, out=into)


def _from_places(places: Sequence[torch.Tensor], even: torch.Tensor, odd: torch.Tensor) -> None:
    """Combine the four places of tiles to their two outputs."""
    torch.add(places[0], places[1], out=even)
    even.add_(places[2])
    torch.sub(places[1], places[2], out=odd)
    odd.add_(places[3])
