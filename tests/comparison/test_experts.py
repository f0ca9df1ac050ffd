"""Several experts and the ceiling that they set."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.comparison import experts
from pipeline.errors import CohortError


@pytest.fixture
def masks():
    made = {name: np.zeros((20, 20), bool) for name in "abc"}
    made["a"][5:10, 5:10] = True
    made["b"][6:11, 5:10] = True
    made["c"][15:17, 15:17] = True
    return made


def test_ceiling_is_expert_against_expert(masks):
    pair = {"a": masks["a"], "b": masks["b"]}
    agreement = experts.expert_agreement(pair)
    assert agreement.dice == pytest.approx(20 * 2 / 50)
    assert agreement.ceiling["mass_accuracy"] == pytest.approx(0.8)
    assert agreement.experts == 2


def test_identical_experts_reach_one_and_strangers_zero(masks):
    same = experts.expert_agreement({"x": masks["a"], "y": masks["a"]})
    assert (same.dice, same.ceiling["rank_accuracy"]) == (1, 1)
    apart = experts.expert_agreement({"x": masks["a"], "y": masks["c"]})
    assert (apart.dice, apart.ceiling["mass_accuracy"]) == (0, 0)


def test_an_expert_who_marked_nothing_is_counted_and_not_scored(masks):
    agreement = experts.expert_agreement({"a": masks["a"], "n": masks["a"] & False})
    assert (agreement.experts, agreement.silent) == (1, 1)
    assert np.isnan(agreement.dice)
    assert "fewer than two" in agreement.excluded


def test_the_field_limits_what_counts(masks):
    field = np.zeros((20, 20), bool)
    field[:10] = True
    agreement = experts.expert_agreement({"a": masks["a"], "b": masks["b"]}, field)
    assert agreement.dice == pytest.approx(40 / 45)


def test_consensus_is_what_at_least_half_marked(masks):
    assert experts.consensus(list(masks.values())).sum() == 20
    assert experts.consensus([masks["a"], masks["c"]]).sum() == 29
    assert np.array_equal(experts.consensus([masks["a"]]), masks["a"])
    with pytest.raises(CohortError):
        experts.consensus([])
