"""Trust of maps beside Quantus: what both measure, and what it costs. 2D only: Quantus takes no volumes.

    pip install --no-deps quantus opencv-python-headless cachetools     (into an environment of its own)
    python benchmarks/trust_quantus.py

Maps are made by the same function for both (gradient), so that differences are those of the metrics.
"""

from __future__ import annotations

import importlib.util
import time
import warnings
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from trust import drawn

from pipeline.models.opening import open_model
from pipeline.stages.twins import batched
from pipeline.trust.faithfulness import Deleting
from pipeline.trust.maps import Price, maps_of
from pipeline.trust.randomisation import cascade, layers_in_order
from pipeline.trust.similarity import rank_correlation
from pipeline.trust.stability import noisy, stability

IMAGES, DRAWS, SIDE = 2, 3, 64


def main() -> None:
    torch.set_num_threads(1)
    quantus = import_quantus()
    model = open_model("retinopathy")
    prepared = drawn(model, "retinopathy", IMAGES)
    module, images = model.module, torch.cat([p.tensor for p in prepared])
    whole = np.ones(images.shape[2:], bool)
    maps = gradient(module, images.numpy(), np.ones(IMAGES, int))
    given: dict[str, Any] = {
        "model": module,
        "x_batch": images.numpy(),
        "y_batch": np.ones(IMAGES, int),
        "a_batch": maps,
        "channel_first": True,
        "softmax": False,
        "device": "cpu",
        "explain_func": gradient,
    }
    print(f"{IMAGES} photographs of {whole.shape}; Quantus {quantus.__version__}, torch {torch.__version__}")
    print("what | CPU s | forward passes of an image (a backward pass counts as two)")

    regions = (whole.shape[0] // SIDE) ** 2
    metric = quantus.RegionPerturbation(
        patch_size=SIDE, regions_evaluation=regions, perturb_baseline="mean", **QUIET
    )
    timed("Quantus region perturbation, one order", lambda: metric(**given), IMAGES * (regions + 1))
    price = Price()

    def delete() -> None:
        for p, values in zip(prepared, maps, strict=True):
            work = Deleting(module, p.tensor, whole, 1, patches=regions, price=price)
            work.curves(values[0])

    timed("here: deletion, insertion, 2 random orders", delete, price)

    moved = noisy(images[:1], whole, draws=DRAWS)
    steps = iter(moved)

    def next_draw(arr: Any, indices: Any, **_: Any) -> Any:  # noqa: ARG001
        return next(steps).numpy().reshape(arr.shape)

    sensitivity = quantus.MaxSensitivity(nr_samples=DRAWS, perturb_func=next_draw, lower_bound=0.1, **QUIET)
    one = {**given, "x_batch": images[:1].numpy(), "y_batch": np.ones(1, int), "a_batch": maps[:1]}
    timed("Quantus max-sensitivity, one image", lambda: sensitivity(**one), 3 * DRAWS)
    price = Price()

    def disturb() -> Any:
        others = maps_of(module, moved, 1, "gradient", {}, price)
        return stability(maps[0, 0], others, whole)

    timed("here: stability, one image", disturb, price)

    layers = len(layers_in_order(module, images))
    mprt = quantus.MPRT(
        similarity_func=quantus.similarity_func.correlation_spearman,
        layer_order="top_down",
        abs=False,
        **QUIET,
    )
    found = timed("Quantus MPRT, every layer", lambda: mprt(**given), IMAGES * 3)
    undefined = [name for name, values in found.items() if not np.isfinite(values).all()]
    print(f"  {len(found) - 1} steps ({layers} layers here); undefined at {len(undefined)}")
    price = Price()

    def randomise() -> list[list[float]]:
        made = []
        for _, twin in cascade(module, batched([p.tensor for p in prepared])):
            price.passes += IMAGES
            others = [maps_of(twin, p.tensor, 1, "gradient", {}, price)[0] for p in prepared]
            made.append([rank_correlation(a[0], b, whole) for a, b in zip(maps, others, strict=True)])
        return made

    steps_made = timed("here: cascade in 5 steps", randomise, price)
    print(
        f"  rank correlation: Quantus {last(found)}, here {np.mean(steps_made[-1]):.3f} when all is redrawn"
    )


QUIET: dict[str, Any] = {"normalise": False, "disable_warnings": True, "display_progressbar": False}


def last(found: dict[str, Any]) -> str:
    return f"{np.mean(list(found.values())[-1]):.3f}"


def timed(title: str, work: Any, passes: Any) -> Any:
    begin = time.process_time()
    result = work()
    seconds = time.process_time() - begin
    print(f"{title} | {seconds:.1f} | {passes.passes if isinstance(passes, Price) else passes}", flush=True)
    return result


def gradient(
    model: nn.Module, inputs: npt.NDArray[Any], targets: npt.NDArray[Any], **_: Any
) -> npt.NDArray[np.float64]:
    """Make the maps that both are given, shape (N, 1, *spatial)."""
    images = torch.as_tensor(np.asarray(inputs, np.float32))
    return maps_of(model, images, int(targets[0]), "gradient", {}, Price())[:, None]


def import_quantus() -> ModuleType:
    """Import Quantus without zennit: it imports that where it is installed, and that imports torchvision."""
    find_spec = importlib.util.find_spec
    importlib.util.find_spec = lambda name, package=None: (
        None if name.partition(".")[0] == "zennit" else find_spec(name, package)
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import quantus
    finally:
        importlib.util.find_spec = find_spec
    return quantus


if __name__ == "__main__":
    main()
