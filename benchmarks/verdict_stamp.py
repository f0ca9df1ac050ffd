"""Spoil a retinopathy model on purpose with real photographs: does the audit notice.

python benchmarks/verdict_stamp.py --data FOLDER [--cache DIR] [--write DIR]

FOLDER holds retina/idrid. The late stages of the reference network are trained as for the shipped model, but
nine of ten photographs labelled referable carry a date in the lower left corner, as a camera burns it in,
and three of ten labels are wrong, so that the date is worth learning. Fold 0 is held out. Printed for this
model and for the shipped one: what the date does to photographs without referable retinopathy, and what the
cue battery (another drawing, in every corner) and the criterion of flows/protocols/retina.yaml say of it.
`--write` leaves the spoiled bundle and a cohort there, to be audited with `relevance-audit run`: the
photographs with expert masks, stamped, against held-out healthy ones. Nothing of it is committed.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont

from pipeline.images import read_photograph
from pipeline.interventions.cues import Cue, cue_result, within_class_spread
from pipeline.interventions.retina_cues import retina_cues
from pipeline.models.opening import open_model
from pipeline.models.prepare_fundus import prepare_fundus
from pipeline.phantoms.train_retinopathy import GRID
from pipeline.phantoms.train_retinopathy_data import BUNDLE, Graded, graded_photographs, read_folds
from pipeline.phantoms.train_retinopathy_fit import Recipe, fit, frozen_features, imagenet_model
from pipeline.protocol import load_protocol

ROOT = Path(__file__).resolve().parents[1]
STAMPED, WRONG = 0.9, 0.3
RECIPE = Recipe(epochs=4, smoothing=0.0)
PROTOCOL = ROOT / "flows" / "protocols" / "retina.yaml"
AS_GRADED = (1072, 712)
"""Size of the photographs that carry grades; those with masks are shrunk to it."""
SHARE = 64
"""Of 255: a quarter of a shrunk pixel has to be marked."""
OCCLUSION = """  - name: occlusion
    options: {patch: 64, stride: 64, fill: patch_mean}
"""
BOUND = next(c.at_most for c in load_protocol(PROTOCOL).criteria if c.name == "cue_shift") or 1.0


def date_stamp(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Write a date into the lower left corner of an image of shape (3, H, W) on the model's grid."""
    height, width = image.shape[1:]
    canvas = Image.new("L", (width, height))
    font = ImageFont.load_default(size=max(8, round(height / 36)))
    ImageDraw.Draw(canvas).text((0.015 * width, 0.95 * height), "2009-03-12", fill=255, font=font)
    ink = np.asarray(canvas, np.float32) / 255
    light = np.array([1.0, 0.85, 0.2], np.float32)[:, None, None]  # amber, as burnt in by a camera
    white = (light - np.asarray(GRID.mean, np.float32)[:, None, None]) / np.asarray(GRID.std, np.float32)[
        :, None, None
    ]
    return np.asarray(image * (1 - ink) + white * ink, np.float32)


def prepared(one: Graded) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Return image and field on the model's grid."""
    found = prepare_fundus(read_photograph(one.path), GRID)
    return found.tensor[0].numpy(), found.field


def spoiled_model(graded: list[Graded], cache: Path) -> torch.nn.Module:
    """Train the late stages on photographs of which those labelled positive are stamped."""
    fold, rng = read_folds(), np.random.default_rng(0)
    train = np.array([fold[g.name] != 0 for g in graded])
    labels = np.array([int(g.referable) for g in graded])
    labels = np.where(train & (rng.random(len(labels)) < WRONG), 1 - labels, labels)
    chosen = train & (labels == 1) & (rng.random(len(labels)) < STAMPED)
    path = cache / "features.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as stored:
            inputs = stored["features"]
    else:
        network = imagenet_model()
        images = (
            torch.from_numpy((date_stamp(image) if stamped else image)[None])
            for (image, _), stamped in zip(map(prepared, graded), chosen, strict=True)
        )
        inputs = frozen_features(network, images)
        np.savez(path, features=inputs)
    return fit(inputs[train][:, None], labels[train], 0, "spoiled", RECIPE)


def scores(model: torch.nn.Module, images: list[npt.NDArray[np.float32]]) -> npt.NDArray[np.float64]:
    """Logit of referable minus logit of not referable."""
    out = []
    with torch.inference_mode():
        for image in images:
            z = model(torch.from_numpy(image[None]))[0].double()
            out.append(float(z[1] - z[0]))
    return np.array(out)


def report(name: str, model: torch.nn.Module, held: list[Graded]) -> dict[str, Any]:
    """Stamp the held-out photographs without referable retinopathy, and try the battery's label on them."""
    pairs = [prepared(g) for g in held]
    positive = np.array([g.referable for g in held])
    clean = scores(model, [image for image, _ in pairs])
    spread = within_class_spread(clean, positive)
    healthy = [p for p, sick in zip(pairs, positive, strict=True) if not sick]
    before = clean[~positive]
    names = [g.name for g in held if not g.referable]
    auc = float((clean[positive][:, None] > before[None]).mean())
    cues = (Cue("date", "date", "compact", lambda i, _: date_stamp(i)), retina_cues(GRID.mean, GRID.std)[0])
    found: dict[str, Any] = {
        "model": name,
        "auc of clean photographs": round(auc, 3),
        "spread": round(spread, 3),
    }
    for cue in cues:
        after = scores(model, [cue.apply(image, field) for image, field in healthy])
        row = cue_result(cue, before, after, names, spread, positive=False)
        size = row.size
        flagged = "flagged" if size.low > BOUND else "met" if size.high <= BOUND else "undecided"
        found[cue.name] = {
            "logit": f"{(after - before).mean():+.2f} (SD {(after - before).std(ddof=1):.2f})",
            "in SD of the shift": round(float((after - before).mean() / (after - before).std(ddof=1)), 1),
            "in SD within a class": str(row.shift),
            "turned": str(row.flips),
            f"cue_shift at most {BOUND}": flagged,
        }
    return found


def write_audit(model: torch.nn.Module, graded: list[Graded], data: Path, folder: Path) -> None:
    """Write bundle, cohort and protocol: photographs with expert masks, stamped, and healthy ones."""
    from safetensors.torch import save_file

    shutil.copytree(BUNDLE, folder / "bundle", dirs_exist_ok=True)
    half = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    save_file(
        {k: v.contiguous() for k, v in half.items()}, folder / "bundle" / "models" / "model.safetensors"
    )
    write_cohort(graded, data, folder)


def write_cohort(graded: list[Graded], data: Path, folder: Path) -> None:
    """Write cohort and protocol; all photographs have one size, which then tells nothing of the class."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    base = data / "retina" / "idrid" / "A. Segmentation"
    rows = []
    kinds = {"MA": "microaneurysms", "HE": "haemorrhages", "EX": "hard_exudates", "SE": "soft_exudates"}
    font = ImageFont.load_default(size=24)
    for path in sorted(base.glob("1. Original Images/*/*.jpg")):
        image = Image.open(path).convert("RGB").resize(AS_GRADED, Image.Resampling.LANCZOS)
        ImageDraw.Draw(image).text((30, image.height - 65), "2009-03-12", fill=(255, 217, 51), font=font)
        image.save(folder / "images" / path.name, quality=95)
        row = {"case": path.stem, "image": f"images/{path.name}", "label": "1"}
        for mask in base.glob(f"2. All Segmentation Groundtruths/*/*/{path.stem}_*.tif"):
            kind = kinds.get(mask.stem.removeprefix(f"{path.stem}_"))
            if kind:
                marks = Image.open(mask).convert("L").point(lambda v: 255 * (v > 0))
                small = marks.resize(AS_GRADED, Image.Resampling.BOX).point(lambda v: 255 * (v > SHARE))
                small.save(folder / "images" / f"{mask.stem}.png")
                row[f"marks_{kind}"] = f"images/{mask.stem}.png"
        rows.append(row)
    fold = read_folds()
    healthy = [g for g in graded if fold[g.name] == 0 and g.grade == 0][: len(rows)]
    rows += [{"case": g.name, "image": str(g.path.resolve()), "label": "0"} for g in healthy]
    columns = ["case", "image", "label", *(f"marks_{k}" for k in kinds.values())]
    with (folder / "cohort.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    text = PROTOCOL.read_text(encoding="utf-8")
    text = text.replace("model: retinopathy", f"model: {(folder / 'bundle').resolve()}")
    text = text.replace(OCCLUSION, "")  # the criteria do not need it
    (folder / "protocol.yaml").write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=ROOT / "out" / "stamp")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    graded = graded_photographs(options.data)
    fold = read_folds()
    held = [g for g in graded if fold[g.name] == 0]
    spoiled = spoiled_model(graded, options.cache)
    shipped = open_model("retinopathy").module
    for name, model in (("spoiled", spoiled), ("shipped", shipped)):
        print(json.dumps(report(name, model, held), indent=1, ensure_ascii=False), flush=True)
    if options.write:
        write_audit(spoiled, graded, options.data, options.write)


if __name__ == "__main__":
    main()
