"""Pages on trust: a sentence a method that says what holds and what does not, and every number."""

from __future__ import annotations

import pytest

from pipeline.record.schema import Figure
from pipeline.record.trust import Deletion, Likeness, MapTrust, RandomStep, Trust
from reports import render_report
from reports.sections.trust import sentence


def figure(value: float, width: float = 0.05) -> Figure:
    return Figure(value=value, low=value - width, high=value + width, n=6)


def row(
    name: str = "grad_cam", *, left: float = 0.1, pairs: float = 0.1, beyond: float = 0.5, noise: float = 0.97
) -> MapTrust:
    steps = [
        RandomStep(layers=n, of=5, lowest=f"layer {n}", likeness=Likeness(rank=figure(left / n)))
        for n in (1, 3, 5)
    ]
    deletion = Deletion(
        over_random=figure(beyond),
        over_reverse=figure(2 * beyond),
        insertion=figure(0.437),
        fractions=[0.0, 0.5, 1.0],
        most_first=[0.0, -2.0, -3.0],
        least_first=[0.0, -0.5, -3.0],
        random=[0.0, -1.0, -3.0],
    )
    return MapTrust(
        method=name,
        draws=3,
        left=figure(left),
        steps=steps,
        random_pairs=Likeness(rank=figure(pairs)),
        deletion=deletion,
        noise_change=figure(0.3),
        noise_rank=figure(noise),
        agreement={"gradient": figure(0.31)},
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"left": 0.1}, "changes when the model forgets (10 %"),
        ({"left": 0.8}, "hardly changes when the model forgets (80 %"),
        ({"left": 0.52}, "changes in part when the model forgets (52 %"),
        ({"pairs": 0.9}, "two random models already give maps alike (0.900)"),
        ({"beyond": 0.5}, "falls faster in its order than in random order (+0.500 logits)"),
        ({"beyond": -0.5}, "falls more slowly in its order than in random order (−0.500 logits)"),
        ({"beyond": 0.01}, "not shown that the score falls faster"),
        ({"noise": 0.97}, "; steady under slight noise"),
        ({"noise": 0.5}, "not steady under slight noise"),
    ],
)
def test_a_sentence_says_what_holds_and_what_does_not(changes, expected):
    assert expected in sentence(row(**changes))


def test_a_method_that_was_not_randomised_and_one_without_a_model_say_so():
    slow = MapTrust(method="occlusion", deletion=row().deletion)
    assert sentence(slow).startswith("Occlusion: not tried on models that forget (too slow); the score falls")
    blind = row().model_copy(update={"left": Figure(excluded=6)})
    assert "the same for any weights" in sentence(blind)


@pytest.mark.parametrize("modality", ["mri", "fundus"])
def test_the_section_has_its_sentences_its_numbers_and_its_notes(tools, tmp_path, modality):
    trust = Trust(
        cases=["a", "b", "c", "d", "e", "f"],
        maps=[row("gradient", left=0.213), row(), MapTrust(method="occlusion", deletion=row().deletion)],
        expected_passes=630,
        passes=612,
        seconds=41.0,
        notes=["noise: it could not be done"],
    )
    record = tools.make_record(modality, pages=0).model_copy(update={"trust": trust})
    text = tools.text_of(render_report(tools.write_audit(tmp_path / modality, record)))
    for told in (
        "Can the maps be trusted?",
        "changes when the model forgets (21 % of the map is left on average)",
        "0.21 [0.16, 0.26]",
        "0.44 [0.39, 0.49]",
        "612 forward passes (630 announced)",
        "3 draws of the random weights",
        "Rim density: log₂, above 0 in the rim.",
        "Noise: it could not be done.",
    ):
        assert tools.squeeze(told) in text, told


def test_an_audit_that_did_not_ask_has_no_such_section(tools, tmp_path):
    text = tools.text_of(render_report(tools.write_audit(tmp_path, tools.make_record("mri", pages=0))))
    assert tools.squeeze("Can the maps be trusted?") not in text
