"""The Alzheimer reference model: its training, its bundle, and what it can do."""

import json

import numpy as np
import pytest
import torch

from pipeline.models.card import Performance
from pipeline.models.opening import open_model
from pipeline.phantoms.brain import brain_phantom
from pipeline.phantoms.train_alzheimer import (
    GATE,
    GRID,
    HELD_OUT_SEEDS,
    TRAIN_SEEDS,
    Cases,
    draw_cases,
    draw_severity,
    fit,
    predict,
)
from pipeline.phantoms.train_alzheimer_bundle import region_means, write_bundle


def test_classes_overlap_and_no_held_out_case_was_trained_on():
    drawn = [draw_severity(seed) for seed in (*TRAIN_SEEDS, *HELD_OUT_SEEDS)]
    healthy, ill = ([s for label, s in drawn if label == k] for k in (0, 1))
    assert len(healthy) == len(ill)
    assert max(healthy) > min(ill)
    best = np.mean([(severity > 0.465) == label for label, severity in drawn])
    assert 0.92 < best < 0.98  # no classifier can be right in every case
    assert not set(TRAIN_SEEDS) & set(HELD_OUT_SEEDS)
    assert len(HELD_OUT_SEEDS) >= 200


def test_drawn_cases_are_what_the_model_is_given_later(tmp_path):
    seeds = range(70_000, 70_002)
    cases = draw_cases(seeds, tmp_path)
    severity = draw_severity(70_001)[1]
    from pipeline.models.prepare_mri import prepare_mri

    tensor = prepare_mri(brain_phantom(70_001, severity).volume, GRID).tensor
    np.testing.assert_allclose(cases.images[1], tensor[0, 0], atol=2e-3)  # half precision
    again = draw_cases(seeds, tmp_path)
    np.testing.assert_array_equal(again.images, cases.images)
    assert region_means(cases.images).shape == (2, 116)


def test_training_learns_what_can_be_learnt_and_repeats_exactly():
    rng = np.random.default_rng(0)
    labels = np.arange(16) % 2
    images = rng.normal(1, 0.05, (16, 16, 16, 16)).astype(np.float16)
    images[labels == 1, 5:11, 5:11, 5:11] -= np.float16(0.8)
    cases = Cases(images, labels, labels.astype(float))
    one, two = (fit(cases, labels, 3, "test", epochs=24) for _ in range(2))
    margins = [np.diff(predict(model, images), axis=1)[:, 0] for model in (one, two)]
    np.testing.assert_array_equal(margins[0], margins[1])
    assert ((margins[0] > 0) == labels).mean() >= 0.9


def test_a_written_bundle_opens_with_its_twin(tmp_path):
    from pipeline.models.architectures.rieke import RiekeGAP

    torch.manual_seed(1)
    model, twin = RiekeGAP().eval(), RiekeGAP().eval()
    twin.classifier.weight.data.copy_(model.classifier.weight.data)
    figure = Performance(data="held-out phantoms", metric="accuracy", value=0.9, low=0.85, high=0.94, n=200)
    write_bundle(tmp_path, model, twin, (figure,))
    opened = open_model(tmp_path)
    image = torch.rand(1, 1, 16, 16, 16)
    with torch.inference_mode():
        assert torch.equal(opened.module(image), model(image))
        assert torch.equal(opened.twin("shuffled_labels")(image), twin(image))
    assert opened.card.performance == (figure,)
    assert opened.card.target == opened.card.classes.index("alzheimer")
    assert "0.850–0.940" in (tmp_path / "docs" / "README.md").read_text()
    from safetensors.torch import load_file

    assert "classifier.weight" not in load_file(tmp_path / "models" / "twin_shuffled_labels.safetensors")


@pytest.fixture(scope="module")
def reference():
    return open_model("alzheimer")


def test_the_shipped_card_says_what_it_was_trained_on_and_how_good_it_is(reference):
    card = reference.card
    assert "never a patient" in card.trained_on
    accuracy = card.performance[0]
    assert accuracy.metric == "accuracy"
    assert accuracy.value >= GATE
    assert accuracy.n >= 200
    assert accuracy.low < accuracy.value < accuracy.high
    twin = next(p for p in card.performance if "twin" in p.data)
    assert twin.low < 0.75
    assert (reference.folder / card.weights).stat().st_size < 4e6
    assert (reference.folder / "LICENSE").is_file()
    metadata = json.loads((reference.folder / "configs" / "metadata.json").read_text())
    for key in ("version", "monai_version", "pytorch_version", "numpy_version", "network_data_format"):
        assert metadata[key]


def test_the_shipped_model_reads_fresh_phantoms(reference):
    margins = {}
    for severity in (0.05, 0.95):
        for seed in (91_001, 91_002, 91_003):
            prepared = reference.prepare(brain_phantom(seed, severity).volume)
            with torch.inference_mode():
                logits = reference.module(prepared.tensor)[0]
            margins[severity, seed] = float(logits[1] - logits[0])
    assert all((margin > 0) == (severity > 0.5) for (severity, _), margin in margins.items())
