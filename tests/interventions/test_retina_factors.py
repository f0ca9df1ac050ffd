"""Photographs: exact ends, lesions removed and transplanted, controls, style told from anatomy."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from pipeline.interventions.retina_factors import (
    FACTORS,
    RetinaImage,
    RetinaPair,
    displaced_mask,
    without,
)

SIDE = 96
SCALE = ((0.5, 0.4, 0.3), (0.2, 0.2, 0.2))


def retina(seed, *, lesions=0, light=1.0, label=0.0):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    field = x**2 + y**2 < 46**2
    ground = 0.5 + 0.05 * ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE)), 4) * 8
    mask = np.zeros((SIDE, SIDE), bool)
    for _ in range(lesions):
        r, c = rng.integers(30, 66, 2)
        mask[r - 2 : r + 3, c - 2 : c + 3] = True
    image = np.stack([ground * 1.2, ground * 0.7, ground * 0.4]) * light
    image += 0.01 * rng.normal(size=image.shape)
    image[:, mask] *= 0.5
    image[:, ~field] = 0.02
    image[:, 85:93, 3:11] = np.maximum(image[:, 85:93, 3:11], label)
    return RetinaImage(image.astype(np.float32), field, mask)


def bit(name):
    return 1 << FACTORS.index(name)


def test_both_ends_are_the_photographs_and_composition_agrees_with_them():
    pair = RetinaPair(retina(0, lesions=6), retina(1, lesions=2, light=0.8, label=0.9), SCALE)
    full = (1 << len(FACTORS)) - 1
    assert pair.image(0) is pair.own
    assert pair.image(full) is pair.partner
    np.testing.assert_allclose(pair.mixed(0), pair.own, atol=1e-4)
    np.testing.assert_allclose(pair.mixed(full), pair.partner, atol=1e-4)


def test_lesions_are_removed_and_transplanted():
    one, two = retina(0, lesions=6), retina(1)
    pair = RetinaPair(one, two, SCALE)
    gone = pair.image(bit("lesions"))
    far = ~(ndimage.distance_transform_edt(~one.lesions) <= 3)
    np.testing.assert_allclose(gone[:, far & one.field], pair.own[:, far & one.field], atol=0.02)
    assert gone[:, one.lesions].mean() > pair.own[:, one.lesions].mean() + 0.5
    moved = pair.image(bit("background"))  # the own lesions on the partner's retina
    assert moved[:, one.lesions].mean() < pair.partner[:, one.lesions].mean() - 0.5


def test_each_factor_moves_its_own_place():
    one, two = retina(0, lesions=6, label=0.9), retina(1, light=0.7)
    pair = RetinaPair(one, two, SCALE)
    label = (slice(None), slice(86, 92), slice(4, 8))
    assert pair.own[label].mean() > pair.image(bit("outside"))[label].mean() + 1
    np.testing.assert_allclose(pair.image(bit("background"))[label], pair.own[label], atol=1e-4)
    darker = pair.image(bit("style"))[:, 40:56, 40:56] * 0.2
    assert darker.mean() < pair.own[:, 40:56, 40:56].mean() * 0.2 - 0.05
    assert not RetinaPair(retina(0), retina(1), SCALE).differs("lesions")


def test_a_filled_hole_is_like_its_surroundings_and_nothing_else_changes():
    one = retina(3, lesions=5)
    filled = without(one.image, one.lesions, one.field)
    np.testing.assert_array_equal(filled[:, ~one.lesions], one.image[:, ~one.lesions])
    assert filled[:, one.lesions].mean() == pytest.approx(
        filled[:, one.field & ~one.lesions].mean(), rel=0.05
    )
    assert without(one.image, np.zeros_like(one.lesions), one.field) is one.image


def test_the_control_has_the_same_pieces_elsewhere():
    one = retina(4, lesions=5)
    allowed = one.field & ~one.lesions
    moved = displaced_mask(one.lesions, allowed, seed=0)
    assert moved.sum() == one.lesions.sum()
    assert not (moved & ~allowed).any()
    assert sorted(np.bincount(ndimage.label(moved)[0].ravel())[1:])[-1] >= 25


@pytest.mark.parametrize("swapped", [False, True])
def test_a_colour_that_is_black_in_one_photograph_is_not_blown_up(swapped):
    """Blue is black in much of many a photograph: its grain is 0 there, and a ratio to it is no number."""
    first, second = (retina(seed) for seed in (1, 2))
    blue = first.image[2]
    dark = first.image.copy()
    dark[2] = np.clip(blue - np.quantile(blue[first.field], 0.8), 0, 1)
    pair = [replace(first, image=dark), second]
    if swapped:
        pair.reverse()
    composed = RetinaPair(pair[0], pair[1], ((0, 0, 0), (1, 1, 1)))
    for name in ("style", "background"):
        image = composed.image(bit(name))
        assert image[2].max() < 0.8  # neither photograph reaches 0.3
