"""What groups have more often: exact against scipy on counts, direction, correction, and privacy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import false_discovery_control, fisher_exact, hypergeom, mannwhitneyu

from pipeline.trust.over_represented import over_represented

GROUPS = np.array([0] * 10 + [1] * 14)


def found_in(levels=None, numbers=None, measures=None, smallest=3):
    return over_represented(GROUPS, levels or {}, numbers or {}, measures or {}, smallest=smallest)


def test_a_site_that_is_all_in_one_group():
    site = ["b"] * 8 + ["a"] * 2 + ["a"] * 13 + ["b"]
    rows = {(t.group, t.level): t for t in found_in({"site": site})}
    row = rows[0, "b"]
    assert (row.inside, row.outside, row.n) == (0.8, 1 / 14, 10)
    assert row.p == pytest.approx(hypergeom.sf(7, 24, 9, 10), rel=1e-12)
    assert rows[1, "b"].p > 0.9  # asked one-sided: it is missing there
    raw = [rows[key].p for key in sorted(rows)]
    assert [rows[key].p_adjusted for key in sorted(rows)] == pytest.approx(false_discovery_control(raw))
    assert row.p == pytest.approx(fisher_exact([[8, 2], [1, 13]], alternative="greater").pvalue)


def test_numbers_differ_either_way_and_measures_are_higher():
    rng = np.random.default_rng(0)
    age = np.concatenate([rng.normal(60, 3, 10), rng.normal(75, 3, 14)])
    outside = np.concatenate([rng.uniform(0.0, 0.2, 10), rng.uniform(0.5, 0.9, 14)])
    rows = {(t.group, t.name): t for t in found_in(numbers={"age": age}, measures={"share_outside": outside})}
    assert rows[0, "age"].p_adjusted < 0.01
    assert rows[1, "age"].p_adjusted < 0.01
    assert rows[0, "share_outside"].p > 0.9
    assert rows[1, "share_outside"].p_adjusted < 0.01
    expected = mannwhitneyu(outside[10:], outside[:10], alternative="greater").pvalue
    assert rows[1, "share_outside"].p == pytest.approx(expected)
    assert rows[0, "age"].inside == pytest.approx(np.median(age[:10]))


def test_small_groups_and_rare_levels_give_no_number():
    site = ["a"] * 22 + ["b"] * 2
    assert {t.level for t in found_in({"site": site}, smallest=3)} == {"a"}
    assert not found_in({"site": site}, {"age": np.arange(24.0)}, smallest=11)  # group 0 has 10
    rows = found_in(measures={"share_outside": np.arange(24.0)}, smallest=11)
    assert {t.group for t in rows} == {0, 1}  # what was measured on maps is no datum of a patient


def test_what_is_not_known_is_left_out():
    site = ["", *["b"] * 9, *["a"] * 13, ""]
    assert next(t for t in found_in({"site": site}) if t.group == 0).n == 9
    age = [math.nan, *range(23)]
    assert next(t for t in found_in(numbers={"age": age}) if t.group == 0).n == 9


def test_constants_say_nothing():
    assert found_in({"sex": ["F"] * 24, "site": [""] * 24}, {"age": [70.0] * 24}) == []
