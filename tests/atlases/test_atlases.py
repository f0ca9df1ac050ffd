"""Atlases: labels, tables, licences, and the regions a disease is expected in."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlases import ATLASES, expected_regions, hemisphere_pairs, load_atlas
from atlases.atlas import check_labels, split_side
from atlases.registry import read_table
from pipeline.errors import AnatomyError


@pytest.mark.parametrize(("name", "regions", "pairs"), [("AAL", 116, 54), ("AAL3", 166, 78)])
def test_every_label_has_a_name_and_every_pair_its_two_sides(name, regions, pairs):
    atlas = load_atlas(name)
    assert set(np.unique(atlas.labels)) - {0} == set(atlas.table)
    assert len(atlas.table) == regions
    assert len(atlas.pairs) == pairs
    sizes = np.bincount(atlas.labels.ravel())
    x = np.broadcast_to(np.arange(atlas.labels.shape[0])[:, None, None], atlas.labels.shape)
    mean_x = np.bincount(atlas.labels.ravel(), x.ravel()) / np.maximum(sizes, 1)
    for left, right in atlas.pairs:
        assert atlas.table[left][:-1] == atlas.table[right][:-1]
        assert atlas.table[left].endswith("_L")
        assert mean_x[left] < mean_x[right]


def test_the_licence_is_the_atlas_own():
    for name, card in ATLASES.items():
        assert ("GNU" in card.licence) == name.startswith("AAL")
        assert "MIT" not in card.licence


def test_names_are_found_in_any_case_and_arrays_cannot_be_changed():
    atlas = load_atlas("aal")
    assert atlas is load_atlas("AAL")
    with pytest.raises(ValueError, match="read-only"):
        atlas.labels[0, 0, 0] = 1


def test_corrected_aal_lies_where_aal3_lies():
    aal, aal3 = load_atlas("AAL"), load_atlas("AAL3")
    index = {name: label for label, name in aal3.table.items()}

    def middle(atlas, label):
        return (atlas.affine @ np.append(np.argwhere(atlas.labels == label).mean(0), 1))[:3]

    same = ("Hippocampus_L", "Putamen_R", "Precentral_R", "Calcarine_L")
    moved = [
        middle(aal, label) - middle(aal3, index[name]) for label, name in aal.table.items() if name in same
    ]
    assert len(moved) == 4
    assert np.abs(moved).max() < 1.5  # 1.7 mm in y and in z as shipped, and 1.3 in x
    assert np.abs(np.mean(moved, 0)[1:]).max() < 0.5


def test_corrected_aal_covers_the_templates_grey_matter_better_than_as_shipped():
    from pipeline.anatomy.brain_template import load_template

    template, atlas, card = load_template(), load_atlas("AAL"), ATLASES["AAL"]
    here = np.argwhere(atlas.labels > 0) + atlas.affine[:3, 3] - template.affine[:3, 3]

    def grey(points):
        at = np.rint(points).astype(int)
        inside = ((at >= 0) & (at < template.grey.shape)).all(1)
        return template.grey[tuple(at[inside].T)].sum() / len(at)

    assert grey(here) > grey(here - np.array(card.shift_mm)) + 0.01


@pytest.mark.parametrize(
    ("labels", "affine", "table", "message"),
    [
        (np.full((2, 2, 2), 0.5), np.eye(4), {1: "a"}, "not whole numbers"),
        (np.full((2, 2, 2), np.nan), np.eye(4), {1: "a"}, "not whole numbers"),
        (np.ones((2, 2)), np.eye(4), {1: "a"}, "2 dimensions"),
        (np.full((2, 2, 2), 7), np.eye(4), {1: "a"}, "labels 7 are not in its table"),
        (np.zeros((2, 2, 2), int), np.eye(4), {1: "a"}, "no voxel carries a label"),
        (-np.ones((2, 2, 2), int), np.eye(4), {1: "a"}, "is negative"),
        (np.ones((2, 2, 2), int), np.diag([0.0, 1, 1, 1]), {1: "a"}, "not a transform"),
        (np.ones((2, 2, 2), int), np.diag([0.001, 0.001, 0.001, 1]), {1: "a"}, "voxels of 0.001"),
    ],
)
def test_a_label_image_that_cannot_be_trusted_is_refused(labels, affine, table, message):
    with pytest.raises(AnatomyError, match=message):
        check_labels(labels, affine, table, "mine")


def test_whole_numbers_stored_as_floats_are_labels():
    assert check_labels(np.full((2, 2, 2), 3.0), np.eye(4), {3: "a"}, "mine").dtype == np.int32


def test_an_unknown_atlas_says_which_there_are():
    with pytest.raises(AnatomyError, match="use one of AAL"):
        load_atlas("Brodmann")


@given(st.data())
def test_expected_regions_follow_the_names_not_the_numbers(data):
    table = load_atlas("AAL").table
    shuffled = data.draw(st.permutations(sorted(table)))
    renumbered = dict(zip(shuffled, table.values(), strict=True))
    usual, other = (expected_regions("alzheimer", t) for t in (table, renumbered))
    assert {table[i] for i in usual.labels(1)} == {renumbered[i] for i in other.labels(1)}
    assert {table[i] for i in usual.labels()} == {renumbered[i] for i in other.labels()}
    assert {table[i] for i in usual.negative_labels} == {renumbered[i] for i in other.negative_labels}


def test_alzheimer_in_aal_and_aal3():
    for name, indices in (("AAL", (37, 38)), ("AAL3", (41, 42))):
        table = load_atlas(name).table
        expected = expected_regions("alzheimer", table)
        assert expected.tiers[0]["hippocampus"] == indices
        assert {"entorhinal", "inferior_lateral_ventricle", "brain_stem"} == set(expected.absent)
        assert not set(expected.labels()) & set(expected.negative_labels)
        assert not set(expected.labels(1)) & set(expected.labels(2))
        assert len(expected.labels(1)) == 6


def test_a_disease_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('[tier1]\nmotor = ["precentral"]\n[negative_controls]\nback = ["Occipital_*"]\n')
    table = load_atlas("AAL").table
    expected = expected_regions(path, table)
    assert [table[i] for i in expected.labels(1)] == ["Precentral_L", "Precentral_R"]
    assert len(expected.negative_labels) == 6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tier1]\nx = 3\n", "not a list of names"),
        ("[tier1\n", "cannot be read"),
        ('[tier1]\nx = ["no such region"]\n', "none of its tier 1"),
    ],
)
def test_a_disease_file_that_says_nothing_usable_is_refused(tmp_path, text, message):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(AnatomyError, match=message):
        expected_regions(path, load_atlas("AAL").table)


def test_an_unknown_disease_says_which_there_are():
    with pytest.raises(AnatomyError, match="use one of alzheimer"):
        expected_regions("gout", load_atlas("AAL").table)


@pytest.mark.parametrize(
    ("name", "stem", "side"),
    [
        ("Hippocampus_L", "Hippocampus", "L"),
        ("Right Amygdala", "Amygdala", "R"),
        ("Left-Hippocampus", "Hippocampus", "L"),
        ("rh_fusiform", "fusiform", "R"),
        ("Vermis_3", "Vermis_3", ""),
        ("Rectus_L", "Rectus", "L"),
        ("Lingual", "Lingual", ""),
    ],
)
def test_sides_of_names(name, stem, side):
    assert split_side(name) == (stem, side)


def test_midline_regions_are_in_no_pair():
    assert hemisphere_pairs({1: "A_L", 2: "A_R", 3: "Vermis", 4: "B_L"}) == ((1, 2),)


def test_tables_are_read_past_extra_columns():
    assert read_table("1 Precentral_L 2001\n\n2\tPrecentral_R\nheader line\n") == {
        1: "Precentral_L",
        2: "Precentral_R",
    }
