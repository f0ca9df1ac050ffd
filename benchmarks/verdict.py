"""Does the verdict find planted faults, and leave sound models alone? One row a model, added to a CSV.

python benchmarks/verdict.py --seed 900 --faults sound marker rim [--strength 1.0] [--csv FILE]
python benchmarks/verdict.py --table

Brains. One sound network is trained on clean phantoms (its weights are kept in --cache); each faulty one goes
on from there for a few epochs on phantoms into which a cue was planted that goes with the label. **Truth**
comes from the generator: the same held-out cases are drawn with and without the cue, and `reliance` is
the part of the cohort's gap between the classes that goes with it. Nothing of `pipeline.interventions`
is asked for it. The audited cohort contains the cue as the training data did. Thresholds are those of
flows/protocols/brain.yaml; seeds below 900 were for tuning. A model counts as faulty from a reliance of 25 %
(compact cue) or 50 % (diffuse cue), as sound below 5 %; what lies between is kept in the CSV and counts for
neither rate. An inconclusive answer is never a success.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from pipeline.comparison import auc_interval
from pipeline.findings.interventions import find_in_interventions
from pipeline.models.architectures.rieke import RiekeGAP
from pipeline.models.card import Preprocessing
from pipeline.models.prepare_mri import prepare_mri
from pipeline.phantoms.brain import brain_phantom
from pipeline.protocol import load_protocol
from pipeline.record.interventions import Interventions
from pipeline.record.schema import Figure
from pipeline.stages.intervene_cases import Member, Score
from pipeline.verdict import FINDINGS, Found, decide, judge

ROOT = Path(__file__).resolve().parents[1]
SPACING = 4.0
GRID = Preprocessing(
    kind="mri_grid",
    shape=(41, 51, 41),
    affine=((4.0, 0.0, 0.0, -80.0), (0.0, 4.0, 0.0, -118.0), (0.0, 0.0, 4.0, -74.0), (0.0, 0.0, 0.0, 1.0)),
)
SEVERITY = ((0.18, 0.17), (0.75, 0.17))
TRAIN, AUDITED = 160, 32
# name → (compact or diffuse, generator options that plant the cue)
FAULTS = {
    "sound": ("", {}),
    "marker": ("compact", {"marker": 1.0}),
    "rim": ("compact", {"rim_mm": 5.0}),
    "site": ("diffuse", {"site_field": 0.2}),
    "noise": ("diffuse", {"noise": 0.08}),
    "shuffled": ("no skill", {}),
    "random": ("no skill", {}),
}
COLUMNS = (
    *(
        "seed",
        "fault",
        "kind",
        "strength",
        "reliance",
        "truth",
        "answer",
        "auc_low",
        "target_low",
        "target_high",
    ),
    *("worst_factor", "worst_low", "worst_high", "worst_cue", "cue_low", "faults", "seconds", "commit"),
)


def draw(seeds: range, cues: np.ndarray, options: dict[str, float]) -> SimpleNamespace:
    """Draw cases on the grid; `cues` says which of them carry the cue."""
    images, fields, ages, labels = [], [], [], []
    for seed, cue in zip(seeds, cues, strict=True):
        label = seed % 2
        severity = float(np.clip(np.random.default_rng([seed, 7]).normal(*SEVERITY[label]), 0, 1))
        phantom = brain_phantom(seed, severity, SPACING, **(options if cue else {}))
        prepared = prepare_mri(phantom.volume, GRID)
        images.append(prepared.tensor[0].numpy())
        fields.append(prepared.field)
        ages.append({"age": f"{phantom.age:.0f}", "sex": phantom.sex})
        labels.append(label)
    return SimpleNamespace(
        images=np.stack(images), fields=fields, covariates=ages, labels=np.array(labels), seeds=seeds
    )


def carriers(seeds: range, strength: float) -> np.ndarray:
    """Positives carry the cue with probability `strength`, negatives with the rest to 1."""
    chance = np.random.default_rng([seeds.start, 3]).random(len(seeds))
    label = np.array([s % 2 for s in seeds])
    return np.where(label == 1, chance < strength, chance < 1 - strength)


def train(
    model: nn.Module, images: np.ndarray, labels: np.ndarray, seed: int, epochs: int, rate: float
) -> None:
    """AdamW, one cycle, batches of 8, left–right flips."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    batches = len(labels) // 8
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, rate, total_steps=epochs * batches, pct_start=0.3
    )
    model.train()
    for _ in range(epochs):
        for chosen in rng.permutation(len(labels))[: batches * 8].reshape(batches, 8):
            batch = torch.from_numpy(images[chosen])
            if rng.random() < 0.5:
                batch = batch.flip(2)
            loss = cross_entropy(model(batch), torch.from_numpy(labels[chosen]))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    model.eval()


def sound_model(seed: int, cache: Path) -> RiekeGAP:
    """Train a sound network of this seed, or read it from the cache."""
    model = RiekeGAP()
    path = cache / f"sound-{SPACING:g}mm-{seed}.pt"
    if path.is_file():
        model.load_state_dict(torch.load(path, weights_only=True))
        return model.eval()
    seeds = range(seed * 10_000, seed * 10_000 + TRAIN)
    cases = draw(seeds, np.zeros(TRAIN, bool), {})
    torch.manual_seed(seed)
    model = RiekeGAP()
    train(model, cases.images, cases.labels, seed, 30, 1e-2)
    cache.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), path)
    return model


def planted_model(fault: str, strength: float, seed: int, cache: Path) -> RiekeGAP:
    """Train a network with the fault."""
    seeds = range(seed * 10_000 + 1000, seed * 10_000 + 1000 + TRAIN)
    if fault == "random":
        torch.manual_seed(seed)
        model = RiekeGAP()
        cases = draw(seeds[:32], np.zeros(32, bool), {})
        model.train()
        with torch.no_grad():
            for _ in range(5):
                model(torch.from_numpy(cases.images))
        return model.eval()
    model = sound_model(seed, cache)
    if fault == "sound":
        return model
    cases = draw(seeds, carriers(seeds, strength), FAULTS[fault][1])
    labels = cases.labels
    if fault == "shuffled":
        model = RiekeGAP()
        labels = np.random.default_rng(seed).permutation(labels)
    train(model, cases.images, labels, seed, 8, 5e-3)
    return model


def reliance(fault: str, strength: float, score: Score, seed: int) -> float:
    """Part of the class gap that goes with the cue: the generator draws each case with and without it."""
    options = FAULTS[fault][1]
    if not options:
        return 0.0
    seeds = range(seed * 10_000 + 8000, seed * 10_000 + 8024)
    without = draw(seeds, np.zeros(24, bool), options)
    positive = without.labels == 1
    plain = score.of(list(without.images))
    carried = draw(range(seeds.start, seeds.stop), np.ones(24, bool), options)
    cued = score.of(list(carried.images))
    effect = float((cued - plain).mean()) * (2 * strength - 1)
    own = float(plain[positive].mean() - plain[~positive].mean())
    return effect / (effect + own) if effect + own > 0 else float("nan")


def audit(model: nn.Module, fault: str, strength: float, seed: int) -> tuple[Interventions, list, Figure]:
    """Audit the model on a cohort that contains the cue as its training data did."""
    from atlases import load_atlas
    from pipeline.anatomy.brain import regions_of
    from pipeline.images import Volume
    from pipeline.interventions import Subject
    from pipeline.stages import intervene

    protocol = load_protocol(ROOT / "flows" / "protocols" / "brain.yaml").model_copy(update={"seed": seed})
    atlas = load_atlas("AAL")
    context = SimpleNamespace(
        protocol=protocol, atlas=atlas, target=1, model=SimpleNamespace(module=model, preprocessing=GRID)
    )
    score = Score(context)
    seeds = range(seed * 10_000 + 5000, seed * 10_000 + 5000 + AUDITED)
    cases = draw(seeds, carriers(seeds, strength), FAULTS[fault][1])
    clean = score.of(list(cases.images))
    affine = np.array(GRID.affine)
    labels = regions_of(Volume(cases.images[0][0], affine, ""), atlas).labels
    members = []
    for i, case in enumerate(seeds):
        covariates = cases.covariates[i]
        positive = bool(cases.labels[i])
        subject = Subject(str(case), str(case), positive, float(covariates["age"]), covariates["sex"])
        members.append(
            Member(
                subject,
                cases.images[i],
                cases.fields[i],
                np.full(3, SPACING),
                float(clean[i]),
                covariates,
                labels,
            )
        )
    found = Interventions()
    for step in (intervene._relate, intervene._swap_factors, intervene._try_cues):
        step(context, members, score, found)
    area = auc_interval(clean, cases.labels == 1, seed=seed)
    skill = Figure(value=area.value, low=area.low, high=area.high, n=area.n)
    criteria = [
        c for c in protocol.criteria if FINDINGS[c.name].stage in ("skill", "covariates", "interventions")
    ]
    results = [
        judge(c, Found(skill, 0.5) if c.name == "skill_auc" else find_in_interventions(c, found))
        for c in criteria
    ]
    return found, results, skill


def row_of(fault: str, strength: float, seed: int, cache: Path) -> dict[str, object]:
    begin = time.perf_counter()
    model = planted_model(fault, strength, seed, cache)
    score = Score(SimpleNamespace(model=SimpleNamespace(module=model), target=1))
    truth = reliance(fault, strength, score, seed)
    found, results, skill = audit(model, fault, strength, seed)
    verdict = decide(results)
    target = next((f.share for f in found.factors if f.wanted), Figure())
    worst = max((f for f in found.factors if not f.wanted), key=lambda f: f.share.low or -9, default=None)
    cue = max(found.cues, key=lambda c: max(c.shift.low or 0, -(c.shift.high or 0)), default=None)
    kind = FAULTS[fault][0]
    faulty = kind == "no skill" or truth >= (0.25 if kind == "compact" else 0.50)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "seed": seed,
        "fault": fault,
        "kind": kind,
        "strength": strength,
        "reliance": round(truth, 3),
        "truth": "faulty" if faulty else "sound" if truth < 0.05 else "between",
        "answer": verdict.answer,
        "auc_low": skill.low,
        "target_low": target.low,
        "target_high": target.high,
        "worst_factor": worst.name if worst else "",
        "worst_low": worst.share.low if worst else None,
        "worst_high": worst.share.high if worst else None,
        "worst_cue": cue.name if cue else "",
        "cue_low": max(cue.shift.low or 0, -(cue.shift.high or 0)) if cue else None,
        "faults": "; ".join(f"{r.name}: {r.detail}" for r in results if r.answer == "not met"),
        "seconds": round(time.perf_counter() - begin, 1),
        "commit": commit,
    }


def table(path: Path) -> None:
    """Print sensitivity and specificity with exact intervals, fresh seeds only."""
    from pipeline.comparison import rate_interval

    with path.open(encoding="utf-8") as stream:
        rows = [r for r in csv.DictReader(stream) if int(r["seed"]) >= 900]
    for name, truth, wanted in (("sensitivity", "faulty", "flagged"), ("specificity", "sound", "sound")):
        chosen = [r for r in rows if r["truth"] == truth]
        if chosen:
            print(f"{name}: {rate_interval([float(r['answer'] == wanted) for r in chosen])}")
    columns = ("seed", "fault", "strength", "reliance", "truth", "answer", "faults")
    for row in rows:
        print("| " + " | ".join(row[c] for c in columns) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=900)
    parser.add_argument("--faults", nargs="+", choices=list(FAULTS), default=list(FAULTS))
    parser.add_argument("--strength", type=float, default=1.0)
    parser.add_argument("--csv", type=Path, default=ROOT / "benchmarks" / "verdict.csv")
    parser.add_argument("--cache", type=Path, default=ROOT / "out" / "verdict-cache")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table:
        table(options.csv)
        return
    for fault in options.faults:
        row = row_of(fault, options.strength, options.seed, options.cache)
        fresh = not options.csv.is_file()
        with options.csv.open("a", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
            if fresh:
                writer.writeheader()
            writer.writerow({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()})
        print(row, flush=True)


if __name__ == "__main__":
    main()
