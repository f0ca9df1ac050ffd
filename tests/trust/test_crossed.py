"""An interval over patients and draws holds for other patients and other draws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipeline.comparison import mean_interval
from pipeline.trust.crossed import _standard_error, crossed_interval
from pipeline.trust.randomisation import left_over_draws


def slow_standard_error(table):
    """Mean squares of a table without replication, written out; Satterthwaite 1946."""
    d, n = table.shape
    grand = table.mean()
    draws = n * sum((row.mean() - grand) ** 2 for row in table) / (d - 1)
    patients = d * sum((column.mean() - grand) ** 2 for column in table.T) / (n - 1)
    rest = sum(
        (table[i, j] - table[i].mean() - table[:, j].mean() + grand) ** 2 for i in range(d) for j in range(n)
    ) / ((d - 1) * (n - 1))
    if draws <= rest:
        return (patients / (n * d)) ** 0.5, n - 1
    if patients <= rest:
        return (draws / (n * d)) ** 0.5, d - 1
    both = patients + draws - rest
    freedom = both**2 / (patients**2 / (n - 1) + draws**2 / (d - 1) + rest**2 / ((d - 1) * (n - 1)))
    return (both / (n * d)) ** 0.5, freedom


@given(st.integers(0, 10**6), st.floats(0, 2), st.floats(0, 2), st.integers(6, 9))
def test_the_standard_error_is_that_of_the_mean_squares(seed, of_draws, of_patients, patients):
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(3, patients)) + of_draws * rng.normal(size=(3, 1))
    table += of_patients * rng.normal(size=(1, patients))
    assert _standard_error(table) == pytest.approx(slow_standard_error(table), rel=1e-9)


@pytest.mark.parametrize("spread", [(0, 1, 1), (1, 1, 1), (2, 1, 1), (1, 0, 1)])
def test_it_covers_other_patients_and_other_draws(spread):
    """At least 92 % in 600 tables of 3 draws and 6 patients; patients alone reach 62 to 95 %."""
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(600):
        of_draws, of_patients, rest = spread
        table = of_draws * rng.normal(size=(3, 1)) + of_patients * rng.normal(size=(1, 6))
        error, freedom = _standard_error(table + (noise := rest * rng.normal(size=(3, 6))))
        held += abs((table + noise).mean()) <= error * stats.t.ppf(0.975, freedom)
    assert held / 600 > 0.92


@pytest.mark.parametrize(("of_cascades", "of_pairs"), [(0.08, 0.03), (0.08, 0.08), (0.0, 0.0)])
def test_what_is_left_is_covered_though_draws_take_part_in_cascades_and_pairs(of_cascades, of_pairs):
    """At least 91 % in 400 audits of 6 patients; patients alone reach 50 to 95 %."""
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(400):
        alike = 0.2 + of_cascades * rng.normal(size=(3, 1, 1)) + 0.05 * rng.normal(size=(3, 1, 6))
        alike += 0.05 * rng.normal(size=6)
        each = of_pairs * rng.normal(size=3)
        pairs = 0.1 + (each[:, None] + each)[..., None] + 0.05 * rng.normal(size=(3, 3, 6))
        left, draws = left_over_draws(alike, pairs)
        error, freedom = _standard_error(draws)
        held += abs(left.mean() - 0.1 / 0.9) <= error * stats.t.ppf(0.975, freedom)
    assert held / 400 > 0.91


def test_it_is_never_narrower_than_that_over_patients_and_says_what_it_holds():
    rng = np.random.default_rng(2)
    values = rng.normal(size=8)
    same = crossed_interval(values, np.tile(values, (3, 1)))
    alone = mean_interval(values)
    assert (same.value, same.n) == (alone.value, 8)
    assert same.low <= alone.low < alone.high <= same.high
    wide = crossed_interval(values, values + 3 * np.array([[-1.0], [0.0], [1.0]]))
    assert wide.high - wide.low > 3 * (same.high - same.low)
    assert "3 draws" in wide.method
    assert "draws" not in crossed_interval(values, values[None]).method


def test_a_patient_with_a_number_missing_is_left_out_and_few_have_no_interval():
    table = np.arange(21.0).reshape(3, 7) % 5
    table[1, 2] = np.nan
    found = crossed_interval(np.arange(7.0), table)
    assert (found.n, found.excluded) == (6, 1)
    assert found.value == pytest.approx(np.delete(np.arange(7.0), 2).mean())
    few = crossed_interval(np.arange(5.0), np.zeros((3, 5)))
    assert np.isnan(few.low)
