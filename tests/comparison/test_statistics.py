"""Intervals and tests against independent computations, their laws and their coverage."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pipeline.comparison import hypotheses, roc, statistics
from pipeline.errors import AuditError

finite = st.floats(-1e3, 1e3, allow_subnormal=False)


def test_the_interval_contains_students_t_and_is_seeded():
    values = np.random.default_rng(0).exponential(size=20)
    estimate = statistics.mean_interval(values, seed=3)
    low, high = stats.t.interval(0.95, 19, values.mean(), stats.sem(values))
    assert estimate.value == pytest.approx(values.mean(), abs=1e-12)
    assert estimate.low <= low + 1e-12
    assert estimate.high > high  # a skewed sample reaches further upwards
    assert estimate.high - estimate.value <= 3 * (high - values.mean()) + 1e-12
    assert estimate == statistics.mean_interval(values, seed=3)
    assert estimate.n == 20


@settings(max_examples=60, deadline=None)
@given(st.lists(finite, min_size=6, max_size=25), finite, st.floats(0.1, 50))
def test_the_interval_moves_and_stretches_with_the_values(values, shift, scale):
    one = statistics.mean_interval(values, resamples=200)
    two = statistics.mean_interval([shift + scale * v for v in values], resamples=200)
    size = max(1.0, abs(shift), scale * max(map(abs, values)))
    assert one.low <= one.value <= one.high
    assert two.value == pytest.approx(shift + scale * one.value, abs=1e-9 * size)
    if np.ptp(values) > 1e-3:
        assert two.low == pytest.approx(shift + scale * one.low, abs=1e-5 * size)


def test_cases_of_one_patient_count_once():
    rng = np.random.default_rng(1)
    values, patients = rng.standard_normal(12), [f"p{i}" for i in range(12)]
    once = statistics.mean_interval(values, patients)
    twice = statistics.mean_interval(np.repeat(values, 2), np.repeat(patients, 2))
    assert (once.value, once.low, once.high, once.n) == pytest.approx(
        (twice.value, twice.low, twice.high, twice.n)
    )


def test_exclusions_are_counted_and_few_patients_get_no_interval():
    estimate = statistics.mean_interval([1, 2, np.nan, 3, 4, np.nan, 5])
    assert (estimate.n, estimate.excluded, estimate.value) == (5, 2, 3)
    assert np.isnan(estimate.low)
    assert "6 are needed" in estimate.method
    assert str(estimate) == "3, n = 5, 2 excluded"
    nothing = statistics.mean_interval([np.nan])
    assert (nothing.n, nothing.excluded) == (0, 1)
    assert np.isnan(nothing.value)


def test_bounds_cut_the_interval_and_constants_have_none_to_cut():
    values = [0.99, 1.0, 1.0, 1.0, 0.8, 1.0, 1.0]
    assert statistics.mean_interval(values).high > 1
    assert statistics.mean_interval(values, bounds=(0, 1)).high == 1
    constant = statistics.mean_interval([0.3] * 8)
    assert (constant.low, constant.high) == pytest.approx((0.3, 0.3))


@pytest.mark.parametrize("hits", [0, 1, 7, 12])
def test_rates_are_clopper_pearson(hits):
    estimate = statistics.rate_interval([1] * hits + [0] * (12 - hits))
    exact = stats.binomtest(hits, 12).proportion_ci(0.95, "exact")
    assert (estimate.low, estimate.high) == pytest.approx((exact.low, exact.high), abs=1e-12)


def test_two_eyes_of_a_patient_are_not_two_patients():
    rng = np.random.default_rng(2)
    per_patient = rng.random(20) < 0.6
    same = statistics.rate_interval(np.repeat(per_patient, 2), np.repeat(np.arange(20), 2))
    alone = statistics.rate_interval(per_patient)
    naive = statistics.rate_interval(np.repeat(per_patient, 2))
    assert same.n == 20
    assert same.high - same.low > 1.2 * (naive.high - naive.low)
    assert same.high - same.low == pytest.approx(alone.high - alone.low, rel=0.1)
    perfect = statistics.rate_interval([1] * 20, np.repeat(np.arange(10), 2))
    assert perfect.low == pytest.approx(statistics.rate_interval([1] * 10).low, rel=0.12)


def test_what_is_no_rate_is_refused():
    with pytest.raises(AuditError, match="outside 0–1"):
        statistics.rate_interval([0, 1.2])
    with pytest.raises(AuditError, match="patients"):
        statistics.mean_interval([1, 2, 3], ["a", "b"])


def test_accuracy_counts_right_decisions():
    estimate = statistics.accuracy_interval([1, 0, 1, 1, 0, 0, 1], [1, 0, 0, 1, 0, 0, 1])
    assert estimate.value == pytest.approx(6 / 7)


def test_bca_agrees_with_scipy():
    values = np.random.default_rng(4).exponential(size=40)
    peer = stats.bootstrap(
        (values,), np.mean, n_resamples=3000, method="BCa", random_state=np.random.default_rng(5)
    )
    low, high = statistics.bca(values.mean(), peer.bootstrap_distribution, (values.sum() - values) / 39)
    assert (low, high) == pytest.approx(tuple(peer.confidence_interval), abs=1e-9)


# AUC


def test_auc_is_scikit_learns():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(7)
    scores, truth = np.round(rng.standard_normal(60), 1), rng.random(60) < 0.4
    assert roc.auc(scores, truth) == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert np.isnan(roc.auc(scores, np.ones(60, bool)))


def test_delong_variance_equals_the_slow_definition():
    rng = np.random.default_rng(8)
    scores, truth = np.round(rng.standard_normal(40), 1) + np.repeat([0, 1], 20), np.repeat([False, True], 20)
    psi = np.array([[(a > b) + 0.5 * (a == b) for b in scores[~truth]] for a in scores[truth]])
    error = np.sqrt(psi.mean(axis=1).var(ddof=1) / 20 + psi.mean(axis=0).var(ddof=1) / 20)
    value = psi.mean()
    half = 1.959964 * error / (value * (1 - value))
    expected = 1 / (1 + np.exp(-(np.log(value / (1 - value)) + np.array([-half, half]))))
    estimate = roc.auc_interval(scores, truth)
    assert (estimate.low, estimate.high) == pytest.approx(tuple(expected), abs=1e-6)


def test_a_perfect_separation_still_has_an_interval():
    estimate = roc.auc_interval(np.arange(40), np.arange(40) >= 20)
    assert (estimate.value, estimate.high) == (1, 1)
    assert 0.8 < estimate.low < 0.95
    mirrored = roc.auc_interval(-np.arange(40), np.arange(40) >= 20)
    assert mirrored.high == pytest.approx(1 - estimate.low, abs=1e-9)


def test_auc_by_patient_is_wider_than_by_case_and_few_get_none():
    rng = np.random.default_rng(9)
    scores, truth = rng.standard_normal(30) + np.repeat([0, 1], 15), np.repeat([False, True], 15)
    by_patient = roc.auc_interval(np.repeat(scores, 2), np.repeat(truth, 2), np.repeat(np.arange(30), 2))
    by_case = roc.auc_interval(np.repeat(scores, 2), np.repeat(truth, 2))
    assert by_patient.high - by_patient.low > 1.2 * (by_case.high - by_case.low)
    assert "5 patients" in roc.auc_interval([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], [1] * 5 + [0] * 6).method
    with pytest.raises(AuditError):
        roc.auc_interval([1, 2], [True])


# Tests


def test_the_paired_test_is_exact():
    differences = np.array([0.9, -0.2, 0.4, 1.1, 0.3, -0.1, 0.8])
    sums = [abs(np.dot(signs, differences)) for signs in itertools.product([-1, 1], repeat=7)]
    expected = np.mean(np.array(sums) >= abs(differences.sum()) - 1e-12)
    assert hypotheses.paired_test(differences, np.zeros(7)).p == pytest.approx(expected, abs=1e-12)


def test_one_sided_is_half_of_two_sided_and_ties_do_not_cheat():
    rng = np.random.default_rng(10)
    a = rng.standard_normal(10) + 0.5
    two, one = (hypotheses.paired_test(a, np.zeros(10), alternative=x).p for x in ("two-sided", "greater"))
    assert one == pytest.approx(two / 2)
    assert hypotheses.paired_test(np.ones(8), np.ones(8)).p == 1


def test_random_sign_changes_agree_with_all_of_them(monkeypatch):
    rng = np.random.default_rng(11)
    a = rng.standard_normal(12) + 0.4
    exact = hypotheses.paired_test(a, np.zeros(12)).p
    monkeypatch.setattr(hypotheses, "EXACT_UP_TO", 5)
    assert hypotheses.paired_test(a, np.zeros(12)).p == pytest.approx(exact, abs=0.015)


def test_groups_are_compared_by_patient():
    rng = np.random.default_rng(12)
    a, b = rng.standard_normal(15) + 2, rng.standard_normal(12)
    test = hypotheses.permutation_test(a, b)
    assert test.p < 0.001
    welch = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert (test.difference.low, test.difference.high) == pytest.approx((welch.low, welch.high), abs=1e-9)
    assert hypotheses.permutation_test(a, a[::-1]).p > 0.9
    few = hypotheses.permutation_test(a[:5], b)
    assert np.isnan(few.p)
    assert "5 and 12 patients" in few.method


def test_benjamini_hochberg_by_hand():
    adjusted = hypotheses.benjamini_hochberg([0.01, np.nan, 0.04, 0.03, 0.5])
    assert adjusted == pytest.approx([0.04, np.nan, 0.04 * 4 / 3, 0.04 * 4 / 3, 0.5], nan_ok=True)
    assert hypotheses.benjamini_hochberg([np.nan]).shape == (1,)


# Coverage, a small version of benchmarks/comparison.py


@pytest.mark.parametrize("n", [12, 60])
@pytest.mark.parametrize("kind", ["normal", "heavy", "skewed"])
def test_means_are_covered(n, kind):
    rng = np.random.default_rng(13)
    draw, truth = {
        "normal": (rng.standard_normal, 0.0),
        "heavy": (lambda size: rng.standard_t(3, size), 0.0),
        "skewed": (lambda size: rng.exponential(size=size), 1.0),
    }[kind]
    inside = 0
    for values in draw((300, n)):
        estimate = statistics.mean_interval(values, resamples=500)
        inside += estimate.low <= truth <= estimate.high
    assert 0.92 <= inside / 300 <= 0.99


@pytest.mark.parametrize("n", [12, 60])
def test_rates_are_covered_with_two_eyes_a_patient(n):
    rng = np.random.default_rng(14)
    inside = 0
    for _ in range(300):
        chance = rng.beta(3, 2, n)
        hits = rng.random((n, 2)) < chance[:, None]
        estimate = statistics.rate_interval(hits.ravel(), np.repeat(np.arange(n), 2))
        inside += estimate.low <= 0.6 <= estimate.high
    assert inside / 300 >= 0.93


@pytest.mark.parametrize("n", [12, 40])
def test_the_paired_test_keeps_its_level(n):
    rng = np.random.default_rng(15)
    rejected = np.mean(
        [
            hypotheses.paired_test(rng.standard_t(3, n), rng.standard_t(3, n), permutations=999, seed=0).p
            <= 0.05
            for _ in range(400)
        ]
    )
    assert 0.025 <= rejected <= 0.08
