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
    one = {**given, "x_batch": images[:1].numpy(), "y_batch": np.ones(1, int), "a_batch": maps[:1]}

    def sensitivity(title: str, **options: Any) -> float:
        steps = iter(moved)

        def next_draw(arr: Any, indices: Any, **_: Any) -> Any:  # noqa: ARG001
            return next(steps).numpy().reshape(arr.shape)

        metric = quantus.MaxSensitivity(
            nr_samples=DRAWS, perturb_func=next_draw, lower_bound=0.1, **{**QUIET, **options}
        )
        return float(timed(title, lambda: metric(**one), 3 * DRAWS)[0])

    values = {"as it is": sensitivity("Quantus max-sensitivity, one image")}
    values["scaled to its maximum"] = sensitivity("Quantus max-sensitivity, normalise=True", normalise=True)
    values["|R|"] = sensitivity("Quantus max-sensitivity, abs=True", abs=True)
    price = Price()

    def disturb() -> Any:
        others = maps_of(module, moved, 1, "gradient", {}, price)
        return stability(maps[0, 0], others, whole)

    ours = timed("here: stability, one image", disturb, price).largest
    told = ", ".join(f"{name} {value:.6f}" for name, value in values.items())
    print(f"  largest relative change: Quantus {told}; here {ours:.6f}")

    layers = len(layers_in_order(module, images))
    mprt = quantus.MPRT(
        similarity_func=quantus.similarity_func.correlation_spearman,
        layer_order="top_down",
        abs=False,
        **QUIET,
    )
    found = timed("Quantus MPRT, every module, one image", lambda: mprt(**one), "3 a step")
    curve = [float(np.mean(values)) for values in found.values()]
    undefined = int(np.isnan(curve).sum())
    print(f"  {len(curve) - 1} steps ({layers} layers here); undefined at {undefined}")
    print("  rank correlation:", " ".join(f"{v:.2f}" for v in curve[1 :: max(1, len(curve) // 12)]))
    price = Price()
    batches = batched([p.tensor for p in prepared])

    def randomise() -> list[float]:
        made = []
        for stage, twin in cascade(module, batches):
            price.passes += stage.passes
            other = maps_of(twin, images[:1], 1, "gradient", {}, price)[0]
            made.append(rank_correlation(maps[0, 0], other, whole))
        return made

    steps_made = timed("here: cascade in 5 steps, one image", randomise, price)
    print("  rank correlation:", " ".join(f"{v:.2f}" for v in steps_made))


QUIET: dict[str, Any] = {"normalise": False, "disable_warnings": True, "display_progressbar": False}


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
