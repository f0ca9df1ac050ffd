"""The field of view is found as a circle, also on dark and cut photographs, or refused."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.anatomy.retina import FieldOfView, field_of_view
from pipeline.errors import AnatomyError
from pipeline.images.types import Photograph
from pipeline.phantoms.retina import SITES, retina_phantom


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.mark.parametrize("site", sorted(SITES))
@pytest.mark.parametrize("exposure", [0.15, 0.5])
@pytest.mark.parametrize("vignette", [0.0, 0.6])
def test_dice_on_phantoms(site: str, exposure: float, vignette: float) -> None:
    one = retina_phantom(17, 3, 400, site=site, exposure=exposure, vignette=vignette, marker=1.0)
    found = field_of_view(one.photograph)
    assert dice(found.mask(), one.field.mask()) > 0.985
    assert abs(found.radius - one.field.radius) < 0.01 * one.field.radius


def test_a_threshold_would_lose_the_dark_rim() -> None:
    """The reason for fitting: on a dark photograph a usual threshold is worse than the fit."""
    one = retina_phantom(17, 0, 400, site="copper", exposure=0.3, vignette=0.6)
    threshold = one.photograph.data.max(axis=2) > 0.06
    fitted = dice(field_of_view(one.photograph).mask(), one.field.mask())
    assert dice(threshold, one.field.mask()) < 0.97 < fitted


def test_mask_is_the_circle() -> None:
    view = FieldOfView(row=10.0, column=20.0, radius=5.0, shape=(30, 40))
    mask = view.mask()
    assert mask.shape == (30, 40)
    assert mask[10, 20]
    assert mask[10, 25]
    assert not mask[10, 26]
    assert abs(mask.sum() - np.pi * 25) < 4


def _noise() -> np.ndarray:
    return np.random.default_rng(0).random((300, 400, 3), dtype=np.float32)


def _gradient() -> np.ndarray:
    return np.repeat(np.linspace(0, 1, 400, dtype=np.float32)[None, :, None], 300, 0).repeat(3, 2)


def _square() -> np.ndarray:
    data = np.zeros((300, 400, 3), np.float32)
    data[60:240, 100:300] = 0.6
    return data


@pytest.mark.parametrize(
    "data", [np.full((300, 400, 3), 0.5, np.float32), _noise(), _gradient(), _square()], ids=lambda d: d.std()
)
def test_without_a_circle_it_refuses(data: np.ndarray) -> None:
    with pytest.raises(AnatomyError, match=r"other\.png: no circular field of view"):
        field_of_view(Photograph(data, "other.png"))


def test_a_crop_without_rim_is_refused() -> None:
    one = retina_phantom(2, 2, 512, site="rose")
    with pytest.raises(AnatomyError):
        field_of_view(Photograph(one.photograph.data[150:350, 150:350]))


def test_real_photographs_have_one_camera(data: Path) -> None:
    """One camera at one zoom took them all: radii agree, whatever the exposure."""
    from pipeline.images import read_photograph

    folder = data / "retina" / "idrid" / "B. Disease Grading" / "1. Original Images" / "a. Training Set"
    radii = [field_of_view(read_photograph(path)).radius for path in sorted(folder.glob("*.jpg"))[::25]]
    assert len(radii) > 10
    assert np.ptp(radii) < 0.01 * np.median(radii)
