"""What stands where on a page: left and right, scales, colours that survive grey."""

from __future__ import annotations

import numpy as np
import pytest
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform

from reports.figures.brain import Brain
from reports.figures.fundus import Photograph
from reports.figures.overlay import colours, grey, scale_of
from reports.figures.panels import Map, capacity, lead_panels


def brain(codes: str) -> dict[str, np.ndarray]:
    """A brain with a mark on the patient's left, front, top, stored along other axes."""
    shape = (20, 24, 18)
    affine = np.diag([2.0, 2, 2, 1])
    affine[:3, 3] = -20, -24, -18
    marks = np.zeros(shape, bool)
    marks[3:5, 18:20, 13:15] = True
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    image = np.random.default_rng(0).random(shape)
    arrays = {"image": image, "field": np.ones(shape, bool), "marks_x": marks, "map_lrp_class-1": marks * 1.0}
    turned = {name: apply_orientation(values, turn) for name, values in arrays.items()}
    turned["affine"] = affine @ inv_ornt_aff(turn, shape)
    return turned


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PSR", "ILA"])
def test_left_is_right_and_labelled(codes: str) -> None:
    scene = Brain(brain(codes))
    cursor = scene.start()
    axial, coronal, sagittal = scene.planes(cursor)
    assert axial.labels == ("R", "L", "A", "P")
    assert coronal.labels == ("R", "L", "S", "I")
    assert sagittal.labels == ("A", "P", "S", "I")

    def centre(plane: object) -> tuple[float, float]:
        picture = plane.cut(scene.marks["x"])
        rows, columns = np.nonzero(picture)
        return rows.mean() / picture.shape[0], columns.mean() / picture.shape[1]

    row, column = centre(axial)
    assert (row < 0.4, column > 0.6) == (True, True)
    row, column = centre(coronal)
    assert (row < 0.4, column > 0.6) == (True, True)
    row, column = centre(sagittal)
    assert (row < 0.4, column < 0.4) == (True, True)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PSR"])
def test_coordinates_are_world_millimetres(codes: str) -> None:
    scene = Brain(brain(codes))
    words = scene.where(scene.start()).replace("−", "-").replace(",", "").split()
    x, y, z = (int(words[i]) for i in (1, 3, 5))
    assert -14 <= x <= -12
    assert 12 <= y <= 14
    assert 8 <= z <= 10


def test_without_affine_nothing_is_labelled() -> None:
    arrays = brain("RAS")
    del arrays["affine"]
    scene = Brain(arrays)
    assert all(plane.labels == ("",) * 4 for plane in scene.planes(scene.start()))
    assert scene.where((1, 2, 3)).startswith("voxel")


def test_relevance_outside_the_brain_is_not_cut_away() -> None:
    arrays = brain("RAS")
    field = np.zeros_like(arrays["field"])
    field[8:12, 8:12, 8:12] = True
    arrays["field"] = field
    assert Brain(arrays).maps["map_lrp_class-1"].sum() == arrays["map_lrp_class-1"].sum()
    arrays["map_lrp_class-1"] = field * 1.0
    assert Brain(arrays).field.shape == (10, 10, 10)


def test_scale_is_a_percentile_inside_the_field() -> None:
    rng = np.random.default_rng(1)
    relevance = rng.normal(size=(50, 50))
    field = np.zeros((50, 50), bool)
    field[10:40, 10:40] = True
    relevance[0, 0] = 1e6
    assert scale_of(relevance, field) == pytest.approx(np.percentile(np.abs(relevance[field]), 99.5))
    assert scale_of(np.zeros((4, 4)), np.ones((4, 4), bool)) == 1.0
    sparse = np.zeros((50, 50))
    sparse[20, 20] = -3.0
    assert scale_of(sparse, field) == 3.0


def test_colours_keep_their_sign_in_grey() -> None:
    rgba = colours(np.linspace(-1, 1, 41)[None])[0]
    luminance = rgba[:, :3] @ [0.299, 0.587, 0.114]
    assert (luminance[rgba[:, 3] > 0.3][:10] < 0.45).all()
    assert (luminance[-10:] > 0.5).all()
    assert rgba[20, 3] == 0
    assert (np.diff(rgba[20:, 3]) > 0).all()
    assert np.isfinite(colours(np.array([[np.nan, np.inf, -np.inf]]))).all()


def test_grey_image_is_bounded() -> None:
    image = np.random.default_rng(2).normal(100, 20, (30, 30))
    out = grey(image, np.ones((30, 30), bool))
    assert out.min() >= 0
    assert out.max() <= 1
    assert np.isfinite(grey(np.zeros((5, 5)), np.zeros((5, 5), bool))).all()


def test_two_classes_take_an_even_number_of_columns() -> None:
    arrays = {"image": np.zeros((8, 8, 3)), "field": np.ones((8, 8), bool), "map_a_class-1": np.ones((8, 8))}
    assert Photograph(arrays).panels_per_row == 3
    assert Photograph(arrays | {"map_a_class-0": np.ones((8, 8))}).panels_per_row % 2 == 0


def test_large_photographs_keep_thin_marks_and_their_scale() -> None:
    rng = np.random.default_rng(3)
    marks = np.zeros((1501, 1301), bool)
    marks[700, 640] = True
    relevance = rng.normal(size=marks.shape)
    arrays = {"image": np.ones((*marks.shape, 3)), "field": np.ones_like(marks)}
    scene = Photograph(arrays | {"marks_x": marks, "map_a_class-1": relevance})
    assert max(scene.field.shape) <= 640
    assert scene.marks["x"].sum() == 1
    assert scene.image.shape == (*scene.field.shape, 3)
    assert scene.scales["map_a_class-1"] == pytest.approx(np.percentile(np.abs(relevance), 99.5))
    assert scene.maps["map_a_class-1"].shape == scene.field.shape


def test_pairs_of_maps_stay_together() -> None:
    arrays = {"image": np.zeros((8, 8, 3)), "field": np.ones((8, 8), bool)}
    scene = Photograph(arrays)
    assert lead_panels(scene, [Map("map_a_class-0", "A")]) == 1
    assert lead_panels(scene, [Map("map_a_class-0", "A", "for x")]) == 2
    assert capacity(scene, 200) == 9
    assert capacity(scene, 10) == 3
