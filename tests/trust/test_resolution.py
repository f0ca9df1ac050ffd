"""Effective resolution: the autocorrelation's width against slow sums, and against widths that are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from pipeline.errors import MethodError
from pipeline.trust.resolution import autocorrelation_width

SEEDS = st.integers(0, 2**32 - 1)


def slow_width(values, field, axis):
    """Pair by pair along an axis."""
    values, field = np.moveaxis(values, axis, 0), np.moveaxis(field, axis, 0)
    mean = sum(values[field]) / field.sum()
    level, before = None, None
    for distance in range(len(values)):
        products, pairs = 0.0, 0
        for place in np.argwhere(field):
            there = (place[0] + distance, *place[1:])
            if there[0] < len(values) and field[there]:
                products += (values[tuple(place)] - mean) * (values[there] - mean)
                pairs += 1
        if not pairs:
            before = None
            continue
        level = products if level is None else level
        now = products / pairs / (level / field.sum())
        if now <= 0.5:
            return float("nan") if before is None else 2 * (distance - 1 + (before - 0.5) / (before - now))
        before = now
    return float("nan")


@given(SEEDS, st.sampled_from([(9, 12), (5, 6, 4)]), st.floats(0, 1.5), st.booleans())
def test_width_equals_the_slow_sum_over_pairs(seed, shape, blur, whole):
    rng = np.random.default_rng(seed)
    values = ndimage.gaussian_filter(rng.normal(size=shape), blur)
    field = np.ones(shape, bool) if whole else rng.random(shape) < 0.8
    field.flat[:2] = True
    found = autocorrelation_width(values, field)
    slow = [slow_width(values, field, axis) for axis in range(len(shape))]
    assert found.axes == pytest.approx(slow, rel=1e-9, nan_ok=True)


@pytest.mark.parametrize("sigma", [1.5, 3.0])
def test_smoothed_noise_has_the_width_of_its_gaussian(sigma):
    noise = np.random.default_rng(1).normal(size=(512, 512))
    values = ndimage.gaussian_filter(noise, sigma, mode="wrap")
    found = autocorrelation_width(values)
    assert found.pixels == pytest.approx(4 * np.sqrt(np.log(2)) * sigma, rel=0.04)


@pytest.mark.parametrize("cell", [1, 4, 16])
def test_independent_cells_have_their_own_width(cell):
    rng = np.random.default_rng(cell)
    values = np.kron(rng.normal(size=(512 // cell, 512 // cell)), np.ones((cell, cell)))
    assert autocorrelation_width(values).pixels == pytest.approx(cell, rel=0.12)


def test_width_does_not_depend_on_the_shape_of_the_field():
    rows, columns = np.ogrid[:256, :256]
    field = (rows - 128) ** 2 + (columns - 128) ** 2 < 110**2
    values = ndimage.gaussian_filter(np.random.default_rng(2).normal(size=(256, 256)), 2.0, mode="wrap")
    whole = autocorrelation_width(values).pixels
    inside = autocorrelation_width(np.where(field, values, 1e6), field).pixels
    assert inside == pytest.approx(whole, rel=0.05)


@given(SEEDS, st.floats(1e-12, 1e12), st.floats(-5, 5), st.sampled_from([-1.0, 1.0]))
def test_width_does_not_change_with_scale_shift_or_sign(seed, scale, shift, sign):
    values = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(20, 24)), 1.0)
    plain = autocorrelation_width(values).axes
    assert autocorrelation_width(sign * scale * (values + shift)).axes == pytest.approx(
        plain, rel=1e-6, nan_ok=True
    )


def test_width_is_in_the_unit_of_the_spacing():
    values = ndimage.gaussian_filter(np.random.default_rng(3).normal(size=(64, 64)), (1.0, 2.0))
    found = autocorrelation_width(values, spacing=(2.0, 0.5))
    assert found.size == pytest.approx(np.sqrt(2.0 * found.axes[0] * 0.5 * found.axes[1]))
    assert found.pixels == pytest.approx(np.sqrt(np.prod(found.axes)))


def test_what_has_no_width_is_not_a_number():
    assert np.isnan(autocorrelation_width(np.full((8, 8), 3.0)).pixels)
    one = autocorrelation_width(np.arange(8.0)[:, None] * np.ones((1, 8)))
    assert np.isnan(one.axes[1])  # the same along the whole axis
    assert np.isnan(one.pixels)


def test_a_map_that_cannot_be_measured_is_refused():
    with pytest.raises(MethodError):
        autocorrelation_width(np.ones((4, 4)), np.zeros((4, 4), bool))
    with pytest.raises(MethodError):
        autocorrelation_width(np.ones((4, 4)), np.ones((4, 5), bool))
    with pytest.raises(MethodError, match="finite"):
        autocorrelation_width(np.array([[1.0, np.inf]]))
