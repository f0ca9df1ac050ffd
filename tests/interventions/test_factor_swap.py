"""A model that is a known function of the factors gets back its known shares."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from pipeline.interventions import BrainImage, BrainPair, brain_parts, factor_swap, swap_pair
from pipeline.interventions.brain_factors import FACTORS
from pipeline.interventions.composition import Composition
from pipeline.interventions.swapping import SwappedPair

SHAPE = (26, 28, 26)
SPACING = np.array([4.0, 4.0, 4.0])


def ball(radius, shape=SHAPE):
    grid = np.indices(shape) - (np.array(shape).reshape(3, 1, 1, 1) - 1) / 2
    return (grid**2).sum(0) < radius**2


def labels():
    regions = np.zeros(SHAPE, np.int32)
    regions[8:11, 12:16, 10:13] = 5
    regions[15:18, 12:16, 10:13] = 6
    regions[10:14, 4:8, 12:16] = 9
    return regions


def brain(seed, *, target=1.0, marker=0.0, noise=0.01, tilt=0.0):
    rng = np.random.default_rng(seed)
    field = ball(10)
    image = np.where(field, 1 + 0.05 * ndimage.gaussian_filter(rng.normal(size=SHAPE), 1), 0)
    image[np.isin(labels(), (5, 6))] *= target
    image *= np.exp(tilt * np.linspace(-1, 1, SHAPE[1]))[None, :, None]
    image += noise * rng.normal(size=SHAPE) * field
    image[:3, :3, :3] = marker
    return BrainImage(image.astype(np.float32), field)


def pair(one, two):
    parts = brain_parts(labels(), (5, 6), one.field, two.field, SPACING)
    return BrainPair(one, two, parts, SPACING)


def test_parts_cover_the_grid_once():
    parts = brain_parts(labels(), (5, 6), ball(10), ball(11), SPACING)
    assert list(parts) == ["target", "rest", "rim", "outside"]
    assert (sum(p.astype(int) for p in parts.values()) == 1).all()
    assert parts["target"][np.isin(labels(), (5, 6))].all()
    assert not parts["target"][labels() == 9].any()


def test_both_ends_are_the_images_themselves_and_composition_agrees_with_them():
    composed = pair(brain(0, tilt=0.2), brain(1, target=0.5, marker=2.0, noise=0.05))
    full = (1 << 6) - 1
    assert composed.image(0) is composed.own
    assert composed.image(full) is composed.partner
    np.testing.assert_allclose(composed.mixed(0), composed.own, atol=2e-6)
    np.testing.assert_allclose(composed.mixed(full), composed.partner, atol=2e-6)


def test_one_factor_changes_its_own_place_only():
    one, two = brain(0), brain(1, target=0.5)
    composed = pair(one, two)
    parts = brain_parts(labels(), (5, 6), one.field, two.field, SPACING)
    changed = np.abs(composed.image(1) - composed.own)[0] > 1e-6
    assert changed[np.isin(labels(), (5, 6))].all()
    assert not (changed & (ndimage.distance_transform_edt(~parts["target"], sampling=SPACING) > 8)).any()


def test_style_is_told_from_anatomy():
    """Noise and tilt are seen by their factors, not by the places they lie in."""

    def noisiness(batch):
        image = batch[:, 0].numpy()
        return np.array([np.abs(i - ndimage.gaussian_filter(i, 0.8))[ball(7)].mean() for i in image]) * 100

    def tilt(batch):
        image = batch[:, 0].numpy()
        return np.array(
            [
                np.log(i[:, 18:22][ball(10)[:, 18:22]]).mean() - np.log(i[:, 6:10][ball(10)[:, 6:10]]).mean()
                for i in image
            ]
        )

    for score, name, options in (
        (noisiness, "noise", {"noise": 0.12}),
        (tilt, "low_frequency", {"tilt": 0.3}),
    ):
        pairs = [
            swap_pair(pair(brain(10 + i, **options), brain(50 + i)), score, f"p{i}", f"n{i}")
            for i in range(8)
        ]
        found = factor_swap(FACTORS, pairs)
        assert found.conclusive
        assert found.share(name).low > 0.75


def test_a_factor_that_does_not_move_is_not_computed_and_gets_nothing():
    calls = []

    def score(batch):
        calls.append(len(batch))
        return batch.double().mean((1, 2, 3, 4)).numpy() * 50

    composed = pair(brain(0, target=1.4), brain(1))
    swapped = swap_pair(composed, score, "p", "n")
    assert sum(calls) == 32
    assert swapped.values[-1] == pytest.approx(
        float(composed.partner.astype(np.float64).mean() * 50), rel=1e-6
    )
    assert factor_swap(composed.names, [swapped]).contributions[0, 3] == 0


class Numbers(Composition):
    """A pair of vectors, one number a factor."""

    def mixed(self, coalition):
        bits = (coalition >> np.arange(len(self.names))) & 1
        return np.where(bits, self.partner, self.own)


def known(weights, pairs, seed):
    """Pairs whose score is `weights · factors`, factors 1 apart with noise."""
    rng = np.random.default_rng(seed)
    names = tuple("abcd"[: len(weights)])
    made = []
    for i in range(pairs):
        own = rng.normal(1, 0.2, len(weights)).astype(np.float32)
        partner = rng.normal(0, 0.2, len(weights)).astype(np.float32)
        composed = Numbers(own, partner, names)
        made.append(
            swap_pair(
                composed,
                lambda x: (x.double() @ torch.tensor(weights).double()).numpy(),
                f"p{i % 8}",
                f"n{i % 7}",
            )
        )
    return names, made


def test_known_shares_come_back_inside_their_intervals():
    weights = [3.0, 0.5, 0.0, 1.5]
    names, pairs = known(weights, 40, 1)
    found = factor_swap(names, pairs)
    assert found.conclusive
    assert sum(s.value for s in found.shares) == pytest.approx(1)
    np.testing.assert_allclose(found.contributions.sum(1), found.gaps, atol=1e-9)
    for weight, share in zip(weights, found.shares, strict=True):
        assert share.low <= weight / 5 + 1e-9
        assert share.high >= weight / 5 - 1e-9
        assert share.value == pytest.approx(weight / 5, abs=0.05)
    assert found.detection_limit("a", 0.1) > 0.1 + (found.share("a").high - found.share("a").low) / 2


def test_intervals_cover():
    weights, inside = [2.0, 1.0, 0.5], 0
    for seed in range(60):
        names, pairs = known(weights, 16, seed)
        share = factor_swap(names, pairs).share("a")
        inside += share.low <= 2 / 3.5 <= share.high
    assert inside >= 53  # 95 % of 60 is 57; 53 or fewer comes once in 50


def test_a_patient_in_many_pairs_counts_once():
    names, pairs = known([2.0, 1.0], 8, 3)
    once = factor_swap(names, pairs)
    thrice = factor_swap(names, [*pairs, *pairs, *pairs])
    assert thrice.share("a").value == pytest.approx(once.share("a").value)
    assert thrice.share("a").high - thrice.share("a").low > 0.9 * (once.share("a").high - once.share("a").low)


def test_without_a_gap_or_with_few_patients_nothing_is_concluded():
    names, pairs = known([0.0, 0.0], 16, 0)
    flat = [
        SwappedPair(p.positive, p.negative, p.values + np.random.default_rng(i).normal(size=4))
        for i, p in enumerate(pairs)
    ]
    assert not factor_swap(names, flat).conclusive
    assert np.isnan(factor_swap(names, flat).share("a").low)
    names, pairs = known([3.0, 1.0], 5, 0)
    few = factor_swap(names, pairs)
    assert not few.conclusive
    assert few.share("a").value == pytest.approx(0.75, abs=0.1)
    assert "6 are needed" in few.gap.method


def test_noise_is_taken_away_and_edges_stay():
    """A model that reads edges must not seem to read noise."""
    steps = np.where(np.indices(SHAPE)[1] < 14, 1.0, 0.4) * ball(10)

    def halves(seed, noise):
        rng = np.random.default_rng(seed)
        return BrainImage((steps + noise * rng.normal(size=SHAPE) * ball(10)).astype(np.float32), ball(10))

    def fine(image):
        return (image - ndimage.gaussian_filter(image, 0.8))[ball(8)]

    noisy, clean = halves(0, 0.04), halves(1, 0.005)
    composed = pair(noisy, clean)
    image = composed.image(1 << FACTORS.index("noise"))[0]
    steep = np.abs(ndimage.sobel(steps, 1)) > 1
    edges = fine(np.where(steep, image, steps)).std() / fine(steps).std()
    assert edges == pytest.approx(1, abs=0.1)  # one gain for both would leave an eighth
    flat = ball(8) & (ndimage.distance_transform_edt(~steep) > 2.5)
    assert (image - steps)[flat].std() < 0.7 * (noisy.image - steps)[flat].std()  # its coarse part stays


def test_fluid_that_makes_the_rest_brighter_is_the_doing_of_its_place():
    """Scaled to a mean of 1, a brain with a hole is brighter everywhere: no light, but the hole's doing."""

    def scaled(one):
        return BrainImage(one.image / one.image[one.field].mean(), one.field)

    composed = pair(scaled(brain(0)), scaled(brain(1, target=0.2)))
    hole = composed.image(1)[0]
    assert hole[ball(10)].mean() == pytest.approx(1, abs=1e-4)
    far = ball(8) & (np.indices(SHAPE)[1] > 20)
    assert hole[far].mean() == pytest.approx(composed.partner[0][far].mean(), rel=0.01)
    light = composed.image(1 << FACTORS.index("low_frequency"))[0]
    assert light[far].mean() == pytest.approx(composed.own[0][far].mean(), rel=0.01)
