"""For whom each method is best, what contradicts the survey, and the pages of the method card."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.record.method_card import CardRow, MethodCards
from pipeline.record.schema import Figure, write_arrays, write_record
from pipeline.record.trust import MapTrust, Trust
from reports import render_report
from reports.advice import SURVEY, best_for, colour_change, contradictions


def row(method: str, **more: object) -> CardRow:
    numbers = {
        "cases": 2,
        "passes": 3.0,
        "seconds": 0.5,
        "width_pixels": 10.0,
        "width": 20.0,
        "class_signed": -0.9,
        "class_strength": 0.9,
        "class_ssim": 0.8,
        "distinction": "sign",
        "gini": 0.6,
        "noise": 0.95,
    }
    return CardRow.model_validate({"method": method, "needs": "a model", **numbers, **more})


def cards(*rows: CardRow, **more: object) -> MethodCards:
    return MethodCards.model_validate({"rows": rows, "cases": ["a"], "forward_seconds": 0.1, **more})


def test_each_lead_goes_to_the_smallest_number():
    card = cards(
        row("lrp", width_pixels=4.0, width=8.0, passes=4.0),
        row("cam", passes=1.0, seconds=0.05, width_pixels=30.0),
        row("grad_cam", passes=1.5, gini=0.9),
        row("occlusion", passes=9.0, regions=5, regions_even=20, regions_present=30),
    )
    said = best_for(card)
    assert "finest legible detail (8.00 mm)" in said["lrp"]
    assert "real time (20 maps a second)" in said["cam"]
    assert "fewest places to look at (focus 0.90)" in said["grad_cam"]
    assert "5 of 30 regions" in said["occlusion"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"distinction": "none", "class_signed": 0.98}, "the other class has the same map (0.98)"),
        ({"distinction": "mixed"}, "the other class has the same places (0.90)"),
        ({"noise": 0.31}, "slight noise puts them in another order (0.31)"),
    ],
)
def test_what_speaks_against_a_method_is_said_and_it_leads_in_nothing(change, expected):
    card = cards(row("gradient", width_pixels=2.5, passes=1.0, gini=0.99, **change), row("lrp"))
    said = best_for(card)
    assert expected in said["gradient"]
    assert "finest legible" in said["lrp"]


def test_a_map_that_stays_when_the_model_forgets_is_for_nobody():
    card = cards(row("guided_backprop", width_pixels=3.5), row("lrp"))
    maps = [MapTrust(method="guided_backprop", left=Figure(value=0.8, low=0.7, high=0.9, n=6))]
    said = best_for(card, maps)
    assert said["guided_backprop"].startswith("Nobody")
    assert "80 % is left" in said["guided_backprop"]
    assert "finest" in best_for(card)["guided_backprop"]


def test_grain_is_no_detail_and_what_is_covered_names_the_better():
    card = cards(
        row("gradient", width_pixels=1.3, passes=2.0, noise=0.999),
        row("lrp", width_pixels=5.0, passes=1.0, gini=0.7),
        row("sglrp", width_pixels=6.0, passes=4.0, gini=0.6),
    )
    said = best_for(card)
    assert "finest" in said["lrp"]
    assert "grain" in said["gradient"]
    assert "LRP" in said["sglrp"]
    assert said["sglrp"].startswith("Nothing that")


def test_colour_leads_only_where_it_matters_and_beyond_noise():
    rows = [row("lrp", colour=0.3), row("cam", colour=0.9), row("grad_cam", colour=0.1, noise=0.15)]
    moved = cards(*rows, logits=[2.0, 1.0], logits_exchanged=[-1.0, 2.0])
    assert colour_change(moved) == pytest.approx(2.0)
    assert "whether colour decides: its map changes most with it (0.30)" in best_for(moved)["lrp"]
    still = cards(*rows, logits=[2.0, 1.0], logits_exchanged=[2.1, 1.0])
    assert "colour" not in " ".join(best_for(still).values())


def test_only_numbers_contradict_the_survey():
    card = cards(
        row("gradient", width_pixels=1.2, width=2.4, noise=0.3, gini=0.5),
        row("guided_backprop", width_pixels=1.4, distinction="none", class_signed=0.97),
        row("occlusion", distinction="none", class_signed=0.8, width_pixels=40.0, passes=9.0),
        row("cam", width_pixels=50.0, seconds=0.5, passes=1.0),
        row("grad_cam", width_pixels=50.0),
        row("guided_grad_cam", width_pixels=1.5),
    )
    found = contradictions(card)
    assert found["Occlusion, area occlusion"] == ["Occlusion does not tell the classes apart"]
    assert any("by its sign (rank correlation −0.90)" in text for text in found["Gradient"])
    assert any("grain (2.40 mm) that slight noise reorders (0.30)" in text for text in found["Gradient"])
    assert found["Guided backpropagation"] == ["Guided backpropagation is not sharper than Gradient (20.0 mm against 2.40 mm)"]  # fmt: skip  # noqa: E501
    assert found["CAM"] == ["CAM is not real time on this machine (2.0 maps a second, the model alone 10.0 answers)"]  # fmt: skip  # noqa: E501
    assert found["Grad-CAM, guided Grad-CAM"] == []
    assert "MACE" not in found  # not measured is no contradiction
    assert "LRP" not in found


def test_the_surveys_families_are_methods_of_the_card():
    from reports.glossary import METHODS

    named = [name for family in SURVEY for name in family.methods]
    assert set(named) <= set(METHODS)
    assert len(named) == len(set(named))


@pytest.mark.parametrize("modality", ["mri", "fundus"])
def test_the_pages_show_table_figure_advice_and_survey(tools, tmp_path, modality):
    mri = modality == "mri"
    record = tools.make_record(modality, pages=0)
    folder = tools.write_audit(tmp_path, record)
    shape = (24, 1, 20) if mri else (40, 40)
    rng = np.random.default_rng(0)
    arrays = {
        "image": rng.random(shape if mri else (*shape, 3)).astype(np.float32),
        "field": np.ones(shape, bool),
        "map_gradient": rng.normal(size=shape).astype(np.float16),
        "map_lrp": np.zeros(shape, np.float16),
    }
    if mri:
        arrays |= {"affine": np.diag([2.0, 2, 2, 1]), "regions_expected": rng.random(shape) < 0.1}
    write_arrays(folder / "method_card.npz", arrays)
    more = {} if mri else {"unit": "native pixels", "logits": [2.0], "logits_exchanged": [0.5]}
    regions = {"regions": 7, "regions_even": 20, "regions_present": 30} if mri else {"colour": 0.4}
    rows = [row("gradient", **regions), row("lrp", width_pixels=None, width=None, **regions)]
    rows.append(CardRow(method="mace", refused="no concepts were learnt"))
    record.trust = Trust(card=cards(*rows, **more))
    write_record(folder, record)
    text = tools.text_of(render_report(folder))
    told = {name: tools.squeeze(name) in text for name in (
        "The measured method card.", "whole field", "How to read the mind of a CNN", "no concepts",
        "Regions with 80 %", "Colours exchanged",
    )}  # fmt: skip
    assert told == dict.fromkeys(told, True) | {"Regions with 80 %": mri, "Colours exchanged": not mri}
    assert (folder / "figures" / "method-card.jpg").is_file()
    (folder / "method_card.npz").write_bytes(b"broken")
    render_report(folder)
    assert not (folder / "figures" / "method-card.jpg").exists()
