"""Cost of occlusion in forward passes, ours beside plain batches, captum and MONAI, in one run.

    python benchmarks/occlusion.py [--rows rieke_regions ...] [--rounds 5] [--threads 1] [--allocator system]

F is one inference-mode forward pass of the same model and image, in the same process and under the same
allocator setting, which is printed. All times are CPU seconds of this process; F is measured before and
after each call, and medians over rounds are shown. What does one forward pass a cover is timed on a sample of
covers and scaled, where the table says so. `--growth FILE.png` times 10 to 1,000 regions and several image
sizes instead; `--memory` shows what the option `memory_limit` keeps.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from occlusion_works import Work, covers_of, works
from torch import nn

from pipeline.allocator import allocator, give_back, keep_freed_memory
from pipeline.attribution import attribute
from pipeline.attribution.fills import make_fill
from pipeline.attribution.incremental.choice import operations_limit
from pipeline.attribution.incremental.memory import LiveBytes
from pipeline.attribution.incremental.plan import Plan, make_plan
from pipeline.attribution.occlusion_engine import Cover, covered, occluded_logits
from pipeline.attribution.question import Question
from pipeline.errors import AuditError
from pipeline.models.graph import capture

TOLERANCE = 1e-5
"""Largest difference to full forward passes, in units of the largest logit."""
SLOWER = 1.15
"""Never slower than plain batches by more than this."""
BATCH = 8
LIMITS = (25, 50, 100, 200, 400, 800, 1600)
"""MiB."""


def seconds(what: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of this process, and the result."""
    start = time.process_time()
    result = what()
    return time.process_time() - start, result


def memory(what: Callable[[], Any]) -> float:
    """MiB by which this process grew at most while doing something."""
    give_back()
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    what()
    return _status("VmHWM") - before


def live(what: Callable[[], Any]) -> float:
    """MiB of tensors alive at once while doing something, beside those that were there before."""
    with LiveBytes() as counted:
        what()
    return counted.peak / 2**20


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def plainly(model: nn.Module, image: torch.Tensor, covers: Sequence[Cover]) -> torch.Tensor:
    """Logits under each cover by forward passes of the model, eight images at a time."""
    fill = make_fill(image, 0.0)
    parts = [covers[k : k + BATCH] for k in range(0, len(covers), BATCH)]
    return torch.cat([model(torch.stack([covered(image[0], c, fill, 0) for c in part])) for part in parts])


def sample(covers: Sequence[Cover], n: int) -> list[int]:
    """Numbers of covers, evenly spread over all."""
    return sorted({int(k) for k in np.linspace(0, len(covers) - 1, n + 2)[1:-1]})


def peers(model: nn.Module, image: torch.Tensor, covers: Sequence[Cover]) -> dict[str, float]:
    """CPU seconds a cover of captum and MONAI, on some covers."""
    from captum.attr import FeatureAblation
    from monai.visualize import OcclusionSensitivity

    mask = torch.zeros(image.shape[2:], dtype=torch.int64)
    for k, cover in enumerate(covers, 1):
        mask[cover.box] = torch.where(cover.mask, k, mask[cover.box]) if cover.mask is not None else k
    captum = seconds(
        lambda: FeatureAblation(model).attribute(image, target=1, feature_mask=mask[None, None])
    )[0]
    found = {"captum": captum / len(mask.unique())}  # with the background, which it ablates as well
    if all(c.mask is None for c in covers):
        box = [s.stop - s.start for s in covers[0].box]
        window = OcclusionSensitivity(model, mask_size=box, n_batch=1, overlap=0.5, mode=0.0, verbose=False)
        bounds = [k for s in covers[0].box for k in (s.start, s.stop)]
        found["MONAI"] = seconds(lambda: window(image, b_box=bounds))[0] / 2 ** (image.ndim - 2)
    return found


def tight(image: torch.Tensor, covers: Sequence[Cover]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes of what a fill of zero really changes."""
    low, high = [], []
    for cover in covers:
        changed = (image[0][(slice(None), *cover.box)] != 0).any(0)
        places = (changed if cover.mask is None else changed & cover.mask).nonzero()
        if len(places):
            begin = np.array([s.start for s in cover.box])
            low.append(begin + places.amin(0).numpy())
            high.append(begin + places.amax(0).numpy() + 1)
    return np.stack(low), np.stack(high)


def check(
    model: nn.Module, image: torch.Tensor, covers: Sequence[Cover], *, double: bool
) -> dict[str, float]:
    """Largest differences between logits, in units of the largest: ours, plain passes, both in double.

    Parameters
    ----------
    covers : sequence of Cover
        Under which logits are compared.
    double : bool
        Whether plain passes in double precision are computed as well, as the reference for both.
    """
    question = Question(model, image, torch.tensor([[1]]))
    ours = torch.cat(
        [v.reshape(-1, v.shape[-1]) for v in occluded_logits(question, [covers], make_fill(image, 0.0))]
    )
    plain = torch.cat([model(image), plainly(model, image, covers)])
    largest = float(plain.abs().max())
    found = {"error": float((ours - plain).abs().max()) / largest}
    if double:
        twin = deepcopy(model).double()
        exact = torch.cat([twin(image.double()), plainly(twin, image.double(), covers)])
        found |= {
            name: float((v - exact).abs().max()) / largest for name, v in (("ours", ours), ("plain", plain))
        }
    return found


def measure(work: Work, rounds: int) -> dict[str, Any]:
    """One row."""
    model, image = work.build()
    covers, options = covers_of(work, image)
    every = len(covers) <= 64 and work.target is None
    some = list(covers) if every else [covers[k] for k in sample(covers, BATCH)]

    def call() -> Any:
        return attribute(model, image, 1, **options)

    with torch.inference_mode():
        model(image)
        forward, alive = memory(lambda: model(image)), live(lambda: model(image))
        timed: list[float] = []
        peak = memory(lambda: timed.append(seconds(call)[0]))
        ratios, plain, passes, result = [], [], [], None
        for k in range(rounds if not every else max(rounds, 9)):
            before = seconds(lambda: model(image))[0]
            took, result = seconds(call)
            after = seconds(lambda: model(image))[0]
            passes.append((before + after) / 2)
            ratios.append(took / passes[-1])
            if every or k < 3:
                plain.append(
                    seconds(lambda: plainly(model, image, some))[0] * len(covers) / len(some) / passes[-1]
                )
        most = live(call)
        exact = check(model, image, some, double=every)
        if result.region_scores is not None:
            whole = model(image)
            drops = (whole - plainly(model, image, some))[:, 1]
            numbers = [next(k for k, c in enumerate(covers) if c is one) for one in some]
            off = float((drops - result.region_scores[0, numbers]).abs().max() / whole.abs().max())
            exact["error"] = max(exact["error"], off)
        plan: Plan = make_plan(capture(model, image), image.shape[1], image.dtype)
        others = peers(model, image, some[:3])
    F = statistics.median(passes)
    return {
        "covers": len(covers),
        "F": F,
        "ours": statistics.median(ratios),
        "spread": (min(ratios), max(ratios)),
        "rounds": len(ratios),
        "first": timed[0] / F,
        "target": work.target,
        "limit": operations_limit(plan, *tight(image, covers)),
        "plain": statistics.median(plain),
        "every": every,
        "peers": {k: v * len(covers) / F for k, v in others.items()},
        "exact": exact,
        "cache": sum(float(np.prod(plan.shapes[n])) for n in plan.needed) * image.element_size() / 2**20,
        "forward": alive,
        "alive": most,
        "process": (peak, forward),
    }


COLUMNS = (
    "work",
    "covers",
    "F (CPU s)",
    "**ours**",
    "rounds",
    "first call",
    "target",
    "operations limit",
    "plain, batches of 8",
    "peers",
    "error",
    "tensors alive",
    "cache + 2 forwards",
    "process grew by",
)


def show(name: str, row: dict[str, Any]) -> str:
    low, high = row["spread"]
    met = "" if row["target"] is None else " met" if row["ours"] <= row["target"] else " **missed**"
    target = f"{row['target']:g} F,{met}" if met else "not slower"
    exact = row["exact"]
    others = ", ".join(f"{k} {v:.0f} F" for k, v in row["peers"].items())
    cells = (
        name,
        row["covers"],
        f"{row['F']:.3f}",
        f"**{row['ours']:.2f} F** ({low:.2f}–{high:.2f})",
        row["rounds"],
        f"{row['first']:.1f} F",
        target,
        f"{row['limit']:.1f} F",
        f"{row['plain']:.0f} F" + ("" if row["every"] else " (8 covers)"),
        f"{others} (3 covers)",
        f"{exact['error']:.0e}"
        + (f" (to double: ours {exact['ours']:.0e}, plain {exact['plain']:.0e})" if "ours" in exact else ""),
        f"{row['alive']:.0f} MB",
        f"{row['cache']:.0f} + 2 × {row['forward']:.0f} MB",
        "{:.0f} MB (a forward {:.0f})".format(*row["process"]),
    )
    return "| " + " | ".join(str(c) for c in cells) + " |"


def broken(name: str, row: dict[str, Any]) -> list[str]:
    """Say what must hold and does not."""
    found = []
    if row["exact"]["error"] > TOLERANCE:
        found.append(f"{name}: differs from full forward passes by {row['exact']['error']:.1e}")
    if row["ours"] > SLOWER * row["plain"]:
        found.append(f"{name}: {row['ours']:.1f} F, plain batches {row['plain']:.1f} F")
    if row["alive"] > row["cache"] + 2 * row["forward"]:
        found.append(f"{name}: {row['alive']:.1f} MB alive, more than cache and two forward passes")
    return found


def limits(work: Work) -> None:
    """Growth of the process under the option `memory_limit`."""
    model, image = work.build()
    _, options = covers_of(work, image)
    with torch.inference_mode():
        attribute(model, image, 1, **options)
        for limit in LIMITS:
            took, alive = 0.0, 0.0

            def call(limit: float = limit) -> None:
                attribute(model, image, 1, memory_limit=limit / 1024, **options)

            try:
                took, grown = seconds(lambda: memory(call))
            except AuditError as error:
                print(f"| {work.name} | {limit} MB | refused: {error} | | |", flush=True)
                continue
            alive = live(call)
            print(
                f"| {work.name} | {limit} MB | {alive:.0f} MB | {grown:.0f} MB | {took:.1f} s |", flush=True
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = {work.name: work for work in works()}
    parser.add_argument("--rows", nargs="*", choices=known, default=list(known))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--allocator", choices=("kept", "system"), default="kept")
    parser.add_argument("--growth", type=Path, metavar="FILE.png")
    parser.add_argument("--memory", action="store_true")
    given = parser.parse_args()
    if given.allocator == "kept":
        keep_freed_memory()
    warnings.simplefilter("ignore")
    torch.set_num_threads(given.threads)
    load = f"load {os.getloadavg()[0]:.1f}"
    print(
        f"torch {torch.__version__}, {given.threads} thread(s), memory: {allocator()}, {load}\n", flush=True
    )
    if given.growth:
        from occlusion_growth import growth

        growth(given.growth, given.rounds)
        return
    if given.memory:
        print("| work | memory_limit | tensors alive | process grew by | CPU s |" + "\n|" + "---|" * 5)
        for name in given.rows:
            limits(known[name])
        return
    print("|", " | ".join(COLUMNS), "|\n" + "|---" * len(COLUMNS) + "|", flush=True)
    problems = []
    for name in given.rows:
        row = measure(known[name], given.rounds)
        print(show(name, row), flush=True)
        problems += broken(name, row)
    for problem in problems:
        print(problem)
    raise SystemExit(bool(problems))


if __name__ == "__main__":
    main()
