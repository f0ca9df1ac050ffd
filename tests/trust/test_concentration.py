"""Concentration on pixels and on regions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.errors import MethodError
from pipeline.trust.concentration import gini, regions_to_share, relevance_in_regions

VALUES = arrays(
    np.float64, st.integers(1, 40), elements=st.floats(-1e6, 1e6).map(lambda v: v if abs(v) > 1e-6 else 0.0)
)
SIZES = st.lists(st.floats(0, 1e6), min_size=1, max_size=12)


def slow_gini(values):
    """Half the mean difference of all pairs over the mean."""
    size = [abs(v) for v in values.ravel()]
    differences = sum(abs(a - b) for a in size for b in size)
    return differences / (2 * len(size) ** 2 * (sum(size) / len(size)))


@given(VALUES)
def test_gini_equals_the_mean_difference_of_all_pairs(values):
    if not np.any(values):
        assert np.isnan(gini(values))
        return
    assert gini(values) == pytest.approx(slow_gini(values), abs=1e-9)


@given(VALUES, st.floats(1e-9, 1e9), st.randoms(use_true_random=False))
def test_gini_does_not_change_with_scale_sign_or_order(values, scale, random):
    moved = list(-scale * values)
    random.shuffle(moved)
    assert gini(np.array(moved)) == pytest.approx(gini(values), abs=1e-9, nan_ok=True)


@given(st.integers(1, 500), st.floats(-1e3, 1e3).filter(lambda v: abs(v) > 1e-3))
def test_gini_of_an_even_map_is_0_and_of_one_pixel_is_the_largest(n, value):
    assert gini(np.full(n, value)) == pytest.approx(0, abs=1e-9)
    assert gini(np.eye(1, n)[0] * value) == pytest.approx(1 - 1 / n, abs=1e-9)


def test_only_the_field_counts():
    values = np.array([[1.0, 1.0], [1e9, 1.0]])
    assert gini(values, np.array([[True, True], [False, True]])) == pytest.approx(0, abs=1e-12)


def slow_fewest(sizes, share):
    """Smallest subset, by trying all of them."""
    from itertools import combinations

    for k in range(len(sizes) + 1):
        if any(sum(part) >= share * sum(sizes) * (1 - 1e-12) for part in combinations(sizes, k)):
            return k
    raise AssertionError


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=8), st.sampled_from([0.3, 0.5, 0.8, 0.95, 1.0]))
def test_the_count_is_the_smallest_set_that_holds_the_share(sizes, share):
    relevance = dict(enumerate(sizes, 1))
    found = regions_to_share(relevance, dict.fromkeys(relevance, 1.0), share)
    assert found.needed == slow_fewest(sizes, share)
    assert found.present == len(sizes)


@given(SIZES, st.floats(0.01, 1), st.floats(0.01, 1), st.floats(1e-6, 1e6))
def test_a_larger_share_never_needs_fewer_regions_whatever_the_scale(sizes, one, two, scale):
    low, high = sorted((one, two))
    relevance = {k: (-1) ** k * v for k, v in enumerate(sizes, 1)}
    volume = dict.fromkeys(relevance, 1.0)
    counts = [regions_to_share(relevance, volume, share).needed for share in (low, high)]
    assert counts[0] <= counts[1] <= len(sizes)
    scaled = {k: scale * v for k, v in relevance.items()}
    if all(v == 0 or v > 1e-3 for v in sizes):
        assert abs(regions_to_share(scaled, volume, low).needed - counts[0]) <= 1  # rounding at the border


def test_an_even_map_needs_the_largest_regions():
    volume = {1: 60.0, 2: 25.0, 3: 10.0, 4: 5.0, 5: 0.0}
    found = regions_to_share(volume, volume)
    assert (found.needed, found.even, found.present) == (2, 2, 4)
    assert regions_to_share({1: 0.0, 2: 0.0, 3: -9.0, 4: 1.0, 5: 0.0}, volume).needed == 1
    assert regions_to_share(dict.fromkeys(volume, 0.0), volume).needed == 0


def test_relevance_of_both_signs_is_summed_by_region():
    labels = np.array([[0, 7, 7], [2, 2, 7]])
    values = np.array([[9.0, 1.0, -2.0], [0.5, 0.0, 3.0]])
    assert relevance_in_regions(values, labels) == ({2: 0.5, 7: 6.0}, {2: 2.0, 7: 3.0})


def test_what_does_not_fit_is_refused():
    with pytest.raises(MethodError):
        gini(np.ones(3), np.zeros(3, bool))
    with pytest.raises(MethodError, match="finite"):
        gini(np.array([1.0, np.nan]))
    with pytest.raises(MethodError):
        regions_to_share({1: 1.0}, {2: 1.0})
    with pytest.raises(MethodError):
        relevance_in_regions(np.ones(3), np.ones(4, int))
