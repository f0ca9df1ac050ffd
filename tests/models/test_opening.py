"""Opening a model never runs what came with it."""

import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pipeline.errors import ModelError
from pipeline.models.opening import open_model, reference_models


class Bomb:
    def __reduce__(self):
        import os

        return (os.system, ("touch /tmp/relevance-audit-bomb",))


def card(**changes):
    content = {
        "name": "test",
        "modality": "mri",
        "architecture": "rieke_gap",
        "weights": "models/model.safetensors",
        "classes": ["a", "b"],
        "target": 1,
        "preprocessing": {"kind": "as_read"},
        "trained_on": "nothing",
    }
    return content | changes


def bundle(folder, **changes):
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "configs/metadata.json").write_text(json.dumps({"relevance_audit": card(**changes)}))
    return folder


def refused(reference, *words):
    with pytest.raises(ModelError) as caught:
        open_model(reference)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("name", ["alzheimer", "retinopathy"])
def test_reference_models_open_and_answer(name):
    model = open_model(name)
    assert model.card is not None
    assert set(reference_models()) >= {name}
    channels = 3 if model.card.modality == "fundus" else 1
    shape = (64, 64) if channels == 3 else model.card.preprocessing.shape
    with torch.no_grad():
        assert model.module(torch.rand(1, channels, *shape)).shape == (1, len(model.card.classes))
    assert not model.module.training
    assert model.card.performance
    for twin in model.card.twins:
        assert model.twin(twin).state_dict().keys() == model.module.state_dict().keys()
    with pytest.raises(ModelError, match="no twin"):
        model.twin("nonsense")


def test_a_pickle_is_never_opened(tmp_path):
    (tmp_path / "m.pt").write_bytes(pickle.dumps(Bomb()))
    refused(tmp_path / "m.pt", "m.pt", "TorchScript")
    torch.save(nn.Linear(1, 1), tmp_path / "n.pt")
    refused(tmp_path / "n.pt", "n.pt")
    folder = bundle(tmp_path / "b", weights="models/model.pt")
    (folder / "models/model.pt").write_bytes(pickle.dumps(Bomb()))
    refused(folder, "safetensors")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"architecture": "os.system"}, "unknown architecture"),
        ({"architecture": "rieke_gap", "arguments": {"colour": 3}}, "cannot be built"),
        ({"weights": "../../m.safetensors"}, "outside the bundle"),
        ({"target": 2}, "target 2"),
        ({"extra": 1}, "extra"),
        ({"preprocessing": {"kind": "fundus_square", "shape": [0, 8]}}, "positive numbers"),
        ({"preprocessing": {"kind": "fundus_square", "shape": [8, 8], "std": [0.0]}}, "std"),
        ({"preprocessing": {"kind": "mri_grid", "shape": [8, 8, 8]}}, "affine"),
    ],
)
def test_cards_that_do_not_fit_are_one_line(tmp_path, changes, word):
    folder = bundle(tmp_path / "b", **changes)
    save_file({"w": torch.zeros(1)}, folder / "models/model.safetensors")
    refused(folder, word)


def test_weights_missing_cut_or_of_another_network(tmp_path):
    refused(bundle(tmp_path / "none"), "not found")
    cut = bundle(tmp_path / "cut")
    (cut / "models/model.safetensors").write_bytes(b"\x10\x00")
    refused(cut, "safetensors")
    other = bundle(tmp_path / "other")
    save_file({"w": torch.zeros(1)}, other / "models/model.safetensors")
    refused(other, "do not fit")
    refused(tmp_path / "gone", "no model there")


def test_torchscript_opens_without_a_card(tmp_path):
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    torch.jit.trace(network.eval(), torch.rand(1, 3, 8, 8)).save(tmp_path / "m.pt")
    model = open_model(tmp_path / "m.pt")
    assert model.card is None
    assert "as read" in model.notes[0]


def test_chance_is_counted_in_the_field_of_view_without_a_card_too(tmp_path):
    from pipeline.anatomy.retina import field_of_view
    from pipeline.images import Photograph
    from pipeline.phantoms.retina import retina_phantom

    torch.jit.trace(nn.Conv2d(3, 2, 1), torch.rand(1, 3, 8, 8)).save(tmp_path / "m.pt")
    model = open_model(tmp_path / "m.pt")
    photograph = retina_phantom(1, 0, size=256).photograph
    field = model.prepare(photograph).field
    np.testing.assert_array_equal(field, field_of_view(photograph).mask())
    assert 0.4 < field.mean() < 0.9
    noise = Photograph(np.random.default_rng(0).random((64, 80, 3), np.float32), "crop.png")
    assert model.prepare(noise).field.all()
