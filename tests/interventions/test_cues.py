"""Cues: they do what they say, leave the rest alone, and are counted right."""

import numpy as np
import pytest

from pipeline.interventions.brain_cues import brain_cues
from pipeline.interventions.cues import Cue, cue_result, within_class_spread
from pipeline.interventions.data_warnings import covariate_features, outside_features, predictability
from pipeline.interventions.retina_cues import retina_cues, stamp_cue

MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


def brain():
    grid = np.indices((24, 28, 24)) - np.array([11.5, 13.5, 11.5]).reshape(3, 1, 1, 1)
    field = (grid**2).sum(0) < 81
    rng = np.random.default_rng(0)
    return ((1 + 0.1 * rng.normal(size=field.shape)) * field).astype(np.float32)[None], field


def retina():
    y, x = np.mgrid[:64, :64] - 31.5
    field = x**2 + y**2 < 31**2
    return (np.where(field, 0.4, 0.02)[None].repeat(3, 0).astype(np.float32) - 0.5) / 0.5, field


@pytest.mark.parametrize(
    "make", [lambda: (brain_cues(np.full(3, 4.0)), *brain()), lambda: (retina_cues(MEAN, STD), *retina())]
)
def test_every_cue_changes_the_image_and_leaves_the_original_alone(make):
    cues, image, field = make()
    before = image.copy()
    for cue in cues:
        changed = cue.apply(image, field)
        assert changed.shape == image.shape
        assert changed.dtype == np.float32
        np.testing.assert_array_equal(image, before)
        symmetric = cue.name == "mirror" and image.shape[0] == 3
        assert symmetric or np.abs(changed - image).max() > 1e-3, cue.name
    for name in {"marker", "label"} & {c.name for c in cues}:
        changed = next(c for c in cues if c.name == name).apply(image, field)
        np.testing.assert_allclose(changed[:, field], image[:, field], atol=1e-6)


def test_a_patch_of_the_protocol_lands_where_it_says():
    image, field = retina()
    cue = stamp_cue("our_label", np.ones((3, 6, 10), np.float32), (1.0, 0.0), MEAN, STD)
    changed = cue.apply(image, field)
    assert (changed[:, 58:, :10] == 1).all()
    assert (changed[:, :58] == image[:, :58]).all()
    assert cue.title == "our label"


def test_shift_and_flips_are_counted():
    cue = Cue("c", "c", "compact", lambda i, _: i)
    clean = np.array([-2.0] * 8 + [1.0] * 2)
    result = cue_result(cue, clean, clean + 3, [str(i) for i in range(10)], 1.5, positive=False)
    assert result.shift.value == pytest.approx(2)
    assert (result.flips.value, result.flips.excluded) == (1, 2)  # two were wrong before
    assert result.flips.low == pytest.approx(0.025 ** (1 / 8))  # Clopper–Pearson for 8 of 8
    down = cue_result(cue, clean, clean - 3, [str(i) for i in range(10)], 1.5, positive=False)
    assert down.size.value == pytest.approx(2)
    assert within_class_spread([0, 2, 10, 14], [False, False, True, True]) == pytest.approx(np.sqrt(5))
    assert within_class_spread([1, 2], [True, False]) == 1


def test_what_gives_the_label_away_is_noticed_and_chance_is_not():
    rng = np.random.default_rng(0)
    positive = [bool(i % 2) for i in range(40)]
    patients = [str(i) for i in range(40)]
    images = rng.normal(0, 0.01, (40, 1, 24, 24)).astype(np.float32)
    field = np.zeros((24, 24), bool)
    field[6:18, 6:18] = True
    features = np.stack([outside_features(i, field) for i in images])
    assert not predictability(features, positive, patients, seed=0).low > 0.6
    images[1::2, :, 1:4, 1:4] += 1
    features = np.stack([outside_features(i, field) for i in images])
    assert predictability(features, positive, patients, seed=0).low > 0.8
    images[:, :, 8:12, 8:12] = np.array(positive)[:, None, None, None]  # inside the anatomy: not looked at
    np.testing.assert_array_equal(features, np.stack([outside_features(i, field) for i in images]))


def test_covariates_become_numbers():
    rows = [{"age": "70", "site": "A"}, {"site": "B"}, {"age": "60", "site": "A"}]
    table, names = covariate_features(rows)
    assert names == ("age", "site A", "site B")
    np.testing.assert_array_equal(table[:, 1], [1, 0, 1])
    assert np.isnan(table[1, 0])
    guess = predictability(
        np.array([[70.0]] * 4 + [[50.0]] * 4), [True] * 4 + [False] * 4, list("abcdefgh"), seed=0
    )
    assert guess.value == 1
    assert np.isnan(guess.low)  # four patients a class


def test_a_faint_label_is_seen_where_black_is_negative():
    black = np.full((3, 48, 48), -1, np.float32)
    field = np.zeros((48, 48), bool)
    field[16:32, 16:32] = True
    label = black.copy()
    label[:, 2:4, 2:4] = -0.4
    largest = slice(36, None)  # of 6 × 6 blocks
    change = outside_features(label, field)[largest] - outside_features(black, field)[largest]
    assert np.count_nonzero(change) == 1
    assert change.max() == pytest.approx(0.6)


def test_cues_of_a_brain_are_in_shares_of_its_mean_and_along_its_own_axes():
    """A model without a card takes stored intensities, 0 to 1000 say, in any orientation."""
    rng = np.random.default_rng(0)
    field = np.zeros((16, 20, 24), bool)
    field[4:12, 5:15, 6:18] = True
    image = (1 + 0.1 * rng.normal(size=field.shape)).astype(np.float32)[None] * field
    image /= image[0][field].mean()
    plain = brain_cues(np.full(3, 4.0))
    turned = brain_cues(np.full(3, 4.0), (2, 0, 1))
    order = (0, 2, 3, 1)  # left–right becomes the last axis, back–front the first
    for cue, other in zip(plain, turned, strict=True):
        made = cue.apply(image, field)
        np.testing.assert_allclose(cue.apply(500 * image, field), 500 * made, rtol=1e-4, atol=1e-2)
        if cue.name in ("noise", "blur"):
            continue  # drawn on the grid, or the same along all axes
        shown = other.apply(image.transpose(order), field.transpose(1, 2, 0))
        np.testing.assert_allclose(shown, made.transpose(order), rtol=1e-5, atol=1e-6)
