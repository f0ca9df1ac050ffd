"""Measure what the factor swap takes: `python benchmarks/interventions.py [--threads 2] [--short]`.

The Alzheimer reference model at 2 mm on brain phantoms: 16 pairs in which five factors differ (32 images a
pair), and 32 pairs in which all six do (64 images), since half of the cases carry a marker outside. Printed
beside the wall time: how much of it the network takes (the rest goes into composing images), and CPU seconds.
"""

from __future__ import annotations

import argparse
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from atlases import expected_regions, load_atlas
from pipeline.allocator import keep_freed_memory
from pipeline.anatomy.brain import regions_of
from pipeline.images import Volume
from pipeline.interventions import swap_pair
from pipeline.interventions.brain_factors import BrainImage, BrainPair, brain_parts
from pipeline.models.opening import open_model
from pipeline.phantoms.brain import brain_phantom
from pipeline.stages.intervene_cases import Score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cases", type=int, default=8, help="of either class; each is in several pairs")
    parser.add_argument("--short", action="store_true", help="16 pairs only")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as `relevance-audit run` does
    opened = open_model("alzheimer")
    context: Any = SimpleNamespace(model=opened, target=1)
    inner, atlas = Score(context), load_atlas("AAL")
    spent = {"network": 0.0, "images": 0}

    def score(images: torch.Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
        begin = time.perf_counter()
        found = inner(images)
        spent["network"] += time.perf_counter() - begin
        spent["images"] += len(images)
        return found

    for pairs, marker in ((16, 0.0), (32, 1.0))[: 1 if options.short else 2]:
        sides = []
        for label in (1, 0):
            severity = (0.12, 0.85)[label]
            numbers = [10 * i + label for i in range(options.cases)]
            drawn = [brain_phantom(n, severity, marker=marker * label) for n in numbers]
            sides.append([opened.prepare(one.volume) for one in drawn])
        affine = sides[0][0].affine
        assert affine is not None
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        labels = regions_of(Volume(sides[0][0].tensor[0, 0].numpy(), affine, ""), atlas).labels
        expected = expected_regions("alzheimer", atlas.table).labels()
        score(sides[0][0].tensor)  # the first call captures the graph
        spent |= {"network": 0.0, "images": 0}
        begin, worked = time.perf_counter(), time.process_time()
        for i in range(pairs):
            own, partner = sides[0][i % options.cases], sides[1][(i + i // options.cases) % options.cases]
            parts = brain_parts(labels, expected, own.field, partner.field, spacing)
            one, two = (BrainImage(p.tensor[0, 0].numpy(), p.field) for p in (own, partner))
            swap_pair(BrainPair(one, two, parts, spacing), score, "p", "n")
        wall = time.perf_counter() - begin
        per = spent["images"] / pairs
        print(
            f"{pairs} pairs, {per:.0f} images a pair, {options.threads} threads: {wall:.1f} s, "
            f"of which the network {spent['network']:.1f} s; {time.process_time() - worked:.1f} CPU seconds",
            flush=True,
        )


if __name__ == "__main__":
    main()
