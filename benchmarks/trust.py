"""Trust of maps on phantoms with the reference models: randomisation, deletion, stability, cost.

    python benchmarks/trust.py --model alzheimer --cases 8

Prints, for every method, how much of its map is left after each step of a cascade (0: as unlike as maps of
two random models), the deletion curve against random order, and the change under small noise.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import astuple
from itertools import combinations, product
from typing import Any

import numpy as np
from torch import nn

from pipeline.comparison import mean_interval
from pipeline.models.opening import OpenedModel, open_model
from pipeline.models.prepared import Prepared
from pipeline.stages.map_trust import PATCHES
from pipeline.stages.twins import batched
from pipeline.trust.crossed import crossed_interval
from pipeline.trust.faithfulness import Curves, Deleting
from pipeline.trust.maps import Price, maps_of
from pipeline.trust.randomisation import CASCADES, STAGES, cascade, left_over_draws, remaining
from pipeline.trust.similarity import Ranked
from pipeline.trust.stability import noisy, stability

METHODS = ("gradient", "grad_cam", "guided_backprop", "lrp", "input_x_gradient", "guided_grad_cam")
FIRST_SEED = 8_000_000
"""Far from the seeds that the models were trained and tested on."""
KINDS = ("SSIM of |R|", "rank of |R|", "rank of R, up to its sign")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="alzheimer", choices=("alzheimer", "retinopathy"))
    parser.add_argument("--cases", type=int, default=8)
    parser.add_argument("--draws", type=int, default=CASCADES, help="of weights")
    parser.add_argument("--stages", type=int, default=STAGES)
    parser.add_argument("--seed", type=int, default=1, help="of the redrawn weights")
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--only", nargs="+", default=["randomisation", "deletion", "noise"])
    options = parser.parse_args()
    model = open_model(options.model)
    images = drawn(model, options.model, options.cases)
    target = model.card.target if model.card else 1
    works: dict[str, Any] = {"randomisation": randomise, "deletion": delete, "noise": disturb}
    for name in options.only:
        begin, price = time.process_time(), Price()
        works[name](model, images, target, options, price)
        print(f"{price.passes} forward passes, {time.process_time() - begin:.0f} CPU s\n", flush=True)


def drawn(model: OpenedModel, name: str, cases: int) -> list[Prepared]:
    """Draw half of the phantoms healthy, half ill."""
    made = []
    for number in range(FIRST_SEED, FIRST_SEED + cases):
        if name == "alzheimer":
            from pipeline.phantoms.brain import brain_phantom
            from pipeline.phantoms.train_alzheimer import draw_severity

            made.append(model.prepare(brain_phantom(number, draw_severity(number)[1]).volume))
        else:
            from pipeline.phantoms.cohorts import RETINA_GRADES
            from pipeline.phantoms.retina import retina_phantom

            grade = RETINA_GRADES[number % len(RETINA_GRADES)]
            made.append(model.prepare(retina_phantom(number, grade, size=1024).photograph))
    return made


def randomise(
    model: OpenedModel, images: list[Prepared], target: int, options: argparse.Namespace, price: Price
) -> None:
    batches = batched([p.tensor for p in images])

    def maps(module: nn.Module) -> dict[str, list[Ranked]]:
        return {
            m: [Ranked(maps_of(module, p.tensor, target, m, {}, price)[0], p.field) for p in images]
            for m in options.methods
        }

    trained = maps(model.module)
    names: dict[int, str] = {}
    first: dict[str, Any] = {}
    alike: dict[str, list[list[Any]]] = {m: [] for m in trained}
    last: dict[str, list[list[Ranked]]] = {m: [] for m in trained}
    for draw in range(options.draws):
        seed = 100 * options.seed + draw
        for m in trained:
            alike[m].append([])
        made = {}
        for stage, module in cascade(model.module, batches, stages=options.stages, seed=seed):
            price.passes += stage.passes
            if draw and not stage.counts:
                continue
            names[stage.layers] = f"{stage.layers}/{stage.of}"
            made = maps(module)
            for m in trained:
                found = likeness(trained[m], made[m])
                if stage.counts:
                    alike[m][-1].append(found)
                else:
                    first[m] = found
        for m in trained:
            last[m].append(made[m])
    between = {m: np.full((len(last[m]), len(last[m]), len(images), len(KINDS)), np.nan) for m in trained}
    couples = list(combinations(range(options.draws), 2))
    for m, (a, b) in product(trained, couples):
        between[m][a, b] = likeness(last[m][a], last[m][b])
    for index, kind in enumerate(KINDS):
        print(f"{kind}: after {', '.join(names.values())} layers | random pairs | left [95 %]; each draw")
        for m in trained:
            table = np.array(alike[m])[..., index]  # draws, steps, images
            pairs = between[m][..., index]
            base = np.mean([pairs[couple] for couple in couples], axis=0)
            left, draws = left_over_draws(table, pairs)
            curve = [first[m][:, index].mean()] if first else []
            curve += list(table.mean(axis=(0, 2)))
            each = row(remaining(table, base).mean(axis=(1, 2)))
            print(f"  {m:18s} {row(curve)} | {base.mean():6.2f} | {crossed_interval(left, draws)};{each}")


def likeness(one: list[Ranked], other: list[Ranked]) -> Any:
    """Likeness of maps of the same images, shape (images, kinds)."""
    values = np.array([astuple(a.like(b)) for a, b in zip(one, other, strict=True)])
    values[:, 2] = np.abs(values[:, 2])
    return values


def delete(
    model: OpenedModel, images: list[Prepared], target: int, options: argparse.Namespace, price: Price
) -> None:
    curves: dict[str, list[Curves]] = {m: [] for m in options.methods}
    for number, p in enumerate(images):
        work = Deleting(model.module, p.tensor, p.field, target, patches=PATCHES, price=price, seed=number)
        for m in options.methods:
            values = maps_of(model.module, p.tensor, target, m, {}, price)[0]
            curves[m].append(work.curves(values))
    print("deletion beyond random | beyond reverse | insertion beyond random (logits); on the way")
    for m, made in curves.items():
        figures = [
            mean_interval([getattr(c, name) for c in made])
            for name in ("over_random", "over_reverse", "insertion_over_random")
        ]
        print(f"  {m:18s}", " | ".join(map(str, figures)))
        print(f"  {'':18s} most first ", row(np.mean([c.most_first for c in made], axis=0)))
        print(f"  {'':18s} least first", row(np.mean([c.least_first for c in made], axis=0)))
    first = curves[options.methods[0]]
    print(f"  {'random order':31s}", row(np.mean([c.random.mean(axis=0) for c in first], axis=0)))


def disturb(
    model: OpenedModel, images: list[Prepared], target: int, options: argparse.Namespace, price: Price
) -> None:
    print("largest relative change under noise | rank correlation")
    for m in options.methods:
        found = []
        for number, p in enumerate(images):
            plain = maps_of(model.module, p.tensor, target, m, {}, price)[0]
            moved = maps_of(model.module, noisy(p.tensor, p.field, seed=number), target, m, {}, price)
            found.append(stability(plain, moved, p.field))
        change, rank = mean_interval([s.largest for s in found]), mean_interval([s.rank for s in found])
        print(f"  {m:18s} {change} | {rank}")


def row(values: Any) -> str:
    return " ".join(f"{value:6.2f}" for value in values)


if __name__ == "__main__":
    main()
