"""Disc, fovea and side, and the ETDRS grid that follows from them."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.anatomy import retina_regions as module
from pipeline.anatomy.retina import FieldOfView, field_of_view
from pipeline.anatomy.retina_landmarks import Landmarks, find_landmarks
from pipeline.anatomy.retina_regions import ETDRS_TABLE, retina_regions, retina_regions_on, trusted
from pipeline.images.types import Photograph
from pipeline.phantoms.retina import retina_phantom


@pytest.mark.parametrize(
    ("seed", "grade", "site"), [(0, 0, "copper"), (1, 4, "amber"), (8, 3, "rose"), (12, 2, None)]
)
def test_landmarks_of_phantoms(seed, grade, site):
    one = retina_phantom(seed, grade, 320, site=site)
    found = find_landmarks(one.photograph, field_of_view(one.photograph))
    disc = np.hypot(found.disc[0] - one.disc[0], found.disc[1] - one.disc[1])
    fovea = np.hypot(found.fovea[0] - one.fovea[0], found.fovea[1] - one.fovea[1])
    assert disc < one.disc[2]
    assert fovea < one.disc[2]  # half a disc diameter
    assert 0.7 < found.disc[2] / one.disc[2] < 1.3
    assert found.laterality == one.laterality
    assert trusted(found)


def test_a_mirrored_photograph_is_the_other_eye():
    one = retina_phantom(3, 1, 320)
    mirrored = Photograph(np.ascontiguousarray(one.photograph.data[:, ::-1]))
    sides = [find_landmarks(p, field_of_view(p)).laterality for p in (one.photograph, mirrored)]
    assert set(sides) == {"left", "right"}


def known(monkeypatch, disc=(100.0, 160.0, 12.0), fovea=(100.0, 100.0), confidence=1.0):
    side = "right" if fovea[1] < disc[1] else "left"
    landmarks = Landmarks(disc, fovea, side, confidence, confidence)
    monkeypatch.setattr(module, "find_landmarks", lambda *_: landmarks)
    return Photograph(np.zeros((201, 201, 3), np.float32)), FieldOfView(100.0, 100.0, 98.0, (201, 201))


def test_the_grid_lies_about_the_fovea(monkeypatch):
    """Right eye: nasal is where the disc lies, temporal on the other side."""
    photograph, view = known(monkeypatch)
    regions = retina_regions(photograph, view=view)
    name = {point: regions.table.get(int(regions.labels[point])) for point in np.ndindex(201, 201)}
    millimetre = 60 / 4.76
    at = {mm: round(mm * millimetre) for mm in (1.0, 2.2, 4.5)}
    assert name[100, 100] == "centre"
    assert name[100, 160] == "optic disc"
    assert name[100 - at[1.0], 100] == "inner superior"
    assert name[100 + at[1.0], 100] == "inner inferior"
    assert name[100, 100 - at[1.0]] == "inner temporal"
    assert name[100, 100 + at[1.0]] == "inner nasal"
    assert name[100, 100 - at[2.2]] == "outer temporal"
    assert name[100 + at[4.5], 99] == "periphery inferior temporal"
    assert name[100 - at[4.5], 101] == "periphery superior nasal"
    assert name[0, 0] is None
    areas = np.bincount(regions.labels.ravel())
    assert areas[2] == pytest.approx(np.pi * (0.5 * millimetre) ** 2, rel=0.06)
    assert areas[3:7].sum() == pytest.approx(np.pi * (1.5**2 - 0.5**2) * millimetre**2, rel=0.03)
    assert set(regions.table) <= set(ETDRS_TABLE)


def test_a_left_eye_is_its_mirror_image(monkeypatch):
    right = retina_regions(*known(monkeypatch)[:1], view=known(monkeypatch)[1]).labels
    photograph, view = known(monkeypatch, disc=(100.0, 40.0, 12.0))
    left = retina_regions(photograph, view=view).labels
    assert (left == right[:, ::-1]).mean() > 0.995


def test_uncertain_landmarks_fall_back_to_quadrants_and_say_so(monkeypatch):
    photograph, view = known(monkeypatch, confidence=0.05)
    regions = retina_regions(photograph, view=view)
    assert regions.registered
    assert sorted(regions.table.values())[0] == "lower left quadrant of the picture"
    assert len(regions.table) == 4
    assert "uncertain" in regions.notes[0]


def test_the_models_grid_shows_the_same_regions(monkeypatch):
    photograph, view = known(monkeypatch)
    native = retina_regions(photograph, view=view).labels
    half = np.diag([2.0, 2.0, 1.0])
    small = retina_regions_on(photograph, half, (100, 100), view=view)
    assert np.array_equal(small.labels, native[:200:2, :200:2])


def test_a_field_without_retina_is_not_trusted():
    """Plain colour has neither disc nor fovea."""
    rows, columns = np.indices((300, 300)) - 150
    data = np.where((np.hypot(rows, columns) < 140)[..., None], [0.6, 0.3, 0.1], 0)
    noise = np.random.default_rng(0).normal(0, 0.01, data.shape)
    photograph = Photograph(np.clip(data + noise, 0, 1).astype(np.float32))
    found = find_landmarks(photograph, FieldOfView(150.0, 150.0, 140.0, (300, 300)))
    assert not trusted(found)


@pytest.mark.long
def test_discs_of_real_photographs(data: Path):
    from pipeline.images import read_mask, read_photograph

    folder = data / "retina" / "idrid" / "A. Segmentation"
    near = []
    for path in sorted(folder.glob("1*/*/*.jpg")):
        photograph = read_photograph(path)
        (mask,) = folder.glob(f"2*/*/5*/{path.stem}*")
        here = np.argwhere(read_mask(mask, photograph.shape, None))
        radius = np.sqrt(len(here) / np.pi)
        found = find_landmarks(photograph, field_of_view(photograph))
        hit = np.hypot(*(here.mean(0) - found.disc[:2])) <= radius
        near.append(hit)
        if trusted(found):
            assert hit, path.name  # a wrong disc must not be a confident one
            assert 1.8 < np.hypot(*(np.array(found.fovea) - here.mean(0))) / (2 * radius) < 3.2
    assert np.mean(near) >= 0.9
