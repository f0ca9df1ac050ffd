"""MACE on a cohort: how faithful its concepts are, whether the top one matters, and what learning costs.

    python benchmarks/concepts.py --model retinopathy --images FOLDER

Images are taken as single patients, three in ten are held out; nothing is written.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from pipeline.attribution.mace_concepts import same_decisions, top_and_other
from pipeline.attribution.mace_training import hold_out, learn_concepts, look_once
from pipeline.comparison import mean_interval, rate_interval
from pipeline.images import read_photograph, read_volume
from pipeline.images.volumes import is_nifti
from pipeline.models.opening import open_model
from pipeline.stages.concepts import BATCH, HELD_OUT, RATE, STEPS

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".nii", ".nii.gz")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="retinopathy")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--every", type=int, default=4, help="take every n-th image")
    parser.add_argument("--most", type=int, default=90)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model = open_model(options.model)
    files = sorted(p for p in options.images.rglob("*") if p.name.lower().endswith(SUFFIXES))
    files = files[:: options.every][: options.most]

    def images() -> Iterator[torch.Tensor]:
        for path in files:
            yield model.prepare(read_volume(path) if is_nifti(path) else read_photograph(path)).tensor

    begin = time.process_time()
    seen = look_once(model.module, images())
    looked = time.process_time()
    apart = hold_out(seen, HELD_OUT, options.seed)
    per_epoch = -(-int((~apart).sum()) // BATCH)
    epochs = -(-STEPS // per_epoch)
    state = learn_concepts(
        seen, apart, epochs=epochs, learning_rate=RATE, batch_size=BATCH, seed=options.seed
    )
    learnt = time.process_time()
    unseen = seen[apart]
    same = same_decisions(seen.bridge, state, unseen.activation, unseen.decisions)
    likeliest = seen.bridge.rest(unseen.vector).argmax(1)
    top, other = top_and_other(seen.bridge, state, unseen.activation, likeliest)
    fidelity, deletion = rate_interval(same.double().numpy()), mean_interval((top - other).double().numpy())
    print(f"{len(seen)} images, {len(unseen)} held out; activation {tuple(seen.activation.shape[1:])}")
    print(f"reading and looking {looked - begin:.0f} CPU s, learning {learnt - looked:.0f} CPU s")
    constant = state.fidelity.majority if state.fidelity else float("nan")
    print(
        f"agreement {fidelity.value:.3f} [{fidelity.low:.3f}, {fidelity.high:.3f}], constant {constant:.3f}"
    )
    print(f"top concept {float(top.mean()):.3f}, another {float(other.mean()):.3f}")
    print(f"difference {deletion.value:.3f} [{deletion.low:.3f}, {deletion.high:.3f}]")


if __name__ == "__main__":
    main()
