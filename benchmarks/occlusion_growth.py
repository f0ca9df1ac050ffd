"""How the cost of occlusion grows with the number of regions and the size of the image."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pipeline.attribution import attribute
from pipeline.models.architectures.rieke import RiekeCNN

SIDES = (48, 64, 96, 128)
REGIONS = (10, 30, 100, 300, 1000)
CELLS = 10
"""Regions are cubes, this many along each axis, of which the first few in random order are taken."""


def growth(picture: Path, rounds: int) -> None:
    """Print a table and draw a plot: forward passes for 10 to 1,000 regions of four image sizes."""
    print("| image | F (CPU s) | regions | forward passes | forward passes a region |\n|---|---|---|---|---|")
    found = {side: _of(side, rounds) for side in SIDES}
    _draw(found, picture)


def _seconds(what: Callable[[], Any]) -> float:
    start = time.process_time()
    what()
    return time.process_time() - start


def _of(side: int, rounds: int) -> list[float]:
    torch.manual_seed(0)
    shape = (side,) * 3
    model = RiekeCNN(shape, pools=(2, 2, 2, 1), hidden=(64,)).eval()
    image = torch.nn.functional.interpolate(torch.rand(1, 1, 12, 12, 12), shape, mode="trilinear") + 0.1
    cell = torch.arange(side) * CELLS // side
    grid = torch.meshgrid(cell, cell, cell, indexing="ij")
    cells = grid[0] * CELLS**2 + grid[1] * CELLS + grid[2]
    rank = torch.randperm(CELLS**3)[cells] + 1
    costs = []
    for regions in REGIONS:
        labels = torch.where(rank <= regions, rank, 0)
        attribute(model, image, 1, "region_occlusion", labels)
        ratios, passes = [], []
        for _ in range(rounds):
            with torch.inference_mode():
                F = statistics.median(_seconds(lambda: model(image)) for _ in range(5))
            passes.append(F)
            ratios.append(_seconds(lambda v=labels: attribute(model, image, 1, "region_occlusion", v)) / F)
        costs.append(statistics.median(ratios))
        row = (f"{side}³", f"{statistics.median(passes):.3f}", regions, f"{costs[-1]:.1f}")
        print("|", " | ".join(str(v) for v in (*row, f"{costs[-1] / regions:.3f}")), "|", flush=True)
    return costs


def _draw(found: dict[int, list[float]], picture: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(REGIONS, [n + 1 for n in REGIONS], color="0.5", ls="--", label="plain passes: one a region")
    for (side, costs), marker in zip(found.items(), "osD^", strict=True):
        axes.plot(REGIONS, costs, marker=marker, label=f"{side}³ voxels")
    axes.set(xscale="log", yscale="log", xlabel="regions", ylabel="forward passes")
    axes.set_title("Region occlusion: cost by number of regions and size of image", fontsize=10)
    axes.grid(visible=True, which="both", color="0.92")
    axes.legend(frameon=False)
    figure.savefig(picture, dpi=110)
