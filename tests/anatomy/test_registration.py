"""Atlas to patient: known deformations are found, spoilt registrations are refused, left stays left."""

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from atlases import load_atlas
from atlases.own import Segmentation
from pipeline.anatomy import registration_cache
from pipeline.anatomy.brain import in_template_space, regions_by, regions_from, template_dice, warp_labels
from pipeline.anatomy.brain_mask import brain_mask
from pipeline.anatomy.brain_quality import judge
from pipeline.anatomy.brain_registration import (
    Registration,
    contrast,
    identity,
    register,
    voxel_points,
)
from pipeline.anatomy.brain_working import working_image
from pipeline.images.types import Volume
from pipeline.phantoms.brain_warped import warped_brain


@pytest.fixture(scope="module")
def patient():
    """Draw a small, turned, bent and atrophied brain of unequal voxels."""
    return warped_brain(7, spacing_mm=(2.5, 2.5, 4.0), scale=0.85, degrees=25, largest_mm=8, severity=0.6)


@pytest.fixture(scope="module")
def found(patient):
    return register(patient.volume, threads=1)


def mean_dice(patient, registration):
    atlas = load_atlas("AAL")
    labels = warp_labels(atlas, patient.volume, registration) * patient.brain
    scores = [
        2
        * ((labels == i) & (patient.labels == i)).sum()
        / ((labels == i).sum() + (patient.labels == i).sum())
        for i in atlas.table
        if (patient.labels == i).any()
    ]
    return float(np.mean(scores))


def test_each_stage_brings_the_regions_nearer_to_where_they_are(patient, found):
    before, affine, deformed = (mean_dice(patient, r) for r in (identity(), found.affine_only(), found))
    assert before < 0.35
    assert affine > 0.5
    assert deformed > max(0.72, affine + 0.1)  # voxels of 25 mm³: thin regions lose here what 2 mm keeps


@given(gain=st.floats(0.5, 2), offset=st.floats(0.05, 0.5), seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_local_contrast_forgets_gain_offset_and_bias(gain, offset, seed):
    """What is left of the bias field must not pull: only the pattern does."""
    rng = np.random.default_rng(seed)
    pattern = 1 + gaussian_filter(rng.standard_normal((20, 20, 20)), 1).astype(np.float32)
    ramp = np.linspace(0.9, 1.1, 20, dtype=np.float32)[:, None, None]
    usual, other, shaded = (
        sitk.GetArrayFromImage(contrast(sitk.GetImageFromArray(np.float32(x)), own=0.0))
        for x in (pattern, gain * pattern + offset, pattern * ramp)
    )
    assert np.corrcoef(usual.ravel(), other.ravel())[0, 1] > 0.995
    assert np.corrcoef(usual.ravel(), shaded.ravel())[0, 1] > 0.97


def test_the_gate_accepts_it_and_the_regions_lie_in_the_brain(patient, found):
    regions = regions_by(patient.volume, load_atlas("AAL"), found)
    assert regions.registered, regions.reason
    assert regions.how == "registration"
    assert regions.quality.folded == 0
    assert patient.brain[regions.labels > 0].mean() > 0.9


def test_linear_normalisation_leads_to_template_space(patient, found):
    there = in_template_space(patient.volume, found)
    assert np.array_equal(there.data, patient.volume.data)
    assert template_dice(there, brain_mask(there)) > 0.88 > template_dice(patient.volume, patient.brain)


def turned(found, matrix, shift=(0.0, 0.0, 0.0)):
    middle = np.array([0.0, -18.0, 10.0])
    step = np.eye(4)
    step[:3, :3] = matrix
    step[:3, 3] = middle - matrix @ middle + shift
    return replace(found, template_from_image=step @ found.template_from_image)


def about(axis, degrees):
    i, j = [k for k in range(3) if k != axis]
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    out = np.eye(3)
    out[[i, j], [i, j]] = cosine
    out[i, j], out[j, i] = -sine, sine
    return out


def folded(found):
    index = np.indices(found.displacement.shape[1:])
    return replace(found, displacement=found.displacement + 9 * np.sin(index[[1, 2, 0]] / 1.5))


SABOTAGE = {
    "20 mm to the side": lambda f: turned(f, np.eye(3), (20, 0, 0)),
    "20 mm back": lambda f: turned(f, np.eye(3), (0, -20, 0)),
    "20 mm up": lambda f: turned(f, np.eye(3), (0, 0, 20)),
    "30° nod": lambda f: turned(f, about(0, 30)),
    "30° tilt": lambda f: turned(f, about(1, -30)),
    "30° turn": lambda f: turned(f, about(2, 30)),
    "front for back": lambda f: turned(f, np.diag([1.0, -1, 1])),
    "up for down": lambda f: turned(f, np.diag([1.0, 1, -1])),
    "both, so that nothing is mirrored": lambda f: turned(f, np.diag([1.0, -1, -1])),
    "half as large": lambda f: turned(f, 0.5 * np.eye(3)),
    "folded": folded,
}


@pytest.mark.parametrize("harm", SABOTAGE.values(), ids=SABOTAGE)
def test_a_spoilt_registration_is_refused_with_its_reason(patient, found, harm):
    quality = judge(working_image(patient.volume, 2.5, 1), harm(found))
    assert quality.reasons


def test_folding_and_mirroring_are_named(patient, found):
    image = working_image(patient.volume, 2.5, 1)
    assert any("folds" in reason for reason in judge(image, folded(found)).reasons)
    mirrored = judge(image, turned(found, np.diag([1.0, -1, 1]))).reasons
    assert any("mirrors" in reason for reason in mirrored)


def test_left_and_right_agree_in_four_stored_orientations(patient, found):
    """What is stored in another order lies in the same place: voxel order must not reach the labels."""
    atlas = load_atlas("AAL")
    usual = warp_labels(atlas, patient.volume, found)
    image = nib.Nifti1Image(patient.volume.data, patient.volume.affine)
    for codes in ("RAS", "LAS", "PSR", "SLP"):
        step = nib.orientations.ornt_transform(
            nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(codes)
        )
        other = image.as_reoriented(step)
        volume = Volume(np.ascontiguousarray(other.get_fdata(dtype=np.float32)), other.affine)
        labels = warp_labels(atlas, volume, found)
        for label in (37, 38, 1, 2):
            assert (labels == label).sum() == (usual == label).sum()
            assert volume.data[labels == label].mean() == pytest.approx(
                patient.volume.data[usual == label].mean(), rel=1e-4
            )


def test_the_jacobian_of_a_known_field():
    field = np.zeros((3, 8, 8, 8), np.float32)
    field[0] = 0.5 * 2.0 * np.arange(8)[:, None, None]  # stretched by 1.5 along x, on a 2 mm grid
    grid = np.diag([2.0, 2, 2, 1])
    assert Registration(np.eye(4), field, grid).jacobian() == pytest.approx(1.5, rel=1e-5)
    assert Registration(np.eye(4), -3 * field, grid).jacobian().max() < 0


def test_points_go_through_displacement_and_affine():
    field = np.full((3, 5, 5, 5), 2.0, np.float32)
    shift = np.eye(4)
    shift[0, 3] = 10
    points = voxel_points((2, 2, 2), np.eye(4))
    moved = Registration(shift, field, np.eye(4)).to_template(points)
    assert moved == pytest.approx(points + np.array([[12], [2], [2]]))


def test_a_registration_is_made_once_an_image(tmp_path: Path, monkeypatch):
    volume = Volume(np.random.default_rng(0).random((4, 4, 4), np.float32), np.eye(4))
    kept = Registration(np.diag([1.0, 2, 3, 1]), np.full((3, 2, 2, 2), 0.1, np.float32), np.eye(4))
    made = []

    def make():
        made.append(1)
        return kept

    for _ in range(2):
        registration_cache.cached(volume, make, tmp_path)
    registration_cache._memory.clear()
    again = registration_cache.cached(volume, make, tmp_path)
    assert len(made) == 1
    assert np.array_equal(again.template_from_image, kept.template_from_image)
    assert again.displacement == pytest.approx(kept.displacement, rel=1e-3)
    registration_cache.cached(replace(volume, affine=2 * np.eye(4)), make, tmp_path)
    assert len(made) == 2
    next(tmp_path.glob("*.npz")).write_bytes(b"torn")
    registration_cache._memory.clear()
    for one in (volume, replace(volume, affine=2 * np.eye(4))):
        registration_cache.cached(one, make, tmp_path)
    assert len(made) == 3  # the torn one was made again


def test_a_segmentation_of_the_patient_is_taken_instead(patient):
    table = load_atlas("AAL").table
    own = Segmentation(patient.labels, patient.volume.affine, dict(table), "aseg.nii.gz")
    regions = regions_from(patient.volume, own)
    assert regions.registered
    assert np.array_equal(regions.labels, patient.labels)
    assert set(regions.table) == set(np.unique(patient.labels)) - {0}


def test_a_segmentation_of_someone_else_is_refused(patient):
    far = patient.volume.affine.copy()
    far[:3, 3] += 90
    own = Segmentation(patient.labels, far, dict(load_atlas("AAL").table), "aseg.nii.gz")
    regions = regions_from(patient.volume, own)
    assert not regions.registered
    assert "own segmentation lies in its brain" in regions.reason
