"""Atlas regions on the patient's own grid."""

import nibabel as nib
import numpy as np
import pytest

from atlases import load_atlas
from pipeline.anatomy.brain import in_place_correlation, regions_of, template_dice
from pipeline.anatomy.brain_mask import brain_mask
from pipeline.anatomy.brain_template import load_template
from pipeline.errors import AnatomyError
from pipeline.images.types import Volume
from pipeline.phantoms.brain import brain_phantom


@pytest.fixture(scope="module")
def one_sided():
    """Draw a brain whose left hippocampus alone has shrunk, without noise."""
    return brain_phantom(4, 1.0, regions=("Hippocampus_L",), noise=0.0)


def stored(volume, codes):
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(volume.affine), nib.orientations.axcodes2ornt(codes)
    )
    image = nib.Nifti1Image(volume.data, volume.affine).as_reoriented(turn)
    return Volume(np.asarray(image.dataobj), image.affine, codes)


def tilted(volume, degrees=15):
    from scipy.ndimage import affine_transform

    angle = np.deg2rad(degrees)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = turn @ volume.affine
    step = np.linalg.inv(volume.affine) @ affine
    data = affine_transform(volume.data, step[:3, :3], step[:3, 3], output_shape=volume.shape, order=1)
    return Volume(data, affine, "oblique")


def region_means(volume):
    regions = regions_of(volume, load_atlas("AAL"))
    assert regions.registered
    return {name: volume.data[regions.labels == label].mean() for label, name in regions.table.items()}


def test_every_stored_orientation_gives_the_same_region_table(one_sided):
    usual = region_means(one_sided.volume)
    assert usual["Hippocampus_L"] < 0.85 * usual["Hippocampus_R"]  # the shrunken side is the left one
    for codes in ("LAS", "PSR", "RAS", "SLP"):
        assert region_means(stored(one_sided.volume, codes)) == pytest.approx(usual, rel=1e-5)


@pytest.mark.long
def test_a_registered_brain_gives_the_same_region_table_in_every_stored_orientation(one_sided):
    """Each order of the stored axes is registered anew; the shrunken side stays the left one."""
    move = np.eye(4)
    angle = np.deg2rad(12)
    move[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    move[:3, :3] *= 0.88
    move[:3, 3] = 14, -9, 6
    moved = Volume(one_sided.volume.data, move @ one_sided.volume.affine, "moved")
    usual = region_means(moved)
    assert usual["Hippocampus_L"] < 0.9 * usual["Hippocampus_R"]
    for codes in ("LAS", "PSR", "SLP"):
        turned = stored(moved, codes)
        assert regions_of(turned, load_atlas("AAL")).how == "registration"
        assert region_means(turned) == pytest.approx(usual, rel=0.01)


def test_an_oblique_image_gives_the_same_region_table(one_sided):
    usual, oblique = region_means(one_sided.volume), region_means(tilted(one_sided.volume))
    large = [name for name in usual if name.startswith(("Hippocampus", "Temporal", "Frontal", "Precuneus"))]
    assert len(large) > 15
    for name in large:
        assert oblique[name] == pytest.approx(usual[name], rel=0.06)
    assert oblique["Hippocampus_L"] < 0.87 * oblique["Hippocampus_R"]


def test_regions_follow_the_phantoms_own_labels(one_sided):
    carried = regions_of(one_sided.volume, load_atlas("AAL")).labels
    brain = one_sided.masks["brain"]
    same = (carried == one_sided.labels)[brain & (one_sided.labels > 0)].mean()
    assert same > 0.6  # the atlas is not deformed with this brain; the phantom's labels are


@pytest.mark.parametrize("name", ["AAL", "AAL3"])
def test_no_region_is_lost_or_invented_at_two_millimetres(one_sided, name):
    regions = regions_of(one_sided.volume, load_atlas(name))
    assert set(np.unique(regions.labels)) - {0} == set(regions.table) == set(load_atlas(name).table)


def test_a_squeezed_brain_is_not_in_template_space(one_sided):
    volume = one_sided.volume
    small = Volume(volume.data, np.diag([0.8, 0.8, 0.8, 1]) @ volume.affine, "small")
    regions = regions_of(small, load_atlas("AAL"), register=False)
    assert not regions.registered
    assert "not in template space" in regions.reason
    assert not regions.labels.any()
    assert not regions.table


def test_correlation_tells_a_shifted_brain_where_overlap_hardly_does(one_sided):
    volume = one_sided.volume
    affine = volume.affine.copy()
    affine[1, 3] += 9
    shifted = Volume(volume.data, affine)
    assert in_place_correlation(volume) > 0.6 > 0.55 > in_place_correlation(shifted)
    assert template_dice(shifted, brain_mask(shifted)) > 0.85


def test_half_a_brain_is_not_registered(one_sided):
    volume = one_sided.volume
    half = Volume(volume.data[: volume.shape[0] // 2], volume.affine, "half")
    regions = regions_of(half, load_atlas("AAL"), threads=1)
    assert not regions.registered
    assert regions.how == "registration"
    assert regions.reason


def test_a_brain_whose_cerebellum_is_cut_off_loses_regions_and_says_so(one_sided):
    volume = one_sided.volume
    affine = volume.affine.copy()
    affine[2, 3] += 14 * 2
    cut = Volume(volume.data[:, :, 14:], affine, "cut")
    regions = regions_of(cut, load_atlas("AAL"))
    assert not regions.registered
    assert "lie outside it (" in regions.reason


def test_the_template_overlaps_itself():
    template = load_template()
    volume = Volume(template.t1, template.affine, "template")
    assert template_dice(volume, template.brain) == pytest.approx(1)
    assert (brain_mask(volume) == template.brain).mean() > 0.999


def test_an_atlas_with_a_label_that_its_table_lacks_is_refused(one_sided):
    from dataclasses import replace

    atlas = load_atlas("AAL")
    table = {label: name for label, name in atlas.table.items() if label != 37}
    with pytest.raises(AnatomyError, match=r"labels \[37\] are not in the table"):
        regions_of(one_sided.volume, replace(atlas, table=table))


@pytest.mark.long
@pytest.mark.parametrize("patient", ["patient07", "patient19"])
def test_a_real_brain_on_the_template_grid_but_of_another_size_is_registered(data, patient):
    image = nib.load(data / "brain" / "ms_lesions" / patient / f"{patient}_T1.nii.gz")
    volume = Volume(image.get_fdata(dtype=np.float32), image.affine, patient)
    assert brain_mask(volume).sum() / 1e6 == pytest.approx(1.1, abs=0.1)  # litres
    regions = regions_of(volume, load_atlas("AAL"))
    assert regions.registered, regions.reason
    assert regions.how == "registration"
    assert regions.quality.brain > 0.95
    assert regions.quality.folded == 0
    left, right = ((regions.labels == label).sum() / 1000 for label in (37, 38))  # ml
    assert 1.5 < left < 8
    assert 1.5 < right < 8


@pytest.mark.long
def test_a_flair_in_place_of_a_t1_is_refused(data):
    image = nib.load(data / "brain" / "ms_lesions" / "patient07" / "patient07_FLAIR.nii.gz")
    regions = regions_of(Volume(image.get_fdata(dtype=np.float32), image.affine, "flair"), load_atlas("AAL"))
    assert not regions.registered
    assert "tissues are not ordered" in regions.reason


def test_the_brain_is_found_in_a_whole_head(data):
    (path,) = (data / "brain" / "t1_head").glob("*.nii*")
    image = nib.load(path)
    volume = Volume(image.get_fdata(dtype=np.float32), image.affine, "head")
    litres = brain_mask(volume).sum() * np.prod(volume.spacing) / 1e6
    assert 1.1 < litres < 1.7  # the head is 4.7 l


@pytest.mark.parametrize("scale", [0.75, 0.85])
def test_the_brain_is_found_in_a_small_head(data, scale):
    (path,) = (data / "brain" / "t1_head").glob("*.nii*")
    image = nib.load(path)
    shrunk = np.diag([scale, scale, scale, 1.0]) @ image.affine
    volume = Volume(image.get_fdata(dtype=np.float32), shrunk, "small head")
    litres = brain_mask(volume).sum() * np.prod(volume.spacing) / 1e6 / scale**3
    assert 1.0 < litres < 1.8  # the smaller head is 2.0 l, less than the largest brain
