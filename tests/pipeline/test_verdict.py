"""The verdict: nothing passes for lack of data, and maps alone never make a model sound."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ProtocolError
from pipeline.protocol import Criterion
from pipeline.record.schema import Figure
from pipeline.verdict import FINDINGS, Found, check_criteria, decide, idle_bound, judge

numbers = st.floats(-5, 5)


def found(low, high):
    return Found(Figure(value=(low + high) / 2, low=low, high=high, n=20))


@given(numbers, numbers, numbers)
def test_an_interval_is_met_not_met_or_undecided_and_never_two(a, b, bound):
    low, high = min(a, b), max(a, b)
    least = judge(Criterion(name="skill_auc", at_least=bound), found(low, high)).answer
    most = judge(Criterion(name="skill_auc", at_most=bound), found(low, high)).answer
    assert (least == "met") == (low >= bound)
    assert (most == "met") == (high <= bound)
    if low < bound < high:
        assert least == most == "undecided"
    if least == "not met":
        assert most == "met"


@pytest.mark.parametrize("nothing", [None, Found(Figure()), Found(Figure(value=1.0, n=3))])
def test_nothing_passes_for_lack_of_data(nothing):
    assert judge(Criterion(name="skill_auc", at_least=-9), nothing).answer == "undecided"
    assert judge(Criterion(name="skill_auc", at_most=9), nothing).answer == "undecided"


def test_maps_and_skill_alone_are_inconclusive():
    results = [
        judge(Criterion(name="skill_auc", at_least=0.7), found(0.9, 0.99)),
        judge(Criterion(name="lift_over_nulls", method="lrp", at_least=0), found(1, 2)),
    ]
    verdict = decide(results)
    assert verdict.answer == "inconclusive"
    assert "interventions" in verdict.sentence


def test_a_fault_is_named_whatever_else_is_undecided():
    results = [
        judge(Criterion(name="other_share", at_most=0.1), found(0.4, 0.6)),
        judge(Criterion(name="skill_auc", at_least=0.7), None),
    ]
    verdict = decide(results)
    assert verdict.answer == "flagged"
    assert verdict.factors == [FINDINGS["other_share"].fault]


@pytest.mark.parametrize(
    "criterion",
    [
        Criterion(name="relevance_outside", method="lrp", at_most=0.1),
        Criterion(name="lift_over_twins", method="lrp", at_least=2),
        Criterion(name="expected_regions", method="lrp", at_least=2),
        Criterion(name="randomisation", method="lrp", at_most=0.1),
        Criterion(name="deletion", method="lrp", at_least=2),
    ],
)
def test_maps_hold_sound_back_but_never_accuse(criterion):
    sound = [
        judge(Criterion(name="skill_auc", at_least=0.6), found(0.7, 0.9)),
        judge(Criterion(name="other_share", at_most=0.7), found(0.4, 0.6)),
    ]
    assert decide(sound).answer == "sound"
    verdict = decide([*sound, judge(criterion, found(0.4, 0.6))])
    assert verdict.answer == "inconclusive"
    assert verdict.factors == [f"an explanation why {FINDINGS[criterion.name].fault} (lrp)"]


def test_criteria_that_nothing_could_answer_are_refused_at_once():
    criteria = [
        Criterion(name="beauty", at_least=1),
        Criterion(name="expected_regions", method="lrp", at_least=0),
        Criterion(name="lift_over_nulls", at_least=0),
        Criterion(name="skill_auc", method="lrp", at_least=0),
    ]
    with pytest.raises(ProtocolError) as caught:
        check_criteria(criteria, "fundus", ["lrp"])
    for word in ("'beauty'", "on fundus", "needs method", "not made per method"):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "idle",
    [
        Criterion(name="skill_auc", at_least=0.4),  # a model that guesses meets it
        Criterion(name="skill_auc", at_most=0.9),
        Criterion(name="cue_shift", at_least=0),
        Criterion(name="other_share", at_most=1),
        Criterion(name="target_share", at_least=-0.5),
        Criterion(name="removal_effect", at_least=-9),
    ],
)
@pytest.mark.parametrize("value", [0.0, 0.6, 2.0])
def test_a_bound_that_any_model_meets_makes_no_model_sound_and_accuses_none(idle, value):
    answered = judge(idle, Found(Figure(value=value, low=value, high=value, n=20)))
    others = [
        judge(Criterion(name=name, at_least=bound), Found(Figure(value=0.9, low=0.9, high=0.9, n=20)))
        for name, bound in (("skill_auc", 0.5), ("target_share", 0.5))
        if name != idle.name
    ]
    verdict = decide([answered, *others])
    assert verdict.answer == "inconclusive"
    assert any(f"a bound of {idle.name}" in factor for factor in verdict.factors)


def test_the_bounds_of_the_protocols_that_are_shipped_all_tell_something():
    from importlib.resources import files

    for name in ("brain.yaml", "retina.yaml"):
        criteria = yaml.safe_load((files("flows.protocols") / name).read_text())["criteria"]
        assert not any(idle_bound(Criterion(**c)) for c in criteria)
