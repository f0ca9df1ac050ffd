"""Measure the smallest lesion that each method tells from its neighbourhood.

    python benchmarks/method_card.py --model retinopathy

One round lesion is put into healthy phantoms that the reference models were not trained on: a haemorrhage
into retinas, a hole filled with fluid into the left hippocampus of brains. A lesion is *told* if the mean |R|
inside is at least twice that of the ring around it (as wide as the lesion, at least 3 pixels), and this ratio
at least twice that at the same place without the lesion: what the image alone draws there does not count.
Printed are the share of phantoms in which it is told, for every diameter; the smallest diameter from which on
at least 80 % are told at every larger one up to four times its size; the width of the map without lesion; and
by how much the lesion moves the logit: no method can show what the model does not see.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pipeline.allocator import keep_freed_memory
from pipeline.attribution import METHODS, attribute, logits
from pipeline.errors import AuditError
from pipeline.images import Photograph, Volume
from pipeline.models.opening import OpenedModel, open_model
from pipeline.models.prepared import Prepared
from pipeline.phantoms.brain import brain_phantom
from pipeline.phantoms.retina import retina_phantom
from pipeline.stages.measuring import one_channel
from pipeline.trust.resolution import autocorrelation_width

FIRST_SEED = 7_000_000
TOLD, SHARE, RANGE = 2.0, 0.8, 4.0
COSTLY, FEW = ("integrated_gradients", "smooth_grad"), 3
SIZES = {"retinopathy": (4, 8, 16, 32, 64), "alzheimer": (4, 6, 8, 12, 16, 24, 32)}
UNIT = {"retinopathy": "pixels of the model's grid", "alzheimer": "mm"}
OPTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "retinopathy": {"occlusion": {"patch": 64, "stride": 64, "fill": "patch_mean"}},
    "alzheimer": {"occlusion": {"patch": 16, "stride": 16}},
}
BLOOD = np.array([0.30, 1.00, 0.80])
FLUID = 0.24 / 0.87  # of white matter


@dataclass(frozen=True)
class Planted:
    """A phantom with a lesion of some diameter (0: none), and where it was put."""

    number: int
    diameter: float
    prepared: Prepared
    distance: Any  # from the lesion's centre, in the unit of the diameter
    labels: Any = None


def retinas(model: OpenedModel, count: int) -> Iterator[Planted]:
    for number in range(count):
        eye = retina_phantom(FIRST_SEED + number, 0, 512)
        colours, rng = eye.photograph.data, np.random.default_rng(FIRST_SEED + number)
        rows, columns = np.mgrid[: colours.shape[0], : colours.shape[1]]
        clean = model.prepare(eye.photograph)
        scale = float(clean.native_from_model[0, 0])
        free = eye.field.mask() & ~eye.masks["vessels"] & ~eye.masks["optic_disc"]
        middle = np.argwhere(free & (np.hypot(rows - eye.fovea[0], columns - eye.fovea[1]) > 40 * scale))
        inner = [
            p for p in middle if np.hypot(*(p - np.array(colours.shape[:2]) / 2)) < 0.30 * colours.shape[0]
        ]
        row, column = inner[rng.integers(len(inner))]
        away = np.hypot(rows - row, columns - column) / scale
        grid = np.moveaxis(np.indices(clean.field.shape), 0, -1) @ clean.native_from_model[:2, :2].T
        grid = grid + clean.native_from_model[:2, 2]
        distance = np.hypot(grid[..., 0] - row, grid[..., 1] - column) / scale
        for diameter in (0, *SIZES["retinopathy"]):
            opacity = np.clip(diameter / 2 - away + 0.5, 0, 1)[..., None] if diameter else 0.0
            painted = (colours * np.exp(-0.85 * opacity * BLOOD)).astype(np.float32)
            yield Planted(number, diameter, model.prepare(Photograph(painted, "planted")), distance)


def brains(model: OpenedModel, count: int) -> Iterator[Planted]:
    from atlases import load_atlas

    table = load_atlas("AAL").table
    left = next(label for label, name in table.items() if name == "Hippocampus_L")
    for number in range(count):
        brain = brain_phantom(FIRST_SEED + number, 0.0)
        data, affine = brain.volume.data, brain.volume.affine
        places = np.argwhere(brain.labels == left)
        centre = places[np.argmin(((places - places.mean(axis=0)) ** 2).sum(axis=1))]
        spacing = float(affine[0, 0])
        away = spacing * np.sqrt(((np.moveaxis(np.indices(data.shape), 0, -1) - centre) ** 2).sum(axis=-1))
        fluid = FLUID * float(np.percentile(data[brain.masks["brain"]], 90))
        for diameter in (0, *SIZES["alzheimer"]):
            opacity = np.clip((diameter / 2 - away) / spacing + 0.5, 0, 1) if diameter else 0.0
            hole = (data + opacity * (np.minimum(fluid, data) - data)).astype(np.float32)
            prepared = model.prepare(Volume(hole, affine, "planted"))
            native = (
                np.moveaxis(np.indices(prepared.field.shape), 0, -1) @ prepared.native_from_model[:3, :3].T
            )
            index = native + prepared.native_from_model[:3, 3]
            distance = spacing * np.sqrt(((index - centre) ** 2).sum(axis=-1))
            inside = np.clip(np.rint(index).astype(int), 0, np.array(data.shape) - 1)
            yield Planted(
                number, diameter, prepared, distance, brain.labels[tuple(np.moveaxis(inside, -1, 0))]
            )


def contrast(values: Any, distance: Any, diameter: float, pixel: float, field: Any) -> float:
    """Mean |R| inside over that of the ring around."""
    size = np.abs(values.astype(np.float64))
    inside = (distance <= max(diameter / 2, 0.75 * pixel)) & field
    ring = (distance > diameter / 2 + pixel) & (distance <= diameter / 2 + pixel + max(diameter, 3 * pixel))
    around = float(size[ring & field].mean())
    return float(size[inside].mean()) / around if around else float("inf" if size[inside].any() else "nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=tuple(SIZES), required=True)
    parser.add_argument("--phantoms", type=int, default=6)
    parser.add_argument("--methods", nargs="*", help="all that need no training, if not given")
    options = parser.parse_args()
    keep_freed_memory()
    model = open_model(options.model)
    draw = retinas if options.model == "retinopathy" else brains
    names = options.methods or [
        n for n in METHODS if n != "mace" and (draw is brains or n != "region_occlusion")
    ]
    told: dict[tuple[str, float], list[bool]] = {}
    widths: dict[str, list[float]] = {}
    moved: dict[float, list[float]] = {}
    before: dict[str, Any] = {}
    for one in draw(model, options.phantoms):
        if one.diameter == 0:
            print(
                f"phantom {one.number}: {time.process_time():.0f} CPU s so far", file=sys.stderr, flush=True
            )
        score = float(logits(model.module, one.prepared.tensor)[0, 1])
        before = {"score": score} if one.diameter == 0 else before
        moved.setdefault(one.diameter, []).append(score - before["score"])
        pixel = 1.0 if draw is retinas else float(np.abs(one.prepared.affine[0, 0]))  # type: ignore[index]
        for name in names:
            if name in COSTLY and one.number >= FEW:
                continue
            try:
                values = explain(model, name, one)
            except AuditError:
                values = np.zeros(one.prepared.field.shape, np.float32)  # nothing to show is nothing told
            if one.diameter == 0:
                before[name] = values
                width = autocorrelation_width(values, one.prepared.field).pixels * pixel
                widths.setdefault(name, []).append(width)
                continue
            now, then = (
                contrast(v, one.distance, one.diameter, pixel, one.prepared.field)
                for v in (values, before[name])
            )
            then = then if np.isfinite(then) else 1.0
            told.setdefault((name, one.diameter), []).append(now >= TOLD and now >= TOLD * then)
    sizes = SIZES[options.model]
    print(f"{options.model}: {options.phantoms} phantoms, diameters in {UNIT[options.model]}")
    print("| method | " + " | ".join(map(str, sizes)) + " | smallest told | width of the map |")
    print("|---" * (len(sizes) + 3) + "|")
    print("| logit moves by | " + " | ".join(f"{np.mean(moved[s]):+.2f}" for s in sizes) + " | | |")
    for name in names:
        shares = {s: float(np.mean(told[name, s])) for s in sizes}
        row = " | ".join(f"{shares[s]:.2f}" for s in sizes)
        print(f"| {METHODS[name].title} | {row} | {smallest(shares)} | {np.nanmedian(widths[name]):.1f} |")


def explain(model: OpenedModel, name: str, one: Planted) -> Any:
    options = OPTIONS[model.folder.name].get(name, {})
    labels = torch.from_numpy(one.labels.astype(np.int64)) if name == "region_occlusion" else None
    made = attribute(model.module, one.prepared.tensor, 1, name, regions=labels, **options)
    return one_channel(made, 0, signed=METHODS[name].signed)


def smallest(shares: dict[float, float]) -> str:
    """Smallest diameter from which on the lesion is told, up to four times that size."""
    for size in shares:
        if all(share >= SHARE for other, share in shares.items() if size <= other <= RANGE * size):
            return f"{size:g}"
    return "none"


if __name__ == "__main__":
    main()
