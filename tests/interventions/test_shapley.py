"""Shapley values: the axioms, a brute force over orders, and known functions."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.errors import MethodError
from pipeline.interventions import shapley_values


def games(most=5):
    sizes = st.integers(1, most).map(lambda k: 1 << k)
    return sizes.flatmap(lambda n: arrays(np.float64, n, elements=st.floats(-50, 50)))


def brute_force(values):
    """Mean gain over all orders in which the factors can join."""
    k = len(values).bit_length() - 1
    gains = np.zeros(k)
    orders = list(permutations(range(k)))
    for order in orders:
        coalition = 0
        for factor in order:
            gains[factor] += values[coalition | 1 << factor] - values[coalition]
            coalition |= 1 << factor
    return gains / len(orders)


@given(games())
def test_they_equal_the_mean_gain_over_all_orders(values):
    np.testing.assert_allclose(shapley_values(values), brute_force(values), atol=1e-9)


@given(games(6))
def test_they_sum_to_the_gap(values):
    assert shapley_values(values).sum() == pytest.approx(values[-1] - values[0], abs=1e-9)


@given(games(4), st.integers(0, 3))
def test_a_factor_that_changes_nothing_gets_nothing(values, factor):
    k = len(values).bit_length() - 1
    factor %= k
    still = values[np.arange(len(values)) & ~(1 << factor)]
    assert shapley_values(still)[factor] == pytest.approx(0, abs=1e-12)


@given(games(4))
def test_two_factors_that_do_the_same_get_the_same(values):
    k = len(values).bit_length() - 1
    both = np.array([values[min(bin(s).count("1"), len(values) - 1)] for s in range(1 << k)])
    found = shapley_values(both)
    np.testing.assert_allclose(found, found[0], atol=1e-9)


def test_many_games_at_once_and_a_known_function():
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(7, 4))
    bits = (np.arange(16)[:, None] >> np.arange(4)) & 1
    additive = weights @ bits.T
    product = 3.0 * bits[:, 0] * bits[:, 1]
    expected = weights + np.array([1.5, 1.5, 0, 0])
    np.testing.assert_allclose(shapley_values(additive + product), expected, atol=1e-12)


@pytest.mark.parametrize("size", [1, 3, 12, 128])
def test_what_is_no_game_is_refused(size):
    with pytest.raises(MethodError, match="coalitions"):
        shapley_values(np.zeros(size))
