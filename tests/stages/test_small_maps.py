"""Small maps: mass is kept, anatomy lines up, and what was stored is read again."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.record.small_maps import BRAIN, FUNDUS, enlarged, frame_of, packed, small_map, unpacked

SIZE = 64
TURNED = np.array([[0, -2.0, 0, 40], [2.0, 0, 0, -30], [0, 0, 2, -30], [0, 0, 0, 1]])


def circle(row=31.5, column=31.5, radius=30.0):
    rows, columns = np.mgrid[:SIZE, :SIZE]
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def ball(shape=(30, 40, 36)):
    axes = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in shape)]
    return sum(np.square(a) for a in axes) < 0.6


@pytest.mark.parametrize("field", [circle(), ball()])
def test_mass_is_kept_inside_and_outside(field):
    values = np.random.default_rng(0).random(field.shape)
    small = small_map(values, field)
    assert small.shape == (2, *(FUNDUS if field.ndim == 2 else BRAIN))
    assert small[0].sum() == pytest.approx(values[field].sum(), rel=1e-5)
    assert small[1].sum() == pytest.approx(values[~field].sum(), rel=1e-5)


def test_left_eyes_are_mirrored_inside_the_field_only():
    field = circle()
    values = np.zeros((SIZE, SIZE))
    values[20, 12] = 1.0  # on the retina
    values[62, 3] = 2.0  # the camera's label
    left = small_map(values[:, ::-1] * field + values * ~field, field, left=True)
    assert np.array_equal(left, small_map(values, field))


def test_fields_of_another_place_and_size_line_up():
    small = [
        small_map(
            np.where(circle(r, c, size), (np.mgrid[:SIZE, :SIZE][0] - r) / size > 0.5, 0), circle(r, c, size)
        )
        for r, c, size in ((31.5, 31.5, 30.0), (24.5, 27.5, 20.0))
    ]
    first, second = (s[0] / s[0].sum() for s in small)
    assert 0.5 * np.abs(first - second).sum() < 0.05  # total variation: pixels at the rim


def test_a_photograph_cut_at_the_top_gets_a_square():
    field = circle()
    field[:12] = False
    (top, bottom), (left, right) = frame_of(field)
    assert bottom - top == right - left == 60


def test_a_brain_is_turned_to_one_orientation():
    field = ball()
    values = np.random.default_rng(1).random(field.shape)
    straight = np.diag([2.0, 2, 2, 1])
    # world x runs against the second axis, world y along the first
    same = values.transpose(1, 0, 2)[::-1]
    there = small_map(same, field.transpose(1, 0, 2)[::-1], straight)
    assert np.abs(small_map(values, field, TURNED) - there).max() < 1e-6


@pytest.mark.parametrize(
    "affine", [None, np.array([[0, -2.0, 0, 40], [2.0, 0, 0, -30], [0, 0, 2, -30], [0, 0, 0, 1]])]
)
def test_what_is_enlarged_pools_to_the_same(affine):
    field = ball() if affine is not None else circle()
    small = small_map(np.random.default_rng(2).random(field.shape), field, affine)
    again = enlarged(small, field, affine)
    assert again.shape == field.shape
    assert again.sum() == pytest.approx(small.sum(), rel=0.02)
    assert np.corrcoef(small_map(again, field, affine).ravel(), small.ravel())[0, 1] > 0.98


def test_packed_is_unpacked_and_small():
    small = small_map(np.random.default_rng(3).random((30, 40, 36)), ball())
    text = packed(small)
    assert len(text) < 9000
    read = unpacked(text, BRAIN)
    assert np.abs(read - small / small.max()).max() < 5e-4
    assert not unpacked(packed(np.zeros((2, *FUNDUS), np.float32)), FUNDUS).any()


@pytest.mark.parametrize("text", ["", "not base64!", "AAAA"])
def test_what_was_not_packed_is_refused(text):
    with pytest.raises(ValueError, match=r"small map|reshape"):
        unpacked(text, FUNDUS)


def test_an_image_without_a_field_is_taken_whole():
    values = np.random.default_rng(4).random((SIZE, SIZE))
    small = small_map(values, np.zeros((SIZE, SIZE), bool))
    assert small[1].sum() == pytest.approx(values.sum(), rel=1e-5)
