"""Metrics against an independent slow implementation and scikit-learn, with every awkward map and mask."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, roc_auc_score

from pipeline.comparison import localisation
from pipeline.errors import MethodError


def slow(relevance, mask, field, tolerance=0.0):
    """Straight from the definitions, pixel by pixel, in exact fractions."""
    points = [p for p in np.ndindex(relevance.shape) if field[p]]
    value = {p: Fraction(float(relevance[p])) for p in points}
    marked = [p for p in points if mask[p]]
    out = dict.fromkeys(localisation.METRICS, math.nan)
    if not marked:
        return out
    n, g = len(points), len(marked)
    top = max(value.values())
    if min(value.values()) < top:
        peaks = [p for p in points if value[p] == top]
        near = [any(math.dist(p, q) <= tolerance for q in marked) for p in peaks]
        out["pointing_game"] = sum(near) / len(peaks)
    positive = sum(max(v, 0) for v in value.values())
    if positive > 0:
        out["mass_accuracy"] = float(sum(max(value[p], 0) for p in marked) / positive)
    # expectation over random order of ties: each pixel's chance to be among the g first
    expected = Fraction(0)
    for p in marked:
        above = sum(v > value[p] for v in value.values())
        tied = sum(v == value[p] for v in value.values())
        expected += min(max(Fraction(g - above, tied), 0), 1)
    out["rank_accuracy"] = float(expected / g)
    out["auprc"] = float(
        sum(
            Fraction(sum(value[q] >= value[p] for q in marked), sum(v >= value[p] for v in value.values()))
            for p in marked
        )
        / g
    )
    unmarked = [p for p in points if not mask[p]]
    if unmarked:
        wins = sum(
            Fraction(1 if value[p] > value[q] else 0) + Fraction(int(value[p] == value[q]), 2)
            for p in marked
            for q in unmarked
        )
        out["auroc"] = float(wins / (g * len(unmarked)))
    for kind in ("mass", "rank"):
        accuracy = out[f"{kind}_accuracy"]
        if not math.isnan(accuracy):
            out[f"log2_{kind}_lift"] = math.log2((accuracy + 1 / n) / (g / n + 1 / n))
    return out


def assert_equal(measured, expected):
    for name in localisation.METRICS:
        got = getattr(measured, name)
        assert got == pytest.approx(expected[name], abs=1e-9, rel=0, nan_ok=True), name
        assert math.isnan(got) == (name in measured.excluded), name


shapes = st.sampled_from([(5, 6), (1, 9), (3, 4, 3)])
# few distinct values (ties), any finite ones (negative, tiny), and zero
numbers = st.one_of(
    st.sampled_from([-1.0, -0.0, 0.0, 0.5, 2.0]), st.floats(-1e3, 1e3, width=32, allow_subnormal=False)
)


@st.composite
def maps(draw):
    shape = draw(shapes)
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    relevance = draw(hnp.arrays(dtype, shape, elements=numbers))
    mask = draw(hnp.arrays(bool, shape))
    field = draw(hnp.arrays(bool, shape, fill=st.just(value=True)))
    return relevance, mask, field


@settings(max_examples=150, deadline=None)
@given(maps(), st.sampled_from([0.0, 1.0, 2.3]))
def test_equals_the_slow_reference(case, tolerance):
    relevance, mask, field = case
    if not field.any():
        with pytest.raises(MethodError, match="field of view is empty"):
            localisation.measure(relevance, {"m": mask}, field)
        return
    measured = localisation.measure(relevance, {"m": mask}, field, tolerance=tolerance)["m"]
    assert_equal(measured, slow(relevance, mask, field, tolerance))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["zero", "constant", "negative", "ties", "normal"])
@pytest.mark.parametrize("marks", ["empty", "one", "some", "all"])
def test_awkward_maps_and_masks(dtype, kind, marks):
    rng = np.random.default_rng(3)
    relevance = {
        "zero": np.zeros((7, 8)),
        "constant": np.full((7, 8), 0.1),
        "negative": -rng.random((7, 8)),
        "ties": rng.integers(-1, 3, (7, 8)),
        "normal": rng.standard_normal((7, 8)),
    }[kind].astype(dtype)
    mask = np.zeros((7, 8), bool)
    mask[{"empty": np.s_[:0], "one": np.s_[3:4, 2:3], "some": np.s_[2:5, 1:4], "all": np.s_[:]}[marks]] = True
    field = np.ones((7, 8), bool)
    field[:, -1] = False
    measured = localisation.measure(relevance, {"m": mask}, field, tolerance=1.5)["m"]
    assert_equal(measured, slow(relevance, mask, field, 1.5))
    if marks == "empty":
        assert set(measured.excluded.values()) == {"no marked pixel inside the field"}
    elif kind in ("zero", "negative"):
        assert measured.excluded["mass_accuracy"] == "no positive relevance inside the field"


@pytest.mark.parametrize("ties", [False, True])
def test_equals_scikit_learn(ties):
    rng = np.random.default_rng(5)
    relevance = rng.standard_normal((40, 50))
    relevance = np.round(relevance, 1) if ties else relevance
    mask, field = rng.random((40, 50)) < 0.03, rng.random((40, 50)) < 0.8
    measured = localisation.measure(relevance, {"m": mask}, field)["m"]
    truth, score = (mask & field)[field], relevance[field]
    assert measured.auroc == pytest.approx(roc_auc_score(truth, score), abs=1e-9)
    assert measured.auprc == pytest.approx(average_precision_score(truth, score), abs=1e-9)


def test_single_functions_agree_with_measure():
    rng = np.random.default_rng(1)
    relevance, mask = rng.standard_normal((20, 20)), rng.random((20, 20)) < 0.1
    field = np.ones((20, 20), bool)
    all_of_it = localisation.measure(relevance, {"m": mask}, field)["m"]
    assert localisation.pointing_game(relevance, mask, field) == all_of_it.pointing_game
    assert localisation.relevance_mass_accuracy(relevance, mask, field) == all_of_it.mass_accuracy
    assert localisation.relevance_rank_accuracy(relevance, mask, field) == all_of_it.rank_accuracy
    assert localisation.auprc(relevance, mask, field) == all_of_it.auprc
    assert localisation.auroc(relevance, mask, field) == all_of_it.auroc


def test_pixels_outside_the_field_do_not_count():
    rng = np.random.default_rng(2)
    relevance, mask, field = rng.standard_normal((9, 9)), np.zeros((9, 9), bool), np.zeros((9, 9), bool)
    field[:6], mask[4:8, :4] = True, True
    inside = localisation.measure(relevance, {"m": mask}, field)["m"]
    disturbed = np.where(field, relevance, 1e6)
    again = localisation.measure(disturbed, {"m": mask}, field)["m"]
    assert inside == again
    assert (inside.marked, inside.pixels, inside.lost) == (8, 54, 8)


def test_tolerance_is_in_physical_units():
    relevance, mask = np.zeros((11, 11, 5)), np.zeros((11, 11, 5), bool)
    relevance[5, 5, 2], mask[5, 8, 2] = 1, True
    hit = [localisation.pointing_game(relevance, mask, spacing=(1, 0.7, 3), tolerance=t) for t in (2.0, 2.2)]
    assert hit == [0.0, 1.0]


def test_many_tied_maxima_agree_with_few():
    rng = np.random.default_rng(4)
    relevance = (rng.random((30, 30)) < 0.3).astype(float)
    mask = rng.random((30, 30)) < 0.02
    measured = localisation.measure(relevance, {"m": mask}, tolerance=2.0)["m"]
    assert measured.pointing_game == pytest.approx(
        slow(relevance, mask, mask | True, 2.0)["pointing_game"], abs=1e-9
    )


def test_floored_lifts_are_said_and_finite():
    relevance, mask = np.zeros((10, 10)), np.zeros((10, 10), bool)
    relevance[0, 0], mask[5, 5] = 1, True
    measured = localisation.measure(relevance, {"m": mask})["m"]
    assert measured.floored == ("log2_mass_lift", "log2_rank_lift")
    assert measured.log2_mass_lift == pytest.approx(math.log2((0 + 0.01) / (0.01 + 0.01)))


def test_near_empty_masks_can_be_excluded():
    mask = np.zeros((10, 10), bool)
    mask[5, 5:7] = True
    relevance = np.random.default_rng(0).random((10, 10))
    measured = localisation.measure(relevance, {"m": mask}, smallest=3)["m"]
    assert measured.excluded["mass_accuracy"] == "fewer than 3 marked pixels"
    assert math.isnan(measured.auroc)
    assert len(measured.rows()) == len(localisation.METRICS)


def test_lift_undoes_prevalence_for_a_random_map():
    rng = np.random.default_rng(8)
    lifts = []
    for share in (0.01, 0.1, 0.4):
        mask = rng.random((300, 300)) < share
        lifts.append(localisation.measure(rng.random((300, 300)), {"m": mask})["m"].log2_mass_lift)
    assert np.abs(lifts).max() < 0.05


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_map_that_is_not_finite_is_refused(bad):
    relevance = np.zeros((4, 4))
    relevance[1, 1] = bad
    with pytest.raises(MethodError, match="not finite"):
        localisation.measure(relevance, {"m": np.ones((4, 4), bool)})


def test_different_shapes_are_refused():
    with pytest.raises(MethodError, match="shape"):
        localisation.measure(np.zeros((4, 4)), {"m": np.zeros((4, 5), bool)})
