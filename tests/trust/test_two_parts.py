"""The cut in two against a slow reference, its laws, and how often cases of one kind are called two."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from pipeline.trust.two_parts import (
    HALF,
    SMALLEST,
    WIDTH,
    components,
    cut_in_two,
    rotated,
    separation_of,
)

SEEDS = st.integers(0, 10_000)
KINDS = ("normal", "elongated", "heavy tails", "skewed", "skewed and elongated")


def of_one_kind(kind, seed, cases, cells=40):
    """Draw cases of one kind: normal, of Student's t with 4 degrees of freedom, or exponential."""
    rng = np.random.default_rng([seed, cases])
    scale = np.r_[6.0, 2.0, np.full(cells - 2, 0.3)] if "elongated" in kind else rng.gamma(1.0, 1.0, cells)
    if "skewed" in kind:
        return rng.gamma(1.0, 1.0, (cases, cells)) * scale
    heavy = np.sqrt(rng.chisquare(4, (cases, 1)) / 4) if kind == "heavy tails" else 1.0
    return rng.standard_normal((cases, cells)) * scale / heavy


def slow_within(places, second):
    """Squares about the parts' means over those about the common mean, one case after another."""
    parts = [places[second], places[~second]]
    inside = sum(float(((case - part.mean(axis=0)) ** 2).sum()) for part in parts for case in part)
    return inside / sum(float((case**2).sum()) for case in places)


def slow_valley(places, second):
    one, other = places[~second].mean(axis=0), places[second].mean(axis=0)
    line = (other - one) / np.linalg.norm(other - one)
    half = np.linalg.norm(other - one) / 2

    def density(place):
        away = [(float((case - (one + other) / 2) @ line) / half - place) / WIDTH for case in places]
        return sum(np.exp(-(a**2) / 2) for a in away)

    return density(0) / min(density(-1), density(1))


@given(SEEDS, st.integers(6, 9), st.sampled_from(KINDS))
@settings(max_examples=25, deadline=None)
def test_a_cut_is_that_of_the_slow_reference_and_no_better_than_the_best(seed, cases, kind):
    places = components(of_one_kind(kind, seed, cases))
    found = cut_in_two(places[None])
    second = found.second[0]
    assert SMALLEST <= second.sum() <= cases / 2
    assert abs(found.within[0] - slow_within(places, second)) < 1e-9
    assert abs(found.valley[0] - slow_valley(places, second)) < 1e-9
    sizes = range(SMALLEST, cases // 2 + 1)
    every = [np.isin(np.arange(cases), c) for size in sizes for c in combinations(range(cases), size)]
    assert found.within[0] >= min(slow_within(places, side) for side in every) - 1e-9


@given(SEEDS, st.integers(7, 20), st.integers(30, 60))
@settings(max_examples=15, deadline=None)
def test_two_far_groups_are_cut_exactly(seed, few, cases):
    features = np.random.default_rng(seed).standard_normal((cases, 20))
    features[:few, 0] += 30
    found = separation_of(features, seed, 19)
    assert np.array_equal(found.second, np.arange(cases) < few) or few * 2 >= cases
    assert found.valley < HALF
    assert found.p == 1 / 20


@given(SEEDS, st.integers(12, 25))
@settings(max_examples=20, deadline=None)
def test_rotated_cohorts_keep_mean_and_variances(seed, cases):
    places = components(of_one_kind("skewed", seed, cases))
    drawn = rotated(places, 4, np.random.default_rng(seed))
    assert np.abs(drawn.mean(axis=1)).max() < 1e-9
    for cohort in drawn:
        assert np.abs(cohort.T @ cohort - places.T @ places).max() < 1e-9 * (places**2).sum()


def test_rotations_are_uniform():
    """Where a case lies on a component goes by chance: mean 0, and the same variance for all."""
    drawn = rotated(components(of_one_kind("elongated", 0, 12)), 4000, np.random.default_rng(0))[:, :, 0]
    drawn /= np.linalg.norm(drawn[0])
    assert np.abs(drawn.mean(axis=0)).max() < 5 * np.sqrt(1 / 12 / 4000)
    assert np.abs(drawn.var(axis=0) - 1 / 12).max() < 0.1 / 12


@given(SEEDS)
@settings(max_examples=10, deadline=None)
def test_scale_shift_rotation_and_order_do_not_matter(seed):
    rng = np.random.default_rng(seed)
    features = of_one_kind("normal", seed, 15)
    turn = np.linalg.qr(rng.standard_normal((40, 40)))[0]
    order = rng.permutation(15)
    first = cut_in_two(components(features)[None])
    other = cut_in_two(components(7 * features[order] @ turn + 3)[None])
    assert first.within[0] == pytest.approx(other.within[0], abs=1e-9)
    assert np.array_equal(first.second[0][order], other.second[0]) or first.second.sum() * 2 == 15


def test_the_rule_of_besag_and_clifford_does_not_depend_on_batches(monkeypatch):
    features = of_one_kind("normal", 5, 20)
    found = separation_of(features, 3, 199)
    monkeypatch.setattr("pipeline.trust.two_parts.BATCH", 7)
    assert separation_of(features, 3, 199).p == found.p


def test_without_a_valley_p_is_one():
    found = [separation_of(of_one_kind("skewed and elongated", seed, 60), seed, 99) for seed in range(5)]
    assert all((made.p == 1) == (made.valley > HALF) for made in found)
    assert any(made.p == 1 for made in found)


def separate(kinds, sizes, cohorts):
    return sum(
        separation_of(of_one_kind(kind, seed, sizes[seed % len(sizes)]), seed, 99).p <= 0.05
        for kind in kinds
        for seed in range(cohorts)
    )


def test_one_kind_is_called_two_in_at_most_five_of_a_hundred():
    """Normal, heavy-tailed and skewed cohorts of 12 to 30 cases; 99 % bound of what 5 in 100 gives."""
    assert separate(KINDS, (12, 14, 18, 30), 36) <= binom.ppf(0.99, 36 * len(KINDS), 0.05)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_keeps_the_level(kind):
    assert separate([kind], (12, 14, 18, 30), 500) <= binom.ppf(0.99, 500, 0.05)


def test_thirteen_cases_are_enough_for_a_clear_cue():
    """Eight of thirteen maps have a quarter of their relevance in one cell."""
    found = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        shares = rng.gamma(4.0, 1.0, (13, 60)) * rng.gamma(2.0, 1.0, 60)
        shares /= shares.sum(axis=1, keepdims=True)
        shares[:8, 3] += 0.33
        features = np.sqrt(shares / shares.sum(axis=1, keepdims=True))
        made = separation_of(features, seed, 199)
        found += made.p <= 0.01 and np.array_equal(made.second, np.arange(13) >= 8)
    assert found >= 9
