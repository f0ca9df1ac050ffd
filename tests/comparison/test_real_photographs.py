"""Null maps on a real photograph with experts' lesion masks: what any relevance map has to beat."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.comparison import detect, find_lesions, measure_native, null_maps
from pipeline.images.masks import read_mask
from pipeline.images.photographs import read_photograph

KINDS = {"MA": "1. Microaneurysms", "HE": "2. Haemorrhages", "EX": "3. Hard Exudates"}


@pytest.fixture(scope="module")
def photograph(data):
    pytest.importorskip("torch")
    from pipeline.models.card import Preprocessing
    from pipeline.models.prepare_fundus import prepare_fundus

    root = data / "retina" / "idrid" / "A. Segmentation"
    picture = read_photograph(root / "1. Original Images" / "a. Training Set" / "IDRiD_02.jpg")
    truth = root / "2. All Segmentation Groundtruths" / "a. Training Set"
    masks = {k: read_mask(truth / d / f"IDRiD_02_{k}.tif", picture.shape) for k, d in KINDS.items()}
    return prepare_fundus(picture, Preprocessing(kind="fundus_square", shape=(448, 448))), masks


def test_contrast_finds_lesions_without_any_model(photograph):
    prepared, masks = photograph
    nulls = null_maps(prepared.tensor[0].numpy(), prepared.field, seed=0)
    together = {"any": np.any(list(masks.values()), axis=0)}
    lifts = {}
    for name in ("contrast", "random"):
        measured = measure_native(
            nulls[name], together, prepared.native_from_model, field=prepared.field, tolerance=40
        )["any"]
        assert measured.excluded == {}
        assert measured.lost < 0.01 * measured.marked
        lifts[name] = measured.log2_mass_lift
    assert lifts["contrast"] > 0.5
    assert lifts["contrast"] > lifts["random"] + 0.3
    rates = {}
    for name in ("contrast", "random"):
        found = detect(
            nulls[name],
            find_lesions(masks),
            prepared.field,
            native_from_model=prepared.native_from_model,
            tolerance=20,
        )
        rates[name] = np.isfinite(found.found["EX"]).mean()
    assert rates["contrast"] > 2 * rates["random"]  # bright, and what contrast sees first
