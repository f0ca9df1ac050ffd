"""Retina phantoms: seeded, with masks that are exactly what the lesions change."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.phantoms.retina import LESIONS, SITES, RetinaPhantom, retina_phantom

SIZE = 288


@cache
def phantom(seed: int, grade: int, site: str | None = None) -> RetinaPhantom:
    return retina_phantom(seed, grade, SIZE, site=site)


def test_same_seed_same_photograph_and_masks() -> None:
    first, second = phantom(3, 3), retina_phantom(3, 3, SIZE)
    assert np.array_equal(first.photograph.data, second.photograph.data)
    for name, mask in first.masks.items():
        assert np.array_equal(mask, second.masks[name])
    assert not np.array_equal(first.photograph.data, phantom(4, 3, first.site).photograph.data)


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 10_000), grade=st.integers(1, 4))
def test_lesion_masks_are_the_pixels_that_lesions_change(seed: int, grade: int) -> None:
    ill, healthy = retina_phantom(seed, grade, 256), retina_phantom(seed, 0, 256)
    changed = (ill.photograph.data != healthy.photograph.data).any(axis=2)
    marked = np.any([ill.masks[name] for name in LESIONS], axis=0)
    assert not (changed & ~marked).any()
    # a rim too faint for one of 255 levels stays unseen
    assert changed[marked].mean() > 0.7
    assert not any(healthy.masks[name].any() for name in LESIONS)
    for name in ("optic_disc", "vessels"):
        assert np.array_equal(ill.masks[name], healthy.masks[name])


def test_grades_differ_in_the_kinds_the_scale_names() -> None:
    area = {
        grade: {name: np.mean([phantom(s, grade).masks[name].sum() for s in range(5)]) for name in LESIONS}
        for grade in (1, 2, 3)
    }
    assert area[1]["microaneurysms"] > 0
    assert area[1]["haemorrhages"] == area[1]["hard_exudates"] == area[1]["soft_exudates"] == 0
    assert 0 < area[2]["haemorrhages"] < area[3]["haemorrhages"]
    assert area[2]["hard_exudates"] > 0
    assert area[3]["soft_exudates"] > 0


def test_blood_darkens_and_exudates_brighten() -> None:
    seeds = range(4)
    darker, brighter = [], []
    for seed in seeds:
        ill, healthy = phantom(seed, 3), phantom(seed, 0)
        green = ill.photograph.data[..., 1] - healthy.photograph.data[..., 1]
        blood = ill.masks["haemorrhages"] & ~ill.masks["hard_exudates"] & ~ill.masks["soft_exudates"]
        darker.append(green[blood].mean())
        if ill.masks["hard_exudates"].any():
            brighter.append(green[ill.masks["hard_exudates"]].mean())
    assert max(darker) < 0 < min(brighter)


@pytest.mark.parametrize("site", sorted(SITES))
def test_geometry_is_where_it_is_said_to_be(site: str) -> None:
    for laterality in ("right", "left"):
        one = retina_phantom(11, 2, SIZE, site=site, laterality=laterality)
        rows, columns = one.photograph.shape
        assert (rows, columns) == (SIZE, round(SIZE * SITES[site].aspect))
        row, column, radius = one.disc
        # the nose is at the right of a right eye's picture
        assert (column > one.fovea[1]) == (laterality == "right")
        assert 2 * radius < abs(column - one.fovea[1]) < 6 * radius
        disc = one.masks["optic_disc"]
        assert disc[round(row), round(column)]
        inside = one.field.mask()
        healthy = retina_phantom(11, 0, SIZE, site=site, laterality=laterality).photograph.data[..., 1]
        y, x = np.ogrid[:rows, :columns]
        from_disc = np.hypot(y - row, x - column) / radius
        ring = (from_disc > 1.4) & (from_disc < 1.9) & inside
        assert healthy[disc].mean() > 1.2 * healthy[ring].mean()
        from_fovea = np.hypot(y - one.fovea[0], x - one.fovea[1]) / radius
        ring = (from_fovea > 1.0) & (from_fovea < 1.5)
        assert healthy[from_fovea < 0.3].mean() < 0.95 * healthy[ring].mean()
        assert not any((mask & ~inside).any() for mask in one.masks.values())
        assert 0.04 < one.masks["vessels"].sum() / inside.sum() < 0.25


def test_eight_bit_levels_survive_a_png() -> None:
    levels = phantom(1, 4).photograph.data * 255
    assert np.abs(levels - np.round(levels)).max() < 1e-4
    assert levels.min() >= 0
    assert levels.max() <= 255


def test_planted_cues_touch_what_they_say() -> None:
    plain = phantom(5, 2)
    stamped = retina_phantom(5, 2, SIZE, marker=1.0)
    changed = (plain.photograph.data != stamped.photograph.data).any(axis=2)
    assert changed.any()
    assert not (changed & plain.field.mask()).any()
    dim = retina_phantom(5, 2, SIZE, vignette=0.6)
    y, x = np.ogrid[: plain.photograph.shape[0], : plain.photograph.shape[1]]
    r = np.hypot(y - plain.field.row, x - plain.field.column) / plain.field.radius
    centre, rim = r < 0.5, (r > 0.9) & (r < 0.98)
    assert np.array_equal(plain.photograph.data[centre], dim.photograph.data[centre])
    assert dim.photograph.data[rim].mean() < 0.75 * plain.photograph.data[rim].mean()


@pytest.mark.parametrize(
    "arguments", [{"grade": 5}, {"seed": -1}, {"size": 100}, {"site": "nowhere"}, {"marker": 2.0}]
)
def test_impossible_arguments_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"no phantom of|marker"):
        retina_phantom(**{"seed": 0, "grade": 0, **arguments})
