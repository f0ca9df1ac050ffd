"""The main statistic against a slow one: differences case by case, mean by patient, negative logits apart."""

import numpy as np
import pandas as pd
import pytest

from pipeline.cohort import Case, Cohort
from pipeline.findings.agreement import agreement_rows
from pipeline.findings.experts import expert_findings
from pipeline.findings.overview import find, mean_figures, measurement_table
from pipeline.protocol import Criterion, Protocol
from pipeline.record.experts import CurveRow, DetectionRow
from pipeline.record.schema import Agreement, CaseResult, CaseRow, Figure, Measurement

SOURCES = ("{}", "null:contrast", "twin-1:{}", "twin-2:{}", "shuffled:{}")
MEANS = dict(zip(SOURCES, (2.0, 0.5, 0.0, 1.0, 1.9), strict=True))
PROTOCOL = Protocol.model_validate(
    {
        "schema": "relevance-audit-protocol/1",
        "modality": "fundus",
        "model": "m.pt",
        "cohort": "c.csv",
        "target": 1,
        "methods": ["lrp"],
        "disease": "diabetic_retinopathy",
        "criteria": [],
        "seed": 1,
    }
)


@pytest.fixture(scope="module")
def results():
    rng = np.random.default_rng(3)
    made = []
    for number in range(14):
        case, negative = f"c{number}", number >= 12
        values = {source.format("lrp"): mean + rng.normal(0, 0.3) for source, mean in MEANS.items()}
        measured = [
            Measurement(
                case=case, patient=f"p{number // 2}", method=name, target=1, lesion="haemorrhages",
                metric="log2_mass_lift", value=-5.0 if negative else value,
            )
            for name, value in values.items()
        ]  # fmt: skip
        made.append(
            CaseResult(
                key="",
                row=CaseRow(
                    case=case, label=1, predicted=int(not negative), scores=[0.2, 0.8],
                    logit=-1.0 if negative else 1.0,
                ),
                patient=f"p{number // 2}",
                measurements=measured,
                detections=[DetectionRow(method="lrp", false=[0.1], found={"haemorrhages": [0.9, None]})],
                curves=[
                    CurveRow(
                        method="lrp", lesion="haemorrhages", selected=[8] * 96, correct=[4] * 96, marked=8,
                        otsu=(0.5, 1 / 3, 0.4),
                    )
                ],
            )
        )  # fmt: skip
    return made


def by_patient(results, source):
    values = {}
    for result in results[:12]:
        (one,) = [m.value for m in result.measurements if m.method == source.format("lrp")]
        values.setdefault(result.patient, []).append(one)
    return np.array([np.mean(v) for v in values.values()])


def test_differences_to_nulls_and_twins_are_paired_and_averaged_by_patient(results):
    (row,) = agreement_rows(measurement_table(results), PROTOCOL, 1)
    own = by_patient(results, "{}")
    twins = (by_patient(results, "twin-1:{}") + by_patient(results, "twin-2:{}")) / 2
    expected = {
        "contrast": own - by_patient(results, "null:contrast"),
        "twins": own - twins,
        "shuffled": own - by_patient(results, "shuffled:{}"),
    }
    assert row.figure.value == pytest.approx(own.mean(), abs=1e-12)
    assert set(row.differences) == set(expected)
    for name, difference in expected.items():
        assert row.differences[name].value == pytest.approx(difference.mean(), abs=1e-12)
        assert row.differences[name].n == 6
    assert row.nulls["twins"].value == pytest.approx(twins.mean(), abs=1e-12)
    assert "more relevance" in row.conclusions["contrast"]
    assert "not shown to do better" in row.conclusions["shuffled"]


def test_cases_with_a_negative_logit_are_reported_apart(results):
    (row,) = agreement_rows(measurement_table(results), PROTOCOL, 1)
    assert row.against is not None
    assert row.against.value == -5.0
    assert row.figure.n == 6
    assert row.figure.value > 1


def test_the_verdict_stands_on_the_hardest_twin_and_nulls_are_judged_without_it(results):
    table = measurement_table(results)
    rows = agreement_rows(table, PROTOCOL, 1)
    twins = find(Criterion(name="lift_over_twins", method="lrp", at_least=0), table, 1, {}, rows)
    nulls = find(Criterion(name="lift_over_nulls", method="lrp", at_least=0), table, 1, {}, rows)
    assert twins.figure == rows[0].differences["shuffled"]
    assert nulls.figure == rows[0].differences["contrast"]


def test_lesions_overlaps_and_subgroups_of_the_cohort(results, tmp_path):
    sexes = ["F" if n // 2 < 6 else "M" for n in range(14)]
    cases = tuple(
        Case(f"c{n}", f"p{n // 2}", tmp_path, covariates={"sex": sex}) for n, sex in enumerate(sexes)
    )
    found = expert_findings(
        results,
        measurement_table(results),
        PROTOCOL,
        Cohort(cases, "", patients_given=True),
        1,
        [],
        ("no", "yes"),
    )
    (lesion,) = found.lesions
    assert (lesion.lesions, lesion.images) == (24, 12)
    assert lesion.sensitivity.value == 0.5
    assert lesion.false_per_image.value <= 2
    assert found.negative == 2
    (overlap,) = found.overlaps
    assert overlap.otsu_dice.value == overlap.fixed_dice.value == 0.5
    groups = {(g.metric, g.grouping, g.level): g for g in found.groups}
    assert groups["correct", "sex", "F"].figure.value == 1
    assert groups["correct", "sex", "F"].figure.n == 6
    assert groups["correct", "sex", "M"].figure.value is None  # one patient: named, no number
    assert groups["correct", "sex", "M"].figure.n == 1


def test_twins_have_their_rim_density_beside_the_methods():
    rows = [
        (case, method, value + 0.1 * number)
        for number, case in enumerate("abcdefgh")
        for method, value in (
            ("lrp", 0.0), ("twin-1:lrp", 1.0), ("twin-2:lrp", 3.0), ("shuffled:lrp", 0.5), ("null:sobel", 0.2)
        )
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["case", "method", "value"]).assign(
        metric="log2_rim_density", target=1, lesion=""
    )
    table["patient"] = table.case
    found = mean_figures(table, "log2_rim_density", 1)
    assert set(found) == {"lrp", "twins:lrp", "shuffled:lrp", "sobel"}
    assert found["twins:lrp"].value == pytest.approx(2.0 + 0.35)
    assert found["twins:lrp"].n == 8
    assert found["shuffled:lrp"].value == pytest.approx(0.85)


def test_the_average_mask_does_not_decide_the_criterion_on_nulls():
    def figure(value):
        return Figure(value=value, low=value - 0.1, high=value + 0.1, n=9)

    row = Agreement(
        method="lrp",
        lesion="atrophy",
        metric="log2_mass_lift",
        figure=figure(2.0),
        differences={"contrast": figure(1.0), "average": figure(-1.0), "twins": figure(0.5)},
    )
    criterion = Criterion(name="lift_over_nulls", method="lrp", at_least=0.0)
    found = find(criterion, pd.DataFrame(), 1, {}, [row])
    assert found is not None
    assert found.figure.value == 1.0


def test_lesion_types_of_too_few_patients_are_named_beside_the_weakest():
    def row(lesion, low):
        figure = Figure(value=1.0, low=low, high=None if low is None else low + 2, n=9)
        return Agreement(
            method="lrp", lesion=lesion, metric="log2_mass_lift", figure=figure, differences={"sobel": figure}
        )

    criterion = Criterion(name="lift_over_nulls", method="lrp", at_least=0.0)
    rows = [row("microaneurysms", 0.3), row("haemorrhages", 0.1), row("soft_exudates", None)]
    found = find(criterion, pd.DataFrame(), 1, {}, rows)
    assert found.detail == "haemorrhages over sobel (too few patients to judge soft exudates over sobel)"
    assert find(criterion, pd.DataFrame(), 1, {}, rows[2:]) is None
