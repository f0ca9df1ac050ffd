"""Plain sentences say what the intervals say, and no more."""

from __future__ import annotations

import pytest

from pipeline.record.schema import Agreement, Figure, RegionRow
from reports.plainly import agreement_sentence, detector_sentence, region_sentence, standing

ABOVE, OPEN, BELOW = (1.0, 0.5, 1.5), (0.2, -0.3, 0.7), (-1.0, -1.5, -0.5)


def number(value: tuple[float, ...] | None, n: int = 12) -> Figure:
    if value is None:
        return Figure(value=0.4, n=n)
    return Figure(value=value[0], low=value[1], high=value[2], n=n)


def row(method: str, **differences: tuple[float, ...] | None) -> Agreement:
    return Agreement(
        method=method,
        lesion="hard_exudates",
        metric="log2_mass_lift",
        figure=number((1.4, 1.0, 1.8)),
        differences={name: number(value) for name, value in differences.items()},
        p_values={name: 0.2 if value == OPEN else 0.001 for name, value in differences.items()},
    )


@pytest.mark.parametrize(
    ("differences", "words"),
    [
        ({"twins": ABOVE, "shuffled": ABOVE, "contrast": ABOVE, "average": BELOW}, "above all"),
        ({"contrast": ABOVE}, "above all (no twins run)"),
        ({"twins": ABOVE, "contrast": OPEN}, "not above local contrast"),
        ({"twins": OPEN, "contrast": BELOW}, "not above random-weight twins and local contrast"),
        (
            {"twins": OPEN, "sobel": BELOW, "contrast": OPEN},
            "not above random-weight twins, edges and others",
        ),
        ({"twins": None}, "too few patients (12)"),
    ],
)
def test_standing(differences: dict[str, tuple[float, ...] | None], words: str) -> None:
    assert standing(row("gradient", **differences)) == words


def test_a_corrected_p_above_the_bound_is_not_above() -> None:
    one = row("gradient", contrast=ABOVE)
    one.p_values["contrast"] = 0.06
    assert standing(one) == "not above local contrast"


def test_the_best_method_is_named_with_the_hardest_reference() -> None:
    rows = [
        row("gradient", twins=ABOVE, contrast=BELOW),
        row("grad_cam", twins=(2.0, 1.5, 2.5), contrast=ABOVE),
    ]
    text = agreement_sentence(rows)
    assert text == (
        "Grad-CAM puts more relevance on hard exudates than every null map and every twin of the model: "
        "Grad-CAM 2.00 times [1.41, 2.83] as much as local contrast, the hardest of them."
    )


def test_words_are_honest_where_contrast_does_as_well() -> None:
    text = agreement_sentence([row("gradient", twins=ABOVE, contrast=OPEN), row("lrp", twins=OPEN)])
    assert text.startswith(
        "No map is above every null and twin on hard exudates. Gradient does better than twins"
    )
    assert text.endswith("but not surely better than local contrast.")
    none = agreement_sentence([row("gradient", twins=OPEN, contrast=ABOVE)])
    assert none.endswith("None is surely better than all twins of the model, which have learnt nothing.")


def test_twins_are_not_claimed_where_some_were_not_run() -> None:
    both = agreement_sentence(
        [row("occlusion", contrast=ABOVE), row("gradient", twins=ABOVE, contrast=ABOVE)]
    )
    assert "every null map and every twin that was run" in both
    assert "(no twins were run)" in agreement_sentence([row("occlusion", contrast=ABOVE)])


def test_the_average_mask_is_told_apart() -> None:
    beaten = agreement_sentence([row("lrp", twins=ABOVE, contrast=ABOVE, average=ABOVE)])
    assert "LRP also does better than the average mask of other patients." in beaten
    as_good = agreement_sentence([row("lrp", twins=ABOVE, contrast=ABOVE, average=OPEN)])
    assert as_good.endswith("Knowing only where such marks lie in other patients does as well.")


def test_too_few_patients_say_nothing() -> None:
    assert agreement_sentence([row("lrp", twins=None)]) == (
        "Too few patients with hard exudates (n = 12) to say whether any map means anything there."
    )


def test_a_detector_without_a_model_is_named_only_where_it_is_better() -> None:
    one = row("lrp")
    one.metric, one.figure = "auprc", Figure(value=0.2, n=9)
    one.nulls = {"contrast": Figure(value=0.3, n=9), "average": Figure(value=0.9), "twins": Figure(value=0.8)}
    assert "local contrast, without any model, reaches 0.300; no method more than 0.200 (LRP)" in (
        detector_sentence([one])
    )
    one.nulls["contrast"] = Figure(value=0.1, n=9)
    assert detector_sentence([one]) == ""


def test_regions_name_the_first_and_count_the_expected() -> None:
    def region(name: str, role: str, low: float, rank: float) -> RegionRow:
        density = Figure(value=low + 0.5, low=low, high=low + 1, n=9)
        return RegionRow(method="lrp", region=name, density=density, rank=Figure(value=rank), role=role)

    rows = [
        region("Vermis_3", "control", 1.2, 1),
        region("Hippocampus_L", "expected", 1.1, 2),
        region("Amygdala_L", "expected", 0.5, 3),
    ]
    assert region_sentence(rows) == (
        "LRP has its highest density in Vermis 3 (a negative control); 1 of 2 expected regions surely above "
        "the brain’s mean, and so is 1 negative control."
    )
