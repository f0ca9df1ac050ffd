"""Brain phantoms: the same brain but for the atrophy, and masks of exactly that."""

from itertools import pairwise

import numpy as np
import pytest

from pipeline.errors import AnatomyError, AuditError
from pipeline.phantoms.brain import brain_phantom


@pytest.fixture(scope="module")
def pair():
    return tuple(brain_phantom(11, severity, noise=0.0) for severity in (0.0, 0.8))


def white(phantom):
    return np.percentile(phantom.volume.data[phantom.masks["brain"]], 95)


def test_the_same_seed_is_the_same_phantom():
    one, two = brain_phantom(5, 0.4), brain_phantom(5, 0.4)
    np.testing.assert_array_equal(one.volume.data, two.volume.data)
    np.testing.assert_array_equal(one.labels, two.labels)
    assert (one.age, one.sex, one.site) == (two.age, two.sex, two.site)
    assert not np.array_equal(one.volume.data, brain_phantom(6, 0.4).volume.data)


def test_severity_changes_the_atrophy_mask_and_nothing_else(pair):
    healthy, ill = pair
    change = np.abs(ill.volume.data - healthy.volume.data) / white(healthy)
    assert change[~ill.masks["atrophy"]].max() < 0.03  # 2 % of white matter, and the bias field
    assert change[ill.masks["atrophy"]].min() > 0.01
    np.testing.assert_array_equal(ill.labels, healthy.labels)
    np.testing.assert_array_equal(ill.masks["brain"], healthy.masks["brain"])
    assert (ill.age, ill.sex, ill.site) == (healthy.age, healthy.sex, healthy.site)
    assert not healthy.masks["atrophy"].any()


def test_noise_is_the_same_for_every_severity():
    healthy, ill = brain_phantom(7, 0.0), brain_phantom(7, 0.6)
    change = np.abs(ill.volume.data - healthy.volume.data) / white(healthy)
    assert np.percentile(change[~ill.masks["atrophy"]], 99.9) < 0.03


def test_region_masks_are_parts_of_the_whole(pair):
    ill = pair[1]
    parts = [mask for name, mask in ill.masks.items() if name.startswith("atrophy_")]
    assert len(parts) > 20
    total = np.sum(parts, axis=0)
    assert total.max() == 1
    assert not total[~ill.masks["atrophy"]].any()
    assert ill.masks["atrophy_Hippocampus_L"].sum() > 100


def test_hippocampi_darken_steadily_and_controls_do_not():
    means, motor = [], []
    for severity in (0.0, 0.25, 0.5, 0.75, 1.0):
        phantom = brain_phantom(8, severity, noise=0.0)
        data = phantom.volume.data / white(phantom)
        means.append(data[np.isin(phantom.labels, (37, 38))].mean())
        motor.append(data[np.isin(phantom.labels, (1, 2))].mean())
    assert all(a - b > 0.02 for a, b in pairwise(means))
    assert means[-1] < 0.8 * means[0]
    assert np.ptp(motor) < 0.01


def test_ventricles_grow_with_severity_and_with_age():
    def fluid(**options):
        phantom = brain_phantom(9, noise=0.0, **options)
        data = phantom.volume.data / white(phantom)
        middle = (slice(30, 61), slice(40, 80), slice(35, 55))
        return ((data < 0.45) & phantom.masks["brain"])[middle].sum()

    base = fluid(severity=0.0, age=65)
    assert fluid(severity=1.0, age=65) > 1.05 * base
    assert fluid(severity=0.0, age=90) > 1.2 * base


def test_chosen_regions_shrink_alone():
    ill = brain_phantom(12, 1.0, regions=("Hippocampus_L",), noise=0.0)
    healthy = brain_phantom(12, 0.0, noise=0.0)
    change = np.abs(ill.volume.data - healthy.volume.data) / white(healthy)
    left, right = (change[healthy.labels == label].mean() for label in (37, 38))
    assert left > 10 * right
    assert left > 0.1


@pytest.mark.parametrize("spacing", [1.5, 4.0])
def test_spacing_changes_the_grid_not_the_brain(spacing):
    usual, other = brain_phantom(13, 0.5), brain_phantom(13, 0.5, spacing_mm=spacing)
    assert other.volume.spacing == (spacing,) * 3
    litres = [p.masks["brain"].sum() * np.prod(p.volume.spacing) / 1e6 for p in (usual, other)]
    assert litres[1] == pytest.approx(litres[0], rel=0.02)
    assert 1.4 < litres[0] < 2.4


def test_the_planted_faults_are_where_their_masks_say():
    clean = brain_phantom(14, 0.5, noise=0.0)
    marked = brain_phantom(14, 0.5, noise=0.0, marker=1.0)
    changed = marked.volume.data != clean.volume.data
    np.testing.assert_array_equal(changed, marked.masks["marker"])
    assert not (marked.masks["marker"] & clean.masks["brain"]).any()

    rimmed = brain_phantom(14, 0.5, noise=0.0, rim_mm=4.0)
    changed = rimmed.volume.data != clean.volume.data
    assert changed[rimmed.masks["rim"]].all()
    assert rimmed.masks["rim"].sum() > 10_000
    cut = brain_phantom(14, 0.5, noise=0.0, rim_mm=-4.0)
    assert cut.masks["brain"].sum() < 0.9 * clean.masks["brain"].sum()

    waved = brain_phantom(14, 0.5, noise=0.0, site_field=0.2)
    brain = clean.masks["brain"]
    ratio = waved.volume.data[brain] / clean.volume.data[brain]
    assert ratio.min() == pytest.approx(0.8, abs=0.02)
    assert ratio.max() == pytest.approx(1.2, abs=0.02)

    noisy = brain_phantom(14, 0.5, noise=0.05)
    spread = (noisy.volume.data - clean.volume.data)[brain].std() / white(clean)
    assert spread == pytest.approx(0.05, rel=0.15)


def test_sites_differ_in_their_units():
    means = [brain_phantom(15, 0.2, site=site).volume.data.mean() for site in "ABC"]
    assert max(means) > 3 * min(means)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"severity": 1.2}, AuditError),
        ({"severity": 0.5, "site": "Z"}, AuditError),
        ({"severity": 0.5, "spacing_mm": 0.1}, AuditError),
        ({"severity": 0.5, "regions": ("Nowhere_L",)}, AnatomyError),
    ],
)
def test_what_cannot_be_drawn_is_refused(options, error):
    with pytest.raises(error):
        brain_phantom(1, **options)
