"""The average mask of other patients: nothing of one's own in it, no lesion lost, whatever the grid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from pipeline.comparison import average, localisation


def scaled(factor, dimensions=2, mirrored=False):
    """Cells of `factor` pixels each: the centre of cell 0 lies at pixel (factor − 1) / 2."""
    transform = np.diag([*(float(factor),) * dimensions, 1.0])
    transform[:-1, -1] = (factor - 1) / 2
    if mirrored:
        transform[1] = [0, -factor, 12 * factor - 1 - (factor - 1) / 2]
    return transform


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("factor", [1, 3])
def test_gathering_is_the_mean_over_each_cell(dimensions, factor):
    shape = (12,) * dimensions
    mask = np.random.default_rng(0).random((12 * factor,) * dimensions) < 0.05
    blocks = mask.astype(float)
    for axis in range(dimensions):
        blocks = np.add.reduceat(blocks, np.arange(0, 12 * factor, factor), axis)
    made = average.gathered(mask, scaled(factor, dimensions), shape)
    assert made == pytest.approx(blocks / mask.sum(), abs=1e-7)


def test_a_lesion_of_one_pixel_is_not_lost_and_a_large_one_counts_no_more():
    small, large = np.zeros((120, 120), bool), np.zeros((120, 120), bool)
    small[57, 31] = True
    large[10:60, 10:60] = True
    one, two = (average.gathered(m, scaled(10), (12, 12)) for m in (small, large))
    assert one.sum() == pytest.approx(1) == two.sum()
    assert one[5, 3] == 1


def test_a_left_eye_is_mirrored_and_marks_beyond_the_grid_are_dropped():
    mask = np.zeros((120, 130), bool)
    mask[5, 2] = mask[5, 127] = True
    plain, mirrored = (average.gathered(mask, scaled(10, mirrored=m), (12, 12)) for m in (False, True))
    assert plain[0, 0] == mirrored[0, 11] == 0.5
    assert plain.sum() == 0.5


def test_no_marks_make_an_empty_map():
    assert not average.gathered(np.zeros((20, 20), bool), scaled(2), (10, 10)).any()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), owner=st.integers(0, 2))
def test_nothing_of_the_patient_is_in_the_map_and_all_of_the_others_is(seed, owner):
    rng = np.random.default_rng(seed)
    shares = {f"c{i}": (rng.random((9, 8)) < 0.3).astype(np.float32) for i in range(6)}
    patients = {case: int(rng.integers(3)) for case in shares}
    made = average.mean_mask_of_others(shares, patients, owner)
    others = [share for case, share in shares.items() if patients[case] != owner]
    if not others:
        assert made is None
        return
    assert made == pytest.approx(ndimage.gaussian_filter(np.mean(others, axis=0), 3.0), abs=1e-6)
    changed = {c: 1 - s if patients[c] == owner else s for c, s in shares.items()}
    assert np.array_equal(average.mean_mask_of_others(changed, patients, owner), made)


def test_it_lies_where_the_others_marks_lie_on_the_models_grid():
    field = np.zeros((60, 60), bool)
    field[5:55, 5:55] = True
    mask = np.zeros((240, 240), bool)
    mask[80:120, 140:180] = True
    common = average.gathered(mask, scaled(20), (12, 12))
    back = average.on_model_grid_of(common, np.linalg.inv(scaled(20)) @ scaled(4), field)
    here = ndimage.zoom(mask.astype(float), 0.25, order=0) > 0
    assert localisation.measure(back, {"m": here}, field)["m"].mass_accuracy > 0.6
    assert not back[~field].any()
    assert back.min() >= 0
