"""The retinopathy bundle: opens, says what it is, and reads phantoms it has not seen."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.models.card import ModelCard
from pipeline.models.opening import OpenedModel, open_model
from pipeline.phantoms.retina import retina_phantom
from pipeline.phantoms.train_retinopathy import HELD_OUT_SEEDS, TRAIN_SEEDS
from pipeline.phantoms.train_retinopathy_data import (
    BUNDLE,
    CONTRADICTORY,
    FOLDS,
    graded_photographs,
    read_folds,
    write_folds,
)


@pytest.fixture(scope="module")
def model() -> OpenedModel:
    return open_model(BUNDLE)


def _scores(model: OpenedModel, module: torch.nn.Module, seeds: range, grade: int) -> np.ndarray:
    scores = []
    for seed in seeds:
        prepared = model.prepare(retina_phantom(seed, grade, 512, site="rose").photograph)
        with torch.inference_mode():
            logits = module(prepared.tensor)[0]
        scores.append(float(logits[1] - logits[0]))
    return np.array(scores)


def test_it_tells_ill_from_healthy_eyes_and_its_twin_does_not(model: OpenedModel) -> None:
    seeds = range(90_000, 90_006)
    ill, healthy = (_scores(model, model.module, seeds, grade) for grade in (3, 0))
    wins = (ill[:, None] > healthy[None]).mean()
    assert wins > 0.9
    # the same eyes, with and without lesions: only the lesions can have moved the score
    assert ((ill - healthy) > 0).mean() > 0.8
    twin = model.twin("shuffled_labels")
    gap = _scores(model, twin, seeds[:4], 3) - _scores(model, twin, seeds[:4], 0)
    assert np.abs(gap).mean() < 0.5 * (ill - healthy).mean()


def test_card_says_what_was_asked_of_it(model: OpenedModel) -> None:
    metadata = json.loads((BUNDLE / "configs" / "metadata.json").read_text(encoding="utf-8"))
    card = ModelCard.model_validate(metadata["relevance_audit"])
    assert card == model.card
    quoted, phantoms = card.performance
    assert "IDRiD" in quoted.data
    assert quoted.low >= 0.85
    assert quoted.n == len(read_folds())
    assert phantoms.value >= 0.90
    assert phantoms.n == len(HELD_OUT_SEEDS)
    assert not set(TRAIN_SEEDS) & set(HELD_OUT_SEEDS)
    text = (BUNDLE / "docs" / "README.md").read_text(encoding="utf-8")
    for one in card.performance:
        assert f"{one.value:.3f} | {one.low:.3f}–{one.high:.3f}" in text
    assert "CC-BY 4.0" in text
    assert (BUNDLE / "LICENSE").is_file()


def test_weights_are_small_and_half_precision(model: OpenedModel) -> None:
    from safetensors import safe_open

    assert (BUNDLE / "models" / "model.safetensors").stat().st_size < 10e6
    for name, whole in (("model", True), ("twin_shuffled_labels", False)):
        with safe_open(BUNDLE / "models" / f"{name}.safetensors", "pt") as file:
            names = set(file.keys())
            kinds = {file.get_tensor(key).dtype for key in names}
        assert kinds <= {torch.float16, torch.int64}
        assert (names == set(model.module.state_dict())) == whole


def test_folds_are_those_dealt_before_training(data: Path, tmp_path: Path) -> None:
    graded = graded_photographs(data)
    write_folds(graded, tmp_path / "folds.csv")
    assert read_folds(tmp_path / "folds.csv") == read_folds()
    folds = read_folds()
    with (data / "retina" / "idrid" / "same_photograph.csv").open(encoding="utf-8") as file:
        marked = {row["grading image"] for row in csv.DictReader(file)}
    assert len(marked) > 5
    assert not (marked | set(CONTRADICTORY)) & set(folds)
    sizes = np.bincount([folds[one.name] for one in graded], minlength=FOLDS)
    ill = np.bincount([folds[one.name] for one in graded if one.referable], minlength=FOLDS)
    assert np.ptp(sizes) <= 1
    assert np.ptp(ill) <= 1
