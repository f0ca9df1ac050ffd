"""The average mask of an audit: aligned, without the patient's own marks, and made anew when marks change."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from pipeline.cohort import Case
from pipeline.images.types import Volume
from pipeline.images.volumes import write_volume
from pipeline.models.prepared import Prepared
from pipeline.stages.average_marks import FILE, NO_OTHER, SIDE, average_marks_of, marks_key

SIZE = 200
PLACE = {"right": (60, 140), "left": (60, 59)}  # the same place of the two eyes: columns mirrored


def disc(row=99.5, column=99.5, radius=90.0):
    rows, columns = np.mgrid[:SIZE, :SIZE]
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def textured(shape):
    """A bright ball in noise."""
    axes = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in shape)]
    ball = sum(np.square(a) for a in axes) < 0.5
    return (ball + 0.1 * np.random.default_rng(0).random(shape)).astype(np.float32)


def photograph(folder, name, eye, patient, lesions):
    picture = np.where(disc()[..., None], [150, 90, 40], 0).astype(np.uint8)
    Image.fromarray(picture).save(folder / f"{name}.png")
    marks = {}
    for lesion, (row, column) in lesions.items():
        mask = np.zeros((SIZE, SIZE), np.uint8)
        mask[row - 4 : row + 5, column - 4 : column + 5] = 255
        Image.fromarray(mask).save(folder / f"{name}_{lesion}.png")
        marks[lesion] = (folder / f"{name}_{lesion}.png",)
    return Case(name, patient, folder / f"{name}.png", marks=marks, covariates={"eye": eye})


def audit_of(folder, cases, modality="fundus", **more):
    card = SimpleNamespace(preprocessing=SimpleNamespace(kind="mri_grid"))
    return SimpleNamespace(
        protocol=SimpleNamespace(modality=modality),
        model=SimpleNamespace(card=card),
        atlas=None,
        folder=folder / "out",
        calibration=tuple(cases),
        marks_key=marks_key(cases),
        settings_key="settings",
        **more,
    )


@pytest.fixture
def prepared():
    return Prepared(None, np.eye(3), (SIZE, SIZE), disc())


@pytest.fixture
def cases(tmp_path):
    return [
        photograph(tmp_path, "a", "right", "p", {"dots": PLACE["right"]}),
        photograph(tmp_path, "b", "left", "p", {"dots": (150, 100)}),
        photograph(tmp_path, "c", "left", "q", {"dots": PLACE["left"], "blots": (100, 100)}),
    ]


def test_photographs_are_aligned_by_field_and_side_and_the_patient_is_left_out(tmp_path, cases, prepared):
    made = average_marks_of(audit_of(tmp_path, cases))
    of_a = made.of_others("a", "dots", prepared)
    assert np.hypot(*(np.array(np.unravel_index(of_a.argmax(), of_a.shape)) - PLACE["right"])) < 2
    assert of_a[148:153, 98:103].max() < 0.01 * of_a.max()  # the other case of the same patient
    of_c = made.of_others("c", "dots", prepared)
    assert min(of_c[PLACE["left"]], of_c[150, 100]) > 0.8 * of_c.max()
    assert made.of_others("c", "blots", prepared) == NO_OTHER
    assert made.counts["dots"]["a"].shape == (SIDE, SIDE)


def test_own_marks_change_nothing_and_others_do(tmp_path, cases, prepared):
    before = average_marks_of(audit_of(tmp_path, cases)).of_others("a", "dots", prepared)
    photograph(tmp_path, "a", "right", "p", {"dots": (100, 60)})
    photograph(tmp_path, "b", "left", "p", {"dots": (30, 100)})
    own = average_marks_of(audit_of(tmp_path, cases)).of_others("a", "dots", prepared)
    assert np.array_equal(before, own)
    photograph(tmp_path, "c", "left", "q", {"dots": (140, 80)})
    others = average_marks_of(audit_of(tmp_path, cases)).of_others("a", "dots", prepared)
    assert not np.array_equal(before, others)


def test_it_is_stored_and_taken_up_again_until_a_mark_changes(tmp_path, cases, monkeypatch, prepared):
    first = average_marks_of(audit_of(tmp_path, cases))
    assert (tmp_path / "out" / FILE).is_file()
    monkeypatch.setattr("pipeline.stages.average_marks.masks_of_experts", None)  # nothing is read twice
    again = average_marks_of(audit_of(tmp_path, cases))
    assert np.array_equal(first.of_others("a", "dots", prepared), again.of_others("a", "dots", prepared))
    assert again.patients == first.patients
    photograph(tmp_path, "c", "left", "q", {"dots": (140, 80)})
    with pytest.raises(TypeError):
        average_marks_of(audit_of(tmp_path, cases))


def test_a_changed_image_has_no_other_case_measured_again(cases):
    before, with_images = marks_key(cases), marks_key(cases, images=True)
    picture = np.where(disc()[..., None], [140, 80, 40], 0).astype(np.uint8)
    Image.fromarray(picture).save(cases[0].image)
    assert marks_key(cases) == before
    assert marks_key(cases, images=True) != with_images
    Image.new("L", (SIZE, SIZE), 255).save(cases[0].marks["dots"][0])
    assert marks_key(cases) != before


def test_a_case_that_cannot_be_used_is_named_and_does_not_stop_the_others(tmp_path, cases, prepared):
    noise = np.random.default_rng(0).integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")  # no field of view in it
    made = average_marks_of(audit_of(tmp_path, cases))
    assert "field of view" in made.left_out["a"]
    assert "field of view" in made.of_others("a", "dots", prepared)
    assert isinstance(made.of_others("c", "dots", prepared), np.ndarray)


def test_brains_are_averaged_in_the_space_of_the_template(tmp_path):
    """Two grids that differ in voxel size, origin and direction: the same place of the world."""
    cases, where = [], (-24.0, -12.0, -20.0)
    affines = [np.diag([2.0, 2.0, 2.0, 1.0]), np.diag([-3.0, 3.0, 3.0, 1.0])]
    affines[0][:3, 3], affines[1][:3, 3] = (-80, -100, -70), (84, -110, -72)
    for name, affine in zip("ab", affines, strict=True):
        shape = (80, 90, 70) if name == "a" else (56, 64, 48)
        mask = np.zeros(shape, np.uint8)
        at = np.rint(np.linalg.inv(affine) @ [*where, 1.0])[:3].astype(int)
        mask[tuple(slice(i - 1, i + 2) for i in at)] = 1
        write_volume(tmp_path / f"{name}.nii.gz", textured(shape), affine)
        write_volume(tmp_path / f"{name}_m.nii.gz", mask, affine)
        image, mark = tmp_path / f"{name}.nii.gz", tmp_path / f"{name}_m.nii.gz"
        cases.append(Case(name, name, image, marks={"atrophy": (mark,)}))
    made = average_marks_of(audit_of(tmp_path, cases, modality="mri"))
    field = np.ones((80, 90, 70), bool)
    of_a = made.of_others("a", "atrophy", Prepared(None, np.eye(4), field.shape, field, affines[0]))
    top = np.unravel_index(of_a.argmax(), of_a.shape)
    assert np.linalg.norm((affines[0] @ [*top, 1.0])[:3] - where) < 4.0


def test_a_brain_elsewhere_without_an_atlas_is_left_out(tmp_path):
    volume = Volume(textured((30, 30, 30)), np.diag([4.0, 4.0, 4.0, 1.0]))
    write_volume(tmp_path / "a.nii.gz", volume.data, volume.affine)
    write_volume(tmp_path / "m.nii.gz", np.ones((30, 30, 30), np.uint8), volume.affine)
    case = Case("a", "a", tmp_path / "a.nii.gz", marks={"atrophy": (tmp_path / "m.nii.gz",)})
    audit = audit_of(tmp_path, [case], modality="mri")
    audit.model.card = None
    assert "space" in average_marks_of(audit).left_out["a"]
