"""MRI onto a model's grid and back."""

import itertools

import nibabel as nib
import numpy as np
import pytest

from pipeline.errors import AnatomyError, ModelError
from pipeline.images.types import Volume
from pipeline.models.card import Preprocessing
from pipeline.models.prepare_mri import prepare_mri, resample

GRID = Preprocessing(
    kind="mri_grid",
    shape=(20, 24, 18),
    affine=((4, 0, 0, -40), (0, 4, 0, -48), (0, 0, 4, -36), (0, 0, 0, 1)),
)


def blob(shape=(40, 44, 38), spacing=2.0, seed=0):
    """Draw a head-sized ellipsoid with a brighter lobe on its left, on an RAS grid."""
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = -spacing * (np.array(shape) - 1) / 2
    axes = [np.arange(n) * spacing + o for n, o in zip(shape, affine[:3, 3], strict=True)]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    inside = (x / 30) ** 2 + (y / 36) ** 2 + (z / 28) ** 2 < 1
    data = inside * (300 + 2 * np.cos(x / 9) * np.sin(y / 11) * 40 + 100 * (x < -10))
    return Volume(data.astype(np.float32), affine, "blob")


def reoriented(volume, codes):
    image = nib.Nifti1Image(volume.data, volume.affine)
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(volume.affine), nib.orientations.axcodes2ornt(codes)
    )
    out = image.as_reoriented(turn)
    return Volume(np.asarray(out.dataobj), out.affine, "turned")


@pytest.mark.parametrize("codes", ["LAS", "PSR", "IPL", "SAR"])
def test_the_stored_orientation_does_not_matter(codes):
    volume = blob()
    usual, turned = prepare_mri(volume, GRID), prepare_mri(reoriented(volume, codes), GRID)
    np.testing.assert_allclose(turned.tensor, usual.tensor, atol=1e-5)
    np.testing.assert_array_equal(turned.field, usual.field)


def test_an_oblique_image_lands_where_its_affine_says():
    volume = blob()
    angle = np.deg2rad(20)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    # sample the same head on an oblique grid, then prepare that
    oblique = volume.affine @ np.diag([1.0, 1, 1, 1])
    oblique = turn @ oblique
    data = resample(volume.data, np.linalg.inv(volume.affine) @ oblique, volume.shape)
    straight, tilted = prepare_mri(volume, GRID), prepare_mri(Volume(data, oblique, "oblique"), GRID)
    both = straight.field & tilted.field
    assert both.sum() > 0.95 * straight.field.sum()
    a, b = straight.tensor[0, 0].numpy()[both], tilted.tensor[0, 0].numpy()[both]
    assert np.corrcoef(a, b)[0, 1] > 0.95


def test_resampling_agrees_with_a_slow_trilinear_reference():
    rng = np.random.default_rng(3)
    data = rng.random((5, 6, 4)).astype(np.float32)
    step = np.eye(4)
    step[:3, :3] = np.diag([0.7, 1.3, 0.9]) + 0.1 * rng.standard_normal((3, 3))
    step[:3, 3] = [0.4, 0.2, 0.6]
    got = resample(data, step, (4, 3, 3))
    for index in np.ndindex(4, 3, 3):
        at = (step @ [*index, 1])[:3]
        if (at < 0).any() or (at > np.array(data.shape) - 1).any():
            continue
        low = np.floor(at).astype(int)
        value = 0.0
        for corner in itertools.product((0, 1), repeat=3):
            place = np.minimum(low + corner, np.array(data.shape) - 1)
            weight = np.prod([f if c else 1 - f for f, c in zip(at - low, corner, strict=True)])
            value += weight * data[tuple(place)]
        assert got[index] == pytest.approx(value, abs=1e-6)


def test_the_way_back_leads_to_the_native_voxel():
    volume = reoriented(blob(), "PSR")
    prepared = prepare_mri(volume, GRID)
    brightest = np.unravel_index(prepared.tensor[0, 0].numpy().argmax(), GRID.shape)
    native = (prepared.native_from_model @ [*brightest, 1])[:3]
    world = volume.affine @ [*native, 1]
    np.testing.assert_allclose(world, np.array(GRID.affine) @ [*brightest, 1], atol=1e-9)
    assert prepared.native_shape == volume.shape
    np.testing.assert_array_equal(prepared.affine, GRID.affine)


@pytest.mark.parametrize("gain", [0.001, 1, 5000])
def test_the_mean_of_the_brain_is_one_whatever_the_scanners_units(gain):
    volume = blob()
    prepared = prepare_mri(Volume(volume.data * np.float32(gain), volume.affine), GRID)
    assert prepared.tensor[0, 0].numpy()[prepared.field].mean() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(prepared.tensor, prepare_mri(volume, GRID).tensor, rtol=1e-4, atol=1e-6)


def test_small_negatives_a_hole_and_a_mark_outside_do_not_change_the_field():
    volume = blob()
    data = volume.data.copy()
    data[19:22, 20:23, 18:21] = -3  # a dark ventricle, slightly negative
    data[1:4, 1:4, 1:4] = 900  # a burnt-in mark in a corner
    field = prepare_mri(Volume(data, volume.affine), GRID).field
    np.testing.assert_array_equal(field, prepare_mri(volume, GRID).field)


def test_an_image_as_read_is_left_as_it_is():
    volume = reoriented(blob(), "LAS")
    prepared = prepare_mri(volume, Preprocessing(kind="as_read"))
    np.testing.assert_array_equal(prepared.tensor[0, 0], volume.data)
    np.testing.assert_array_equal(prepared.native_from_model, np.eye(4))
    np.testing.assert_array_equal(prepared.affine, volume.affine)


def test_a_brain_beside_the_grid_is_refused():
    volume = blob()
    away = volume.affine.copy()
    away[:3, 3] += 500
    with pytest.raises(ModelError, match="no brain lies on the model's grid"):
        prepare_mri(Volume(volume.data, away, "far"), GRID)


def test_an_image_without_signal_is_refused():
    with pytest.raises(AnatomyError, match="nothing in it is bright"):
        prepare_mri(Volume(np.zeros((9, 9, 9), np.float32), np.eye(4), "empty"), GRID)


def test_a_card_that_does_not_fit_mri_is_refused():
    with pytest.raises(ModelError):
        prepare_mri(blob(), Preprocessing(kind="fundus_square", shape=(8, 8)))
