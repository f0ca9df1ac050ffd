"""Which cases get a page, and which number a criterion is held against."""

import math

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from pipeline.findings.agreement import agreement_rows
from pipeline.findings.conclusion import choose_pages
from pipeline.findings.overview import find, measurement_table, skill
from pipeline.protocol import Criterion, Protocol
from pipeline.record.schema import Agreement, CaseResult, CaseRow, Figure, Measurement


def row(name, label, p):
    return CaseRow(case=name, label=label, predicted=int(p > 0.5), scores=[1 - p, p], logit=0.0)


@given(
    st.lists(st.tuples(st.sampled_from([0, 1, None]), st.floats(0.01, 0.99)), max_size=12), st.integers(0, 8)
)
def test_wrong_cases_come_first_by_confidence(drawn, pages):
    rows = [row(f"c{i}", label, p) for i, (label, p) in enumerate(drawn)]
    chosen = choose_pages(rows, pages)
    assert [r.case for r in chosen] == [r.case for r in rows]
    shown = [r for r in chosen if r.page]
    assert len(shown) == min(pages, len(rows))
    hidden_wrong = [max(r.scores) for r in chosen if not r.page and r.correct is False]
    if hidden_wrong:
        assert all(r.correct is False for r in shown)
        assert not shown or min(max(r.scores) for r in shown) >= max(hidden_wrong)


def test_skill_counts_labelled_cases_by_patient():
    rows = [row(f"c{i}", int(i >= 10), 0.9 if i >= 10 else 0.1) for i in range(20)]
    rows.append(row("unlabelled", None, 0.9))
    results = [CaseResult(key="", row=r, patient=r.case) for r in rows]
    found = skill(results, 1, seed=0)
    assert found["auc"].value == 1
    assert found["auc"].n == found["accuracy"].n == 20
    assert 0.7 < found["auc"].low < 1
    assert skill(results[:1], 1, seed=0).keys() == {"accuracy"}


def test_skill_of_a_model_that_is_sure_of_everything():
    """From 37 logits on a probability is 1 to the last bit: the others still tell which is the surer."""
    rows = []
    for i in range(20):
        gap = 60.0 + i
        scores = [math.exp(-gap), 1.0]
        rows.append(row(f"c{i}", int(i >= 10), 0.5).model_copy(update={"scores": scores, "predicted": 1}))
    found = skill([CaseResult(key="", row=r, patient=r.case) for r in rows], 1, seed=0)
    assert found["auc"].value == 1


def test_agreement_stands_on_its_weakest_lesion_type_and_hardest_null():
    def agreement(lesion, lows):
        differences = {name: Figure(value=low + 1, low=low, high=low + 2, n=9) for name, low in lows.items()}
        return Agreement(
            method="lrp", lesion=lesion, metric="log2_mass_lift", figure=Figure(), differences=differences
        )

    rows = [
        agreement("a", {"centre": 2.0, "contrast": -0.5}),
        agreement("b", {"centre": 1.0, "contrast": 0.4}),
    ]
    criterion = Criterion(name="lift_over_nulls", method="lrp", at_least=0)
    assert find(criterion, pd.DataFrame(), 1, {}, rows).figure.low == -0.5
    assert find(criterion, pd.DataFrame(), 1, {}, []) is None


def test_the_share_outside_is_a_mean_over_patients():
    results = [
        CaseResult(
            key="",
            row=row(f"c{i}", 1, 0.9),
            patient=f"p{i}",
            measurements=[
                Measurement(
                    case=f"c{i}",
                    patient=f"p{i}",
                    method="lrp",
                    target=1,
                    metric="share_outside",
                    value=0.1 * i,
                )
            ],
        )
        for i in range(7)
    ]
    table = measurement_table(results)
    found = find(Criterion(name="relevance_outside", method="lrp", at_most=1), table, 1, {}, [])
    assert abs(found.figure.value - 0.3) < 1e-12
    assert found.figure.n == 7


@given(st.lists(st.floats(-18, 4), min_size=6, max_size=9), st.lists(st.floats(-18, 4), max_size=4))
def test_expected_regions_ask_only_cases_for_which_the_model_speaks(called, others):
    """Logits of 0 and more take part; a negative one has no positive relevance that could lie anywhere."""
    table = pd.DataFrame(
        {
            "case": [f"c{k}" for k in range(len(called) + len(others))],
            "method": "region_occlusion",
            "target": 1,
            "lesion": "",
            "status": "ok",
            "metric": "expected_log2_density_lift",
            "value": called + others,
            "logit": [0.0] + [2.0] * (len(called) - 1) + [-0.01] * len(others),
        }
    ).assign(patient=lambda rows: rows.case)
    protocol = Protocol.model_validate(
        {
            "schema": "relevance-audit-protocol/1",
            "modality": "mri",
            "model": "m",
            "cohort": "c.csv",
            "target": 1,
            "methods": ["region_occlusion"],
            "atlas": "AAL",
            "disease": "alzheimer",
            "criteria": [],
            "seed": 1,
        }
    )
    criterion = Criterion(name="expected_regions", method="region_occlusion", at_least=0)
    found = find(criterion, table, 1, {}, agreement_rows(table, protocol, 1))
    assert found.figure.n == len(called)
    assert abs(found.figure.value - sum(called) / len(called)) < 1e-9
    assert find(criterion, table, 1, {}, []) is None
