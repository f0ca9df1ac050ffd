"""Clusters in an audit: a planted cue alarms, sound cohorts do not, nothing of a single patient is told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from pipeline.cohort import Case, Cohort
from pipeline.record.clusters import pictured
from pipeline.record.schema import CaseResult, CaseRow, Measurement
from pipeline.record.small_maps import FUNDUS, packed, unpacked
from pipeline.record.trust import Trust
from pipeline.stages.clusters import cluster_maps
from pipeline.trust.spray import group_maps


def audit_of(methods=("lrp",), smallest=6):
    protocol = SimpleNamespace(
        seed=1,
        modality="fundus",
        methods=[SimpleNamespace(name=name) for name in methods],
        smallest_group=smallest,
    )
    return SimpleNamespace(protocol=protocol, target=1, classes=("no", "yes"))


def results_of(seed, tagged=10, called=30, others=20, methods=("lrp",), patients=None, site=True):
    """Maps with one profile; those of tagged cases have half of their relevance in a corner off the field."""
    rng = np.random.default_rng(seed)
    profile = rng.gamma(2.0, 1.0, FUNDUS)
    cases, results = [], []
    for number in range(called + others):
        tag = number < tagged
        small = np.zeros((2, *FUNDUS))
        small[0] = rng.gamma(4.0, 1.0, FUNDUS) * profile
        small[1] = 0.02 * rng.gamma(4.0, 1.0, FUNDUS)
        if tag:
            small[1, 14:, :3] += small.sum() / 6
        name = f"case{(number * 7919) % 1000:03d}"
        patient = name if patients is None else patients(number)
        covariates = {"site": ("a" if tag else "b") if site else "", "age": str(rng.integers(50, 80))}
        cases.append(Case(name, patient, Path(), covariates=covariates))
        row = CaseRow(case=name, label=int(number < called), predicted=int(number < called))
        outside = small[1].sum() / small.sum()
        measured = [
            Measurement(
                case=name, patient=patient, method=m, target=1, metric="share_outside", value=float(outside)
            )
            for m in methods
        ]
        stored = {m: packed(small.astype(np.float32)) for m in methods}
        results.append(CaseResult(key="", row=row, patient=patient, measurements=measured, small_maps=stored))
    return Cohort(tuple(cases), "", patients_given=True), results


def maps_of(results):
    ordered = sorted(results, key=lambda r: r.row.case)
    return np.array([unpacked(r.small_maps["lrp"], FUNDUS).ravel() for r in ordered])


def found_in(audit, cohort, results):
    found = Trust()
    cluster_maps(audit, cohort, results, found)
    return found.clusters


def test_a_planted_cue_alarms_and_names_what_its_group_has():
    cohort, results = results_of(0)
    called, others = found_in(audit_of(), cohort, results)
    assert called.separate
    assert called.alarm
    assert called.shown
    tagged = {r.row.case for r in results[:10]}
    groups = [set(cluster.cases) for cluster in called.clusters]
    assert tagged in groups
    traits = {t.name: t for t in called.clusters[groups.index(tagged)].traits}
    assert traits["share_outside"].inside > traits["share_outside"].outside + 0.3
    assert (traits["site"].level, traits["site"].inside) == ("a", 1.0)
    assert "age" not in traits
    assert not others.separate
    assert pictured([called, others]) == {c for cluster in called.clusters for c in cluster.typical}
    assert np.shape(called.clusters[0].mean_map) == (512,)
    assert sum(called.clusters[0].mean_map) == pytest.approx(1, abs=1e-4)


def test_sound_cohorts_do_not_alarm():
    alarms = 0
    for seed in range(20):
        cohort, results = results_of(seed, tagged=0)
        alarms += any(c.alarm for c in found_in(audit_of(), cohort, results))
    assert alarms <= 1


def test_groups_without_anything_of_their_own_are_no_alarm():
    cohort, results = results_of(2, site=False)
    for result in results:
        result.measurements.clear()
    called, _ = found_in(audit_of(), cohort, results)
    assert called.separate
    assert not called.alarm
    assert called.clusters[0].traits == []


def test_the_order_of_results_does_not_matter():
    cohort, results = results_of(3)
    first = found_in(audit_of(), cohort, results)
    second = found_in(audit_of(), cohort, results[::-1])
    assert first == second


def test_one_image_a_patient():
    cohort, results = results_of(4, patients=lambda number: f"p{number // 2}")
    called, others = found_in(audit_of(), cohort, results)
    assert (called.n, called.left_out) == (15, 15)
    assert (others.n, others.left_out) == (10, 10)
    assert others.reason == "10 maps with relevance, 12 are needed"


def test_small_groups_get_no_number_of_a_covariate():
    cohort, results = results_of(5, tagged=8)
    called, _ = found_in(audit_of(smallest=9), cohort, results)
    assert called.separate
    assert {t.name for cluster in called.clusters for t in cluster.traits} == {"share_outside"}


def test_p_values_are_corrected_over_methods_and_answers():
    methods = ("lrp", "gradient")
    cohort, results = results_of(6, methods=methods)
    many = found_in(audit_of(methods), cohort, results)
    assert [(c.method, c.called) for c in many] == [(m, c) for m in methods for c in (True, False)]
    p = group_maps(maps_of(results[:30]), seed=1).p
    q = group_maps(maps_of(results[30:]), seed=1).p
    assert p < q
    expected = false_discovery_control([p, q, p, q])
    assert [c.p_adjusted for c in many] == pytest.approx(expected)


def test_a_tiny_cohort_is_a_reason_and_no_groups():
    cohort, results = results_of(7, tagged=0, called=2, others=0)
    for clustering in found_in(audit_of(), cohort, results):
        assert clustering.reason.endswith("maps with relevance, 12 are needed")
        assert clustering.clusters == []
        assert clustering.scatter == []


def test_zero_maps_are_counted_and_left_out():
    cohort, results = results_of(8)
    results[20].small_maps["lrp"] = packed(np.zeros((2, *FUNDUS), np.float32))
    called, _ = found_in(audit_of(), cohort, results)
    assert (called.n, called.left_out) == (29, 1)
