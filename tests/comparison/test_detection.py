"""Lesions one by one: candidates, matching, FROC and the table."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.comparison import detection, lesions
from pipeline.errors import MethodError


def masks_with(points, shape=(60, 60), size=3):
    mask = np.zeros(shape, bool)
    for point in points:
        mask[tuple(slice(p, p + size) for p in point)] = True
    return mask


def test_touching_corners_are_one_lesion():
    mask = np.zeros((10, 10), bool)
    mask[2, 2] = mask[3, 3] = mask[7, 7] = True
    found = lesions.find_lesions({"ma": mask, "none": mask & False})
    assert found.counts == {"ma": 2, "none": 0}


def test_candidates_are_separated_peaks_and_plateaus_are_one():
    relevance = np.zeros((20, 20))
    relevance[5, 5], relevance[5, 6], relevance[5, 12] = 3, 2, 1
    relevance[12:16, 3:9] = 0.5
    relevance[18, 18] = -4
    positions, scores = lesions.candidates(relevance)
    assert scores.tolist() == [3, 1, 0.5]
    assert positions[:2].tolist() == [[5, 5], [5, 12]]
    assert 12 <= positions[2][0] < 16
    assert 3 <= positions[2][1] < 9
    assert lesions.candidates(relevance, most=1)[1].tolist() == [3]
    assert lesions.candidates(np.zeros((4, 4)))[1].size == 0
    with pytest.raises(MethodError):
        lesions.candidates(np.full((4, 4), np.inf))


def test_candidates_outside_the_field_do_not_count():
    relevance, field = np.zeros((20, 20)), np.zeros((20, 20), bool)
    relevance[3, 3], relevance[15, 15], field[10:] = 5, 1, True
    assert lesions.candidates(relevance, field)[0].tolist() == [[15, 15]]


def test_a_blob_over_everything_finds_one_lesion_and_not_all():
    """A thresholded blob would be credited with every lesion under it."""
    mask = masks_with([(10, 10), (20, 30), (40, 15), (45, 45)])
    rows, columns = np.ogrid[:60, :60]
    blob = np.exp(-((rows - 11) ** 2 + (columns - 11) ** 2) / 2000)
    found = lesions.detect(blob, lesions.find_lesions({"ma": mask})).found["ma"]
    assert np.isfinite(found).sum() == 1


def test_another_type_of_lesion_is_no_false_alarm():
    relevance = np.zeros((60, 60))
    relevance[11, 11], relevance[31, 31], relevance[50, 5] = 3, 2, 1
    marked = lesions.find_lesions({"ma": masks_with([(10, 10)]), "ex": masks_with([(30, 30)])})
    detections = lesions.detect(relevance, marked)
    assert detections.false.tolist() == [1]
    assert detections.found["ma"].tolist() == [3]
    assert detections.found["ex"].tolist() == [2]


@pytest.mark.parametrize(("tolerance", "hit"), [(0.0, False), (6.0, False), (8.1, True)])
def test_tolerance_reaches_from_native_pixels(tolerance, hit):
    matrix = np.diag([4.0, 4.0, 1.0])
    matrix[:2, 2] = 1.5
    relevance = np.zeros((15, 15))
    relevance[5, 5] = 1  # native 21.5, 21.5
    mask = np.zeros((60, 60), bool)
    mask[21:23, 29] = True  # 7.5 px away
    found = lesions.detect(
        relevance, lesions.find_lesions({"ma": mask}), native_from_model=matrix, tolerance=tolerance
    )
    assert np.isfinite(found.found["ma"][0]) == hit
    assert found.false.size == (0 if hit else 1)


def test_three_dimensions_in_millimetres():
    relevance, mask = np.zeros((12, 12, 12)), np.zeros((12, 12, 12), bool)
    relevance[3, 3, 3], mask[3, 3, 5] = 1, True
    for spacing, hit in (((1, 1, 1), True), ((1, 1, 3), False)):
        marked = lesions.find_lesions({"l": mask}, spacing=spacing)
        assert np.isfinite(lesions.detect(relevance, marked, tolerance=2.5).found["l"][0]) == hit


def random_cases(rng, count=12):
    cases = []
    for _ in range(count):
        false = np.round(rng.exponential(size=rng.integers(0, 15)), 1)
        found = np.round(rng.exponential(2, size=rng.integers(0, 5)), 1)
        found[rng.random(found.size) < 0.2] = -np.inf
        cases.append(lesions.Detections(false, {"ma": found}))
    return cases


def slow_sensitivity(cases, rate):
    """Try every threshold."""
    best = 0.0
    every = {s for c in cases for s in (*c.false, *c.found["ma"])} | {-1e9}
    total = sum(c.found["ma"].size for c in cases)
    for limit in every:
        alarms = sum((c.false >= limit).sum() for c in cases)
        if alarms <= rate * len(cases):
            best = max(best, sum((c.found["ma"] >= limit).sum() for c in cases if limit > -np.inf) / total)
    return best


@pytest.mark.parametrize("seed", range(5))
def test_froc_equals_trying_every_threshold(seed):
    cases = random_cases(np.random.default_rng(seed))
    curve = detection.froc(cases, "ma", resamples=50)
    expected = [slow_sensitivity(cases, rate) for rate in detection.RATES]
    assert [s.value for s in curve.sensitivity] == pytest.approx(expected, abs=1e-9)
    assert curve.cpm.value == pytest.approx(np.mean(expected), abs=1e-9)
    assert (curve.images, curve.lesions) == (12, sum(c.found["ma"].size for c in cases))
    assert curve.cpm.low <= curve.cpm.value <= curve.cpm.high
    assert detection.froc(cases, "ma", resamples=50) == curve


def test_weights_of_the_bootstrap_are_repetitions():
    cases = random_cases(np.random.default_rng(7), 6)
    repeated = detection.froc([*cases, cases[0], cases[3], cases[3]], "ma", resamples=2)
    weight = np.array([2.0, 1, 1, 3, 1, 1])
    owners = np.arange(6)
    false, of_false = detection._pool([c.false for c in cases], owners)
    found, of_found = detection._pool([c.found["ma"] for c in cases], owners)
    values = detection._sensitivities(false, of_false, found, of_found, np.ones(6), weight)
    assert values == pytest.approx([s.value for s in repeated.sensitivity], abs=1e-12)


def test_no_lesions_no_number():
    cases = [lesions.Detections(np.ones(2), {"ma": np.zeros(0)}) for _ in range(8)]
    curve = detection.froc(cases, "ma")
    assert np.isnan(curve.cpm.value)
    assert "0 patients with lesions" in curve.cpm.method
    row = detection.lesion_table(cases, ["ma"])[0]
    assert np.isnan(row.sensitivity.value)
    assert row.lesions == 0


def test_the_table_keeps_its_working_point_on_new_patients():
    rng = np.random.default_rng(3)
    cases = [
        lesions.Detections(
            rng.exponential(size=30), {"ma": rng.exponential(2, size=4), "ex": rng.exponential(4, 2)}
        )
        for _ in range(40)
    ]
    table = detection.lesion_table(cases, ["ma", "ex"], false_per_image=2)
    assert [row.lesion for row in table] == ["ma", "ex"]
    assert table[0].false_per_image.value == pytest.approx(2, abs=0.6)
    assert table[0].sensitivity.value < table[1].sensitivity.value
    assert table[0].sensitivity.low < table[0].sensitivity.value < table[0].sensitivity.high
    assert table[0].lesions == 160


def test_the_working_point_ignores_the_patients_own_images():
    quiet = [lesions.Detections(np.array([0.1, 0.2]), {"ma": np.array([0.5])}) for _ in range(7)]
    loud = [lesions.Detections(np.array([9.0] * 10), {"ma": np.array([9.5])}) for _ in range(2)]
    limits = detection._working_points([*quiet, *loud], [*range(7), "z", "z"], 1.0)
    assert limits["z"] <= 0.2
    assert limits[0] == 9.0
