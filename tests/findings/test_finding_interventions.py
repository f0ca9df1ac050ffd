"""Criteria over several factors or cues: met only by all, and every one that breaks the bound is named."""

import pytest

from pipeline.findings.interventions import combined, find_in_interventions, unsigned
from pipeline.protocol import Criterion
from pipeline.record.interventions import CovariateRow, CueRow, FactorRow, Interventions, RemovalRow
from pipeline.record.schema import Figure
from pipeline.verdict import FINDINGS, Found, decide, judge


def figure(low, high):
    return Figure(value=(low + high) / 2, low=low, high=high, n=12)


def made(**shares):
    rows = [FactorRow(name=k, title=k, wanted=k == "target", share=v) for k, v in shares.items()]
    return Interventions(factors=rows)


OTHER = Criterion(name="other_share", at_most=0.2)
TARGET = Criterion(name="target_share", at_least=0.5)


def answer(criterion, found):
    return judge(criterion, find_in_interventions(criterion, found))


@pytest.mark.parametrize(
    ("rim", "noise", "expected", "named"),
    [
        ((0.0, 0.1), (-0.1, 0.05), "met", "rim"),
        ((0.0, 0.3), (0.1, 0.15), "undecided", "rim"),
        ((0.3, 0.5), (0.0, 0.9), "not met", "rim"),
        ((0.3, 0.5), (0.4, 0.6), "not met", "noise, rim"),
    ],
)
def test_all_other_factors_have_to_stay_below(rim, noise, expected, named):
    result = answer(OTHER, made(target=figure(0.8, 1), rim=figure(*rim), noise=figure(*noise)))
    assert (result.answer, result.detail) == (expected, named)


def test_the_outside_has_a_bound_of_its_own_and_the_rest_of_a_brain_none():
    found = made(
        target=figure(0.4, 0.6), rest=figure(0.3, 0.5), outside=figure(0.12, 0.2), rim=figure(0, 0.1)
    )
    assert answer(OTHER, found).answer == "met"
    outside = Criterion(name="outside_share", at_most=0.1)
    result = answer(outside, found)
    assert (result.answer, result.detail) == ("not met", "outside")
    assert answer(outside, made(target=figure(0.4, 0.6))).answer == "undecided"


def test_taking_lesions_away_has_to_lower_the_score():
    criterion = Criterion(name="removal_effect", at_least=0.0)
    for low, expected in ((1.0, "met"), (-0.5, "undecided"), (-2.0, "not met")):
        row = RemovalRow(
            name="lesions",
            title="lesions",
            removed=figure(0, 1),
            control=figure(0, 1),
            difference=figure(low, low + 1.5),
        )
        assert answer(criterion, Interventions(removals=[row])).answer == expected
    assert answer(criterion, Interventions()).answer == "undecided"


def test_one_share_without_interval_leaves_it_undecided():
    result = answer(OTHER, made(rim=figure(0, 0.1), noise=Figure(value=0.01)))
    assert result.answer == "undecided"
    assert answer(TARGET, Interventions()).answer == "undecided"


def test_a_cue_that_lowers_the_score_counts_like_one_that_raises_it():
    shift = figure(-3, -2)
    assert (unsigned(shift).low, unsigned(shift).high) == (2, 3)
    rows = [CueRow(name="a", title="a", positive=True, shift=shift, flips=figure(0, 1))]
    criterion = Criterion(name="cue_shift", at_most=1)
    assert judge(criterion, find_in_interventions(criterion, Interventions(cues=rows))).answer == "not met"


def test_an_interval_about_nothing_is_as_large_as_its_farther_end():
    size = unsigned(Figure(value=0.05, low=-0.9, high=0.4))
    assert (size.value, size.low, size.high) == (0.05, 0, 0.9)
    rows = [
        CueRow(
            name="a", title="a", positive=True, shift=Figure(value=0.05, low=-0.9, high=0.4), flips=Figure()
        )
    ]
    criterion = Criterion(name="cue_shift", at_most=0.5)
    result = judge(criterion, find_in_interventions(criterion, Interventions(cues=rows)))
    assert result.answer == "undecided"


def test_correlations_of_both_classes_are_combined():
    both = combined([Figure(value=0.5, n=20), Figure(value=0.5, n=40)])
    assert both.value == pytest.approx(0.5)
    assert both.n == 60
    # Bonett & Wright for one group of 57 = 60 − 3 effective cases
    assert (both.low, both.high) == pytest.approx((0.262, 0.681), abs=0.002)
    assert combined([Figure(value=0.5, n=20), Figure(value=-0.5, n=20)]).value == pytest.approx(0, abs=1e-12)
    assert combined([Figure(value=0.5, n=20), Figure(n=2)]).low is None


@pytest.mark.parametrize(
    ("rho", "n", "answer_"), [(0.1, 20, "met"), (-0.9, 20, "not met"), (0.4, 8, "undecided")]
)
def test_a_score_that_follows_age_is_a_fault(rho, n, answer_):
    rows = [
        CovariateRow(positive=p, covariate="age in years", measure="rho", figure=Figure(value=rho, n=n))
        for p in (True, False)
    ]
    criterion = Criterion(name="covariate_link", at_most=0.6)
    assert answer(criterion, Interventions(covariates=rows)).answer == answer_
    assert answer(criterion, Interventions()).answer == "undecided"


def test_sound_becomes_possible_and_a_fault_names_its_factor():
    skill = judge(Criterion(name="skill_auc", at_least=0.8), None).model_copy(update={"answer": "met"})
    sound = made(target=figure(0.8, 1), rim=figure(0, 0.1))
    assert decide([skill, answer(TARGET, sound), answer(OTHER, sound)]).answer == "sound"
    faulty = made(target=figure(0.2, 0.4), rim=figure(0.4, 0.7))
    verdict = decide([skill, answer(TARGET, faulty), answer(OTHER, faulty)])
    assert verdict.answer == "flagged"
    assert any("rim" in factor for factor in verdict.factors)


def test_without_skill_nothing_else_is_judged():
    skill = judge(Criterion(name="skill_auc", at_least=0.8), None).model_copy(update={"answer": "not met"})
    faulty = made(target=figure(0.2, 0.4), rim=figure(0.4, 0.7))
    verdict = decide([answer(OTHER, faulty), skill])
    assert verdict.answer == "flagged"
    assert len(verdict.factors) == 1
    assert "separate the classes" in verdict.factors[0]


def test_what_kept_the_factors_from_being_swapped_is_said():
    found = Interventions(notes=["left out of the factor swap: no atlas in the protocol", "something else"])
    result = judge(TARGET, find_in_interventions(TARGET, found))
    assert result.answer == "undecided"
    (factor, *_) = decide([result]).factors
    assert factor == "a factor swap, which was not possible: no atlas in the protocol"
    unknown = judge(Criterion(name="covariate_link", at_most=0.5), Found(Figure(n=4), detail="age"))
    assert decide([unknown]).factors[0] == FINDINGS["covariate_link"].missing
