"""Region sums, ranks and their agreement with expectation."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.comparison import regions
from pipeline.errors import AnatomyError, MethodError

TABLE = {1: "Hippocampus_L", 2: "Amygdala_L", 5: "Cerebellum", 9: "Absent"}


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 1, 2, 5], (8, 9, 7)).astype(np.int32)
    return rng.standard_normal(labels.shape), labels


def test_sums_equal_a_slow_loop(case):
    relevance, labels = case
    scores = regions.region_scores(relevance, labels, TABLE, voxel_volume=8.0)
    assert scores.names == ("Hippocampus_L", "Amygdala_L", "Cerebellum", "Absent")
    for i, label in enumerate((1, 2, 5)):
        voxels = [relevance[p] for p in np.ndindex(labels.shape) if labels[p] == label]
        assert scores.signed[i] == pytest.approx(sum(voxels), abs=1e-9)
        assert scores.total[i] == pytest.approx(sum(max(v, 0) for v in voxels), abs=1e-9)
        assert scores.density[i] == pytest.approx(scores.total[i] / (8 * len(voxels)), abs=1e-9)
    assert np.isnan(scores.density[3])
    assert np.isnan(scores.rank[3])


def test_big_regions_do_not_win_by_size():
    labels = np.repeat([1, 2], [90, 10]).reshape(10, 10)
    relevance = np.where(labels == 1, 1.0, 3.0)
    scores = regions.region_scores(relevance, labels, {1: "big", 2: "small"})
    assert scores.total[0] > scores.total[1]
    assert list(scores.rank) == [2, 1]


def test_agreement_of_a_perfect_and_a_flat_map(case):
    _, labels = case
    expected, controls = ["Hippocampus_L", "Amygdala_L", "Absent"], ["Cerebellum"]
    perfect = regions.agreement(
        regions.region_scores(np.isin(labels, [1, 2]).astype(float), labels, TABLE), expected, controls
    )
    assert (perfect.precision, perfect.mean_rank, perfect.missing) == (1.0, 1.5, ("Absent",))
    assert perfect.log2_density_lift > 0 > perfect.control_lift
    flat = regions.agreement(regions.region_scores(np.ones(labels.shape), labels, TABLE), expected, controls)
    assert flat.precision == pytest.approx(flat.chance)
    assert flat.log2_density_lift == pytest.approx(0, abs=1e-9)
    assert flat.control_lift == pytest.approx(0, abs=1e-9)


def test_nothing_to_measure_is_said(case):
    _, labels = case
    zero = regions.agreement(regions.region_scores(np.zeros(labels.shape), labels, TABLE), ["Amygdala_L"])
    assert "no positive relevance" in zero.excluded
    assert np.isnan(zero.precision)
    none = regions.agreement(regions.region_scores(np.ones(labels.shape), labels, TABLE), ["Absent"])
    assert "no expected region" in none.excluded


def test_ranks_find_the_planted_order_with_intervals():
    rng = np.random.default_rng(1)
    labels = rng.integers(1, 5, (6, 6, 6))
    table = {1: "a", 2: "b", 3: "c", 4: "d"}
    cases = [
        regions.region_scores(np.abs(rng.standard_normal(labels.shape)) * labels**2, labels, table)
        for _ in range(12)
    ]
    ranks = regions.rank_intervals(cases, seed=3)
    assert list(ranks) == ["d", "c", "b", "a"]
    assert [rank.value for rank in ranks.values()] == [1, 2, 3, 4]
    assert all(rank.low <= rank.value <= rank.high for rank in ranks.values())
    assert regions.rank_intervals(cases, seed=3) == ranks


def test_scale_of_a_case_does_not_weigh():
    labels = np.repeat([1, 2], 50).reshape(10, 10)
    table = {1: "a", 2: "b"}
    one = regions.region_scores(np.where(labels == 1, 2.0, 1.0), labels, table)
    loud = regions.region_scores(np.where(labels == 1, 1e6, 1.5e6), labels, table)
    assert list(regions.rank_intervals([one, one, one, loud])) == ["a", "b"]


def test_few_patients_get_no_interval_and_silent_cases_are_counted():
    labels = np.repeat([1, 2], 50).reshape(10, 10)
    good = regions.region_scores(labels.astype(float), labels, {1: "a", 2: "b"})
    silent = regions.region_scores(np.zeros(labels.shape), labels, {1: "a", 2: "b"})
    ranks = regions.rank_intervals([good, good, silent], ["p", "p", "q"])
    assert np.isnan(ranks["a"].low)
    assert (ranks["a"].n, ranks["a"].excluded) == (1, 1)


def test_wrong_input_is_refused(case):
    relevance, labels = case
    with pytest.raises(MethodError):
        regions.region_scores(relevance[1:], labels, TABLE)
    with pytest.raises(AnatomyError, match="does not name"):
        regions.region_scores(relevance, labels, {1: "only"})
    one = regions.region_scores(relevance, labels, TABLE)
    two = regions.region_scores(relevance, labels, {**TABLE, 11: "more"})
    with pytest.raises(AnatomyError, match="different regions"):
        regions.rank_intervals([one, two])
