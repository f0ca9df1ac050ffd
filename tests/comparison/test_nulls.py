"""Null maps, and the traps that they would fall into if they were filtered naively."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from pipeline.comparison import field as fields
from pipeline.comparison import localisation, nulls
from pipeline.errors import MethodError


def disc(size=128, radius=55, dimensions=2):
    axes = np.ogrid[(slice(0, size),) * dimensions]
    return sum((axis - size / 2) ** 2 for axis in axes) < radius**2


@pytest.fixture(params=[2, 3])
def scene(request):
    """Texture inside a bright field on black, as a photograph or a skull-stripped brain."""
    size, radius = (128, 55) if request.param == 2 else (48, 20)
    field = disc(size, radius, request.param)
    texture = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(field.shape), 1.5)
    return np.where(field, 0.6 + 0.2 * texture, 0).astype(np.float32), field


def test_every_null_is_a_plain_map(scene):
    image, field = scene
    made = nulls.null_maps(image, field, seed=4)
    assert tuple(made) == nulls.IMAGE_NULLS
    for name, one in made.items():
        assert one.dtype == np.float32, name
        assert (one >= 0).all(), name
        assert not one[~field].any(), name
        assert np.ptp(one[field]) > 0, name
        assert np.array_equal(one, nulls.null_maps(image, field, seed=4)[name]), name
    assert not np.array_equal(made["random"], nulls.null_maps(image, field, seed=5)["random"])


@pytest.mark.parametrize("name", ["sobel", "contrast"])
def test_the_rim_of_the_field_is_no_edge(scene, name):
    image, field = scene
    rim = fields.rim_of(field, 4)
    inner = field & ~fields.rim_of(field, 10)
    made = nulls.null_maps(image, field, seed=0)[name]
    assert made[rim].mean() < 1.5 * made[inner].mean()
    if name == "sobel":  # the naive filter that this guards against
        naive = np.sqrt(sum(np.square(ndimage.sobel(image, axis)) for axis in range(field.ndim)))
    else:
        naive = np.abs(image - ndimage.gaussian_filter(image, 8))
    assert naive[rim].mean() > 2 * naive[inner].mean()


def test_a_flat_image_has_no_contrast_and_no_edges(scene):
    _, field = scene
    flat = np.where(field, 0.7, 0).astype(np.float32)
    assert nulls.sobel(flat, field).max() < 1e-5
    assert nulls.local_contrast(flat, field).max() < 1e-5


@pytest.mark.parametrize("name", ["sobel", "contrast"])
@pytest.mark.parametrize("change", [lambda x: x + 0.3, lambda x: 0.15 * x])
def test_black_level_and_dark_photographs_change_no_metric(scene, name, change):
    image, field = scene
    mask = np.random.default_rng(1).random(field.shape) < 0.05
    before = nulls.null_maps(image, field, seed=0)[name]
    after = nulls.null_maps(change(image).astype(np.float32), field, seed=0)[name]
    one, two = (localisation.measure(m, {"m": mask}, field)["m"] for m in (before, after))
    assert one.log2_mass_lift == pytest.approx(two.log2_mass_lift, abs=1e-3)
    assert one.auroc == pytest.approx(two.auroc, abs=1e-3)


def test_input_times_gradient_does_depend_on_the_black_level():
    """Why the maps are compared with contrast at the protocol's own preprocessing, and never across two."""
    rng = np.random.default_rng(2)
    gradient, image, mask = rng.standard_normal((64, 64)), rng.random((64, 64)), rng.random((64, 64)) < 0.1
    image[mask] -= 0.5  # dark lesions
    lifts = [
        localisation.measure((image - level) * gradient, {"m": mask})["m"].log2_mass_lift
        for level in (0.0, 1.0)
    ]
    assert abs(lifts[0] - lifts[1]) > 0.5


def test_centre_prior_peaks_at_the_centre_of_the_field():
    field = np.zeros((60, 80), bool)
    field[10:31, 40:71] = True
    assert np.unravel_index(nulls.centre_prior(field).argmax(), field.shape) == (20, 55)


def test_contrast_is_the_formula_inside_a_full_field():
    image = np.random.default_rng(3).random((40, 50)).astype(np.float32)
    field = np.ones(image.shape, bool)
    expected = np.abs(image - ndimage.gaussian_filter(image, 8, mode="nearest"))
    assert nulls.local_contrast(image, field) == pytest.approx(expected, abs=1e-6)


def test_green_is_taken_from_colour():
    colour = np.random.default_rng(4).random((3, 20, 20)).astype(np.float32)
    assert np.array_equal(nulls.single_channel(colour, 2), colour[1])
    with pytest.raises(MethodError):
        nulls.single_channel(colour, 1)


def test_extension_keeps_the_field_and_is_smooth_beyond(scene):
    image, field = scene
    extended = fields.extend_beyond(image, field)
    assert np.array_equal(extended[field], image[field])
    assert extended[~field].min() > 0.3


@pytest.mark.parametrize("make", [nulls.sobel, nulls.local_contrast])
def test_an_empty_field_is_refused(make):
    with pytest.raises(MethodError):
        make(np.zeros((5, 5), np.float32), np.zeros((5, 5), bool))
    with pytest.raises(MethodError):
        nulls.centre_prior(np.zeros((5, 5), bool))
