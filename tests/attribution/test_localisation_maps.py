"""From a map to a segment: the image's edges decide what the map leaves open."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.attribution.localisation import localise
from pipeline.errors import MethodError


def scene(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A bright ball, and a blurred map that lies off its centre."""
    rng = np.random.default_rng(0)
    grid = np.indices(shape)
    radius = 0.2 if len(shape) == 2 else 0.3  # an eighth of the image
    ball = sum(((g - s // 2) / (s * radius)) ** 2 for g, s in zip(grid, shape, strict=True)) < 1
    image = np.where(ball, 0.8, 0.3) + 0.05 * rng.normal(size=shape)
    blur = sum(((g - s * 0.55) / (s * radius * 0.75)) ** 2 for g, s in zip(grid, shape, strict=True))
    return ball, image[None], np.exp(-blur) - 0.01 * rng.random(shape)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


@pytest.mark.parametrize("shape", [(64, 72), (20, 24, 22)])
def test_the_segment_follows_the_image(shape: tuple[int, ...]) -> None:
    ball, image, relevance = scene(shape)
    found, otsu = (localise(relevance, image, method=m) for m in ("simonyan", "otsu"))
    assert dice(found.mask, ball) > 0.85
    assert dice(found.mask, ball) > dice(otsu.mask, ball) + 0.1
    positive = np.maximum(relevance, 0)
    assert found.foreground == pytest.approx(np.quantile(positive, 0.95))
    assert found.background == pytest.approx(np.quantile(positive, 0.30))
    assert found.mask[positive > found.foreground].all()
    assert not found.mask[positive <= found.background].any()
    for axis, (low, high) in enumerate(found.box):
        inside = found.mask.any(axis=tuple(k for k in range(len(shape)) if k != axis))
        assert inside[low]
        assert inside[high - 1]


def test_the_field_limits_everything() -> None:
    ball, image, relevance = scene((64, 72))
    field = np.zeros(ball.shape, bool)
    field[:32] = True
    found = localise(relevance, image, field=field)
    assert found.mask.any()
    assert not (found.mask & ~field).any()
    with pytest.raises(MethodError, match="no relevance"):
        localise(-np.abs(relevance), image)
    with pytest.raises(MethodError, match="do not fit"):
        localise(relevance[:10], image)
    with pytest.raises(MethodError, match="method"):
        localise(relevance, image, method="canny")


def test_channels_and_signs() -> None:
    _, image, relevance = scene((48, 48))
    colour = np.stack([relevance, -2 * relevance, relevance * 0.5])
    with pytest.raises(MethodError, match="no relevance"):
        localise(np.minimum(colour.sum(0), 0), image)
    assert localise(colour, image, sign="absolute", method="otsu").foreground == pytest.approx(
        localise(2 * np.abs(relevance), image, method="otsu").foreground
    )


def test_a_map_of_few_pixels_is_its_own_seed() -> None:
    _, image, relevance = scene((48, 48))
    sparse = np.where(relevance > np.quantile(relevance, 0.99), relevance, 0)
    found = localise(sparse, image)
    assert found.mask.any()
    assert found.mask[sparse > 0].all()


def test_large_images_are_shrunk_for_the_walk_only() -> None:
    ball, image, relevance = scene((400, 420))
    found = localise(relevance, image)
    assert found.mask.shape == ball.shape
    assert dice(found.mask, ball) > 0.85
