"""Overlap after Otsu and at a threshold that the case itself did not choose."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.filters import threshold_otsu

from pipeline.comparison import thresholds
from pipeline.errors import AuditError, MethodError


def case(seed, level=1.0):
    rng = np.random.default_rng(seed)
    mask = np.zeros((40, 40), bool)
    mask[10:20, 12:25] = True
    return mask * level + 0.2 * rng.random((40, 40)), mask


def test_every_threshold_equals_a_slow_count():
    relevance, mask = case(0)
    relevance -= 0.1
    field = np.random.default_rng(1).random(mask.shape) < 0.9
    curve = thresholds.overlap_curves(relevance, {"m": mask}, field)["m"]
    highest = relevance[field].max()
    for i in range(0, len(thresholds.FRACTIONS), 7):
        chosen = (relevance >= thresholds.FRACTIONS[i] * highest) & field
        hit, union = (chosen & mask).sum(), (chosen | (mask & field)).sum()
        assert curve.at(i).iou == pytest.approx(hit / union, abs=1e-9)
        assert curve.at(i).dice == pytest.approx(2 * hit / (chosen.sum() + (mask & field).sum()), abs=1e-9)
        assert curve.dice[i] == pytest.approx(curve.at(i).dice, abs=1e-9)


def test_otsu_is_scikit_images():
    relevance, mask = case(2)
    otsu = thresholds.overlap_curves(relevance, {"m": mask})["m"].otsu
    chosen = relevance > threshold_otsu(relevance)
    assert otsu.dice == pytest.approx(2 * (chosen & mask).sum() / (chosen.sum() + mask.sum()), abs=1e-9)
    assert otsu.dice > 0.95


def test_the_threshold_comes_from_other_patients():
    good = [thresholds.overlap_curves(*(case(i)[0], {"m": case(i)[1]}))["m"] for i in range(3)]
    # a patient whose own best threshold is far from the others'
    rng = np.random.default_rng(9)
    _, mask = case(9)
    odd = thresholds.overlap_curves(np.where(mask, 0.04, 0.0) + (rng.random(mask.shape) < 0.01), {"m": mask})[
        "m"
    ]
    both_eyes = thresholds.best_fixed_threshold([*good, odd, odd], ["a", "b", "c", "z", "z"])
    assert both_eyes[3].dice < 0.2 < 0.8 < odd.dice.max()
    assert both_eyes[3] == both_eyes[4]
    assert both_eyes[3].threshold == both_eyes[0].threshold or both_eyes[0].dice > 0.9


def test_the_scale_of_a_map_does_not_matter():
    relevance, mask = case(3)
    one, two = (thresholds.overlap_curves(s * relevance, {"m": mask})["m"] for s in (1.0, 1e-4))
    assert np.abs(one.dice - two.dice).max() < 1e-9


def test_undefined_is_said_and_not_scored():
    relevance, mask = case(4)
    assert "no marked pixel" in thresholds.overlap_curves(relevance, {"m": mask & False})["m"].excluded
    silent = thresholds.overlap_curves(-relevance, {"m": mask})["m"]
    assert "no positive relevance" in silent.otsu.excluded
    good = thresholds.overlap_curves(relevance, {"m": mask})["m"]
    first, second = thresholds.best_fixed_threshold([good, silent])
    assert np.isnan(first.dice)
    assert "no other patient" in first.excluded
    assert "no positive relevance" in second.excluded


def test_wrong_input_is_refused():
    relevance, mask = case(5)
    with pytest.raises(MethodError):
        thresholds.overlap_curves(relevance, {"m": mask[1:]})
    with pytest.raises(MethodError):
        thresholds.overlap_curves(np.full_like(relevance, np.nan), {"m": mask})
    with pytest.raises(AuditError):
        thresholds.best_fixed_threshold([], ["a"])
