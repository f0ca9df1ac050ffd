"""A photograph on the model's grid: the right pixels, the right way back, black beyond the picture."""

import numpy as np
import pytest
import torch

from pipeline.anatomy.retina import field_of_view
from pipeline.errors import AnatomyError, ModelError
from pipeline.images.types import Photograph
from pipeline.models.card import Preprocessing
from pipeline.models.prepare_fundus import prepare_fundus
from pipeline.phantoms.retina import retina_phantom

SQUARE = Preprocessing(kind="fundus_square", shape=(192, 192), mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.5))
PLAIN = Preprocessing(kind="fundus_square", shape=(192, 192), mean=(0.0,) * 3, std=(1.0,) * 3)


@pytest.mark.parametrize("site", ["amber", "rose", "copper"])
def test_a_dot_goes_there_and_back(site: str) -> None:
    one = retina_phantom(4, 0, 512, site=site)
    at = (round(one.field.row + 0.31 * one.field.radius), round(one.field.column - 0.42 * one.field.radius))
    data = one.photograph.data.copy()
    y, x = np.ogrid[: data.shape[0], : data.shape[1]]
    dot = np.exp(-((y - at[0]) ** 2 + (x - at[1]) ** 2) / (2 * 4.0**2)).astype(np.float32)
    marked = Photograph(np.clip(data * (1 - dot[..., None]), 0, 1), "dot")
    before, after = prepare_fundus(one.photograph, PLAIN), prepare_fundus(marked, PLAIN)
    drop = (before.tensor - after.tensor)[0].sum(0).double().numpy().clip(0)
    drop[drop < 0.05 * drop.max()] = 0
    centre = np.array([(drop * grid).sum() for grid in np.indices(drop.shape)]) / drop.sum()
    native = before.native_from_model @ [*centre, 1.0]
    assert (
        np.hypot(native[0] - at[0], native[1] - at[1]) < 0.35
    )  # native pixels; one of the model's is 2.5 to 3.2
    back = np.linalg.solve(before.native_from_model, [*at, 1.0])
    assert np.abs(back[:2] - centre).max() < 0.15


def test_pixel_centres_of_the_square() -> None:
    one = retina_phantom(4, 0, 512)
    view = field_of_view(one.photograph)
    matrix = prepare_fundus(one.photograph, PLAIN).native_from_model
    edge = matrix @ [-0.5, 191.5, 1.0]  # outer edge of the first row and of the last column
    assert edge[:2] == pytest.approx([view.row - view.radius, view.column + view.radius])


def test_colours_are_scaled_per_channel_and_light_is_kept() -> None:
    one = retina_phantom(4, 2, 512, site="rose")
    plain, scaled = prepare_fundus(one.photograph, PLAIN), prepare_fundus(one.photograph, SQUARE)
    mean, std = (torch.tensor(values)[:, None, None] for values in (SQUARE.mean, SQUARE.std))
    expected = (plain.tensor - mean) / std
    assert torch.allclose(scaled.tensor, expected, atol=1e-5)
    assert scaled.tensor.dtype is torch.float32
    assert scaled.tensor.shape == (1, 3, 192, 192)
    native = one.photograph.data[field_of_view(one.photograph).mask()].mean(0)
    model = plain.tensor[0].numpy()[:, plain.field].mean(1)
    assert native == pytest.approx(model, abs=0.004)


def test_beyond_the_picture_it_is_black_and_not_field() -> None:
    one = retina_phantom(4, 0, 512, site="amber")  # cut at the top and bottom
    prepared = prepare_fundus(one.photograph, PLAIN)
    rows = prepared.native_from_model[0, 0] * np.arange(192) + prepared.native_from_model[0, 2]
    beyond = (rows < -3) | (rows > one.photograph.shape[0] + 2)
    assert beyond.sum() > 10
    assert float(prepared.tensor[0][:, beyond].abs().max()) == 0
    assert not prepared.field[beyond].any()
    assert 0.75 < prepared.field.mean() / (np.pi / 4) < 1
    whole = prepare_fundus(retina_phantom(4, 0, 512, site="rose").photograph, PLAIN).field
    assert whole.mean() == pytest.approx(np.pi / 4, abs=0.01)


def test_refusals() -> None:
    one = retina_phantom(4, 0, 256)
    with pytest.raises(ModelError, match="not for photographs"):
        prepare_fundus(
            one.photograph, Preprocessing(kind="mri_grid", shape=(8, 8, 8), affine=np.eye(4).tolist())
        )
    with pytest.raises(AnatomyError, match="no circular field"):
        prepare_fundus(Photograph(np.full((64, 64, 3), 0.5, np.float32)), PLAIN)
