"""Measuring at the image's own resolution."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy import ndimage

from pipeline.comparison import localisation, native
from pipeline.errors import MethodError


def transform(scale, offset):
    matrix = np.diag([*scale, 1.0])
    matrix[:-1, -1] = offset
    return matrix


def slow_linear(values, matrix, shape):
    """Every native pixel's own interpolation weights, one by one."""
    back, out = np.linalg.inv(matrix), np.zeros(shape)
    for point in np.ndindex(shape):
        place = np.clip((back @ [*point, 1])[:-1], 0, np.array(values.shape) - 1)
        low = np.minimum(np.floor(place).astype(int), np.maximum(np.array(values.shape) - 2, 0))
        for corner in np.ndindex((2,) * values.ndim):
            weight = np.prod(
                [(1 - (p - q)) if c == 0 else (p - q) for p, q, c in zip(place, low, corner, strict=True)]
            )
            if weight:
                out[point] += weight * values[tuple(low + corner)]
    return out


@pytest.mark.parametrize(
    ("shape", "native_shape", "matrix"),
    [
        ((6, 5), (13, 11), transform((2.3, 2.1), (0.4, -0.3))),
        ((5, 6), (12, 9), np.array([[0, 1.7, 0.2], [1.9, 0, 1.0], [0, 0, 1.0]])),  # axes exchanged
        ((4, 3, 5), (7, 7, 8), transform((2, 1.5, 1.6), (0.5, 0.2, 0))),
    ],
)
def test_resampling_equals_a_slow_one(shape, native_shape, matrix):
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    assert native.to_native(values, matrix, native_shape) == pytest.approx(
        slow_linear(values, matrix, native_shape), abs=1e-5
    )


def test_identity_measures_the_same():
    rng = np.random.default_rng(1)
    relevance, mask = rng.standard_normal((30, 20)).astype(np.float32), rng.random((30, 20)) < 0.1
    field = rng.random((30, 20)) < 0.9
    direct = localisation.measure(relevance, {"m": mask}, field)
    assert native.measure_native(relevance, {"m": mask}, np.eye(3), field=field) == direct


def test_pixels_the_model_never_saw_are_lost():
    # the model saw the middle 8 of 16 rows, at half the resolution
    matrix = transform((2, 2), (4.5, 0.5))
    seen = native.seen_by_model((4, 8), matrix, (16, 16))
    assert seen.sum() == 8 * 16
    assert seen[4:12].all()
    mask = np.zeros((16, 16), bool)
    mask[2:6, 3] = True
    measured = native.measure_native(np.ones((4, 8), np.float32), {"m": mask}, matrix)["m"]
    assert (measured.marked, measured.lost, measured.pixels) == (2, 2, 128)


def test_an_exact_lesion_map_scores_high_at_native_resolution():
    mask = np.zeros((200, 300), bool)
    mask[60:90, 120:170] = True
    matrix = transform((10, 10), (4.5, 4.5))
    exact = ndimage.zoom(mask.astype(np.float32), 0.1, order=0)
    measured = native.measure_native(exact, {"m": mask}, matrix)["m"]
    assert measured.mass_accuracy > 0.8
    assert measured.pointing_game == 1


def test_labels_and_masks_are_not_interpolated():
    labels = np.array([[1, 5], [9, 3]], np.int32)
    taken = native.to_native(labels, transform((3, 3), (1, 1)), (6, 6))
    assert set(np.unique(taken)) <= {1, 3, 5, 9}
    assert native.to_native(labels > 2, transform((3, 3), (1, 1)), (6, 6)).dtype == bool


@pytest.mark.parametrize("matrix", [np.eye(4), np.zeros((3, 3))])
def test_impossible_transforms_are_refused(matrix):
    with pytest.raises(MethodError):
        native.measure_native(np.ones((4, 4)), {"m": np.ones((8, 8), bool)}, matrix)


def test_no_mask_is_refused():
    with pytest.raises(MethodError, match="no expert mask"):
        native.measure_native(np.ones((4, 4)), {}, np.eye(3))


@pytest.mark.long
def test_ten_methods_and_four_lesion_types_of_a_full_photograph_take_less_than_a_minute():
    rng = np.random.default_rng(2)
    masks = {}
    for name in "abcd":
        masks[name] = np.zeros((2848, 4288), bool)
        for row, column in rng.integers(0, 2700, (80, 2)):
            masks[name][row : row + 20, column + 400 : column + 420] = True
    start = time.process_time()
    for _ in range(10):
        relevance = rng.standard_normal((448, 448)).astype(np.float32)
        native.measure_native(relevance, masks, transform((9.57, 9.57), (-716, 4)), tolerance=15)
    assert time.process_time() - start < 60
