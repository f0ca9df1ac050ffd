"""Twins: the audited architecture with random weights, the reference that a map of a trained model must beat.

A random network with the BatchNorm statistics of the trained one is degenerate: its activations die out, its
logits hardly vary and its maps are zero, so that any map beats it. Twins are therefore recalibrated on the
cohort's own images and checked before they are used.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import ModelError

if TYPE_CHECKING:
    import torch
    from torch import nn

SMALLEST_SPREAD = 1e-3
"""A twin whose logits vary less than this share of their size, or of the model's spread, is degenerate."""
MOST_ZERO_MAPS = 0.05
"""A twin with a larger share of all-zero maps is degenerate."""


@dataclass(frozen=True)
class TwinCheck:
    """Whether a twin is a fair opponent.

    Attributes
    ----------
    spread : float
        Standard deviation over images of the logits, mean over classes.
    relative_spread : float
        The same over the root mean square of the logits.
    zero_maps : float
        Share of maps that are zero everywhere; NaN if none were given.
    degenerate : str
        Why it must not be compared with, or ''.
    """

    spread: float
    relative_spread: float
    zero_maps: float
    degenerate: str


def random_twin(model: nn.Module, images: Sequence[torch.Tensor], *, seed: int) -> nn.Module:
    """Copy a model, draw its weights anew and recalibrate its BatchNorm on given images.

    Parameters
    ----------
    model : torch.nn.Module
        Left exactly as it is; TorchScript works as well.
    images : sequence of torch.Tensor, each of shape (N, C, *spatial)
        Batches of the cohort's own images, in all about 16 or more.
    seed : int
        Of the weights.

    Returns
    -------
    torch.nn.Module
        In eval mode. Weights are He-normal (He et al. 2015), biases 0, normalisation gains 1.

    Raises
    ------
    ModelError
        If the model cannot be copied, or a batch is too small for BatchNorm.
    """
    twin = redrawn(model, seed=seed)
    recalibrate(twin, images)
    return twin


def redrawn(model: nn.Module, *, seed: int) -> nn.Module:
    """Copy a model and draw its weights anew; its BatchNorm is not calibrated yet, see `random_twin`."""
    import torch

    twin = copied(model)
    device = next((parameter.device for parameter in twin.parameters()), torch.device("cpu"))
    # drawn on the CPU, so that a seed means the same weights on every device
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in twin.modules():
            prelu = _kind(module) == "PReLU"
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.ndim > 1:
                    fan_in = max(parameter[0].numel(), 1)
                    drawn = torch.randn(parameter.shape, generator=generator) * (2 / fan_in) ** 0.5
                    parameter.copy_(drawn.to(device=device, dtype=parameter.dtype))
                elif "bias" in name:
                    parameter.zero_()
                else:
                    parameter.fill_(0.25 if prelu else 1.0)
    return twin


def random_twins(
    model: nn.Module, images: Sequence[torch.Tensor], *, count: int = 3, seed: int = 0
) -> Iterator[nn.Module]:
    """Several twins one after another (one in memory at a time), see `random_twin`.

    Parameters
    ----------
    model, images
        As for `random_twin`.
    count : int, default 3
        How many.
    seed : int
        Of the first; the others follow.

    Yields
    ------
    torch.nn.Module
    """
    for number in range(count):
        yield random_twin(model, images, seed=seed + number)


def calibration_passes(model: nn.Module, images: Sequence[torch.Tensor]) -> int:
    """Forward passes of one image that `recalibrate` takes at most; 0 without BatchNorm."""
    if not any("BatchNorm" in _kind(module) for module in model.modules()):
        return 0
    return _rounds(model, len(images)) * sum(len(batch) for batch in images)


def _rounds(model: nn.Module, batches: int) -> int:
    """How often images are shown: TorchScript's momentum is fixed, so that it has to see 40 batches."""
    import torch

    return -(-40 // batches) if isinstance(model, torch.jit.ScriptModule) else 1


def recalibrate(
    model: nn.Module, images: Iterable[torch.Tensor], *, only: Collection[str] | None = None
) -> int:
    """Set every BatchNorm's running statistics to those of given images, in place.

    Parameters
    ----------
    model : torch.nn.Module
        Its other layers stay in eval mode; all of it ends in eval mode.
    images : iterable of torch.Tensor, each of shape (N, C, *spatial)
        Batches; the statistics are averages over them. TorchScript, whose momentum is fixed, is shown them
        until it has seen 40.
    only : collection of str, optional
        Names of the modules whose BatchNorm is set; all of them if absent.

    Returns
    -------
    int
        Forward passes of one image that this took.

    Raises
    ------
    ModelError
        If there are no images, or a batch is too small.
    """
    import torch

    batches = list(images)
    model.eval()
    named = model.named_modules()
    norms: list[nn.Module] = [
        module for name, module in named if "BatchNorm" in _kind(module) and (only is None or name in only)
    ]
    norms = [norm for norm in norms if getattr(norm, "running_mean", None) is not None]
    if not norms:
        return 0
    if not batches:
        raise ModelError("a twin's BatchNorm cannot be calibrated without images", "give the cohort's images")
    scripted = isinstance(model, torch.jit.ScriptModule)
    rounds = _rounds(model, len(batches))
    momenta: list[Any] = [getattr(norm, "momentum", None) for norm in norms]
    for norm in norms:
        norm.train()
        norm.running_mean.zero_()  # type: ignore[operator]
        norm.running_var.fill_(1)  # type: ignore[operator]
        if not scripted:
            norm.num_batches_tracked.zero_()  # type: ignore[operator]
            norm.momentum = None  # type: ignore[assignment] # torch's cumulative average
    try:
        with torch.no_grad():
            for batch in batches * rounds:
                model(batch)
    except ValueError as error:
        raise ModelError(
            f"BatchNorm cannot be calibrated: {error}", "give batches of two or more images"
        ) from error
    finally:
        model.eval()
        if not scripted:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
    return rounds * sum(len(batch) for batch in batches)


def check_twin(
    logits: npt.NDArray[Any],
    maps: Iterable[npt.NDArray[Any]] = (),
    *,
    model_logits: npt.NDArray[Any] | None = None,
) -> TwinCheck:
    """Tell whether a twin reacts to its input at all.

    Parameters
    ----------
    logits : ndarray, shape (images, classes)
        Of the twin on at least two images.
    maps : iterable of ndarray, optional
        Its relevance maps.
    model_logits : ndarray, shape (images, classes), optional
        Of the audited model on the same images.

    Returns
    -------
    TwinCheck

    Raises
    ------
    ModelError
        If there are fewer than two images.
    """
    values = np.asarray(logits, np.float64)
    if values.ndim != 2 or values.shape[0] < 2:
        raise ModelError(
            f"a twin cannot be checked on logits of shape {values.shape}", "give two images or more"
        )
    zero = [not np.any(one) for one in maps]
    share = float(np.mean(zero)) if zero else float("nan")
    spread = float(values.std(axis=0).mean())
    size = float(np.sqrt(np.square(values).mean()))
    relative = spread / size if size > 0 else 0.0
    reason = ""
    if not np.isfinite(values).all():
        reason = "its logits are not finite"
    elif relative < SMALLEST_SPREAD:
        reason = f"its logits hardly depend on the image (spread {relative:.1e} of their size)"
    elif model_logits is not None and spread < SMALLEST_SPREAD * float(np.std(model_logits, axis=0).mean()):
        reason = f"its logits vary by {spread:.1e} only, the model's a thousand times as much"
    elif share > MOST_ZERO_MAPS:
        reason = f"{share:.0%} of its maps are zero everywhere"
    return TwinCheck(spread, relative, share, reason)


def copied(model: nn.Module) -> nn.Module:
    """Copy a model, also TorchScript, without its gradients, in eval mode."""
    import torch

    try:
        if isinstance(model, torch.jit.ScriptModule):
            buffer = io.BytesIO()
            torch.jit.save(model, buffer)
            buffer.seek(0)
            twin: nn.Module = torch.jit.load(buffer)  # type: ignore[no-untyped-call]
        else:
            twin = copy.deepcopy(model)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ModelError(f"the model cannot be copied for a twin: {error}", "audit without twins") from error
    for parameter in twin.parameters():
        parameter.grad = None
    return twin.eval()


def _kind(module: nn.Module) -> str:
    """Class name, also of a TorchScript module."""
    return str(getattr(module, "original_name", type(module).__name__))
