"""Whether maps of cases with a planted marker fall into a group of their own, and sound cohorts do not alarm.

python benchmarks/clusters.py --world brain --kind sound --models 7 8 1202 1203 --cohorts 16 17 18 19 20
python benchmarks/clusters.py --world retina --kind sound --models 9 10 1204 1205 --cohorts 21 22 23 24 25
python benchmarks/clusters.py --world retina --kind tagged --models 21 22 23 24 25
python benchmarks/clusters.py --table

A tagged model is trained where half of the positives carry a marker and no negative does, as a photographer's
name stood on a part of the horses of Lapuschkin et al. 2019; some training labels are wrong (15 %), so that
the marker pays. Its cohort is drawn the same way. Sound models and cohorts have no marker; four models are
each asked with the same five cohorts. Models, cases and their cache are those of `benchmarks/verdict.py`.
Maps of three methods are made, downsized, clustered and judged by the pipeline's own code, with age, sex and
site (brains) or site (retinas, apart from the side of the eye) as covariates. One row a cohort and question
is added to clusters.csv; nothing is run twice.

Tagged models 4 to 10 and 40, sound cohorts 0 to 9 and sound retinas of cohorts 16 to 20 were looked at while
test and level were settled and are in no row (docs/trust.md tells what they gave). Rows are sorted by hand.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from verdict_brain import GRID, Brains
from verdict_planting import (
    CACHE,
    Drawn,
    World,
    base_network,
    labels_of,
    planted_model,
    train,
    training_seeds,
)
from verdict_retina import Retinas

from pipeline.attribution import METHODS, attribute
from pipeline.cohort import Case, Cohort
from pipeline.comparison import field_shares, rate_interval
from pipeline.record.clusters import Clustering
from pipeline.record.schema import CaseResult, CaseRow, Measurement
from pipeline.record.small_maps import packed, small_map
from pipeline.record.trust import Trust
from pipeline.stages.clusters import cluster_maps
from pipeline.stages.measuring import RIM_MM, RIM_PIXELS

WORLDS: dict[str, type[World]] = {"brain": Brains, "retina": Retinas}
ASKED = ("gradient", "grad_cam", "lrp")
TAGGED = 0.5
WRONG = 0.15
BRIGHTER = {"brain": 2.0, "retina": 1.0}
SIZE = 48
PATH = Path(__file__).with_name("clusters.csv")
COLUMNS = (
    *(
        "world",
        "kind",
        "model",
        "effect",
        "cohort",
        "method",
        "called",
        "n",
        "tagged",
        "within",
        "null",
        "valley",
    ),
    *("p_adjusted", "separate", "groups", "rand", "rand_of_two", "alarm", "traits", "seconds"),
)


def drawn_case(world: World, number: int, *, tagged: bool) -> Drawn:
    """Draw a case with or without the marker, in brains twice as bright as that of verdict.py."""
    plain = world.case(number, "", present=False)
    if not tagged:
        return plain
    marker = world.case(number, "marker", present=True).image - plain.image
    return replace(plain, image=plain.image + BRIGHTER[world.name] * marker)


def tags(labels: npt.NDArray[np.int64], draw: int) -> npt.NDArray[np.bool_]:
    """Half of the positives carry the marker."""
    return (labels == 1) & (np.random.default_rng([draw, 13]).random(len(labels)) < TAGGED)


def tagged_model(world: World, seed: int) -> nn.Module:
    """Train a network for which the marker and the disease both speak."""
    seeds = training_seeds(world, "marker", seed)
    labels = labels_of(seeds)
    wrong = np.random.default_rng([seed, 5]).random(len(labels)) < WRONG
    labels = np.where(wrong, 1 - labels, labels)
    carries = tags(labels, seed)
    images = np.stack([drawn_case(world, s, tagged=c).image for s, c in zip(seeds, carries, strict=True)])
    torch.manual_seed(seed * 100 + 99)
    network = world.network()
    stem, tail = network.get_submodule("stem"), network.get_submodule("tail")
    stem.load_state_dict(base_network(world).get_submodule("stem").state_dict())
    kept = CACHE / world.name / "tails" / f"{seed}-tagged.pt"
    if kept.is_file():
        tail.load_state_dict(torch.load(kept, weights_only=True))
        return network.eval()
    stem.eval()
    with torch.no_grad():
        parts = [stem(torch.from_numpy(images[i : i + 8])).numpy() for i in range(0, len(images), 8)]
    train(tail, np.concatenate(parts), labels, seed, world.epochs, world.rate)
    kept.parent.mkdir(parents=True, exist_ok=True)
    torch.save(tail.state_dict(), kept)
    return network.eval()


def results_of(
    world: World, model: nn.Module, seeds: Sequence[int], carries: npt.NDArray[np.bool_], name: str
) -> tuple[list[Case], list[CaseResult]]:
    """Make of every case what an audit keeps of it: answer, small maps, relevance outside and in the rim."""
    kept = CACHE / "small" / f"{name}.json"
    if kept.is_file():
        stored = json.loads(kept.read_text())
        return (
            [Case(c["case"], c["case"], Path(), covariates=c["covariates"]) for c in stored["cases"]],
            [CaseResult.model_validate(r) for r in stored["results"]],
        )
    cases, results = [], []
    brains = world.name == "brain"
    affine = np.array(GRID.affine) if brains else None
    space: dict[str, Any] = (
        {"rim": RIM_MM, "spacing": np.full(3, 4.0)} if brains else {"rim": RIM_PIXELS, "spacing": 1.0}
    )
    for number, carried in zip(seeds, carries, strict=True):
        drawn = drawn_case(world, number, tagged=bool(carried))
        known = {key: str(value) for key, value in drawn.extra.items() if key != "lesions"}
        cases.append(Case(str(number), str(number), Path(), covariates=known))
        image = torch.from_numpy(drawn.image[None])
        row = CaseRow(case=str(number), label=number % 2)
        result = CaseResult(key="", row=row, patient=str(number))
        for asked in ASKED:
            made = attribute(model, image, 1, method=asked)
            row.predicted = int(made.scores[0].argmax())
            signed = METHODS[asked].signed
            values = (made.values[0].sum(0) if signed else made.values[0].abs().sum(0)).numpy()
            speaks = np.maximum(-values if signed and row.predicted != 1 else values, 0)
            small = small_map(speaks, drawn.field, affine, left=known.get("eye") == "left")
            result.small_maps[asked] = packed(small)
            shares = field_shares(values, drawn.field, **space)
            for metric, value in (
                ("share_outside", shares.outside),
                ("log2_rim_density", shares.log2_rim_density),
            ):
                result.measurements.append(
                    Measurement(
                        case=str(number),
                        patient=str(number),
                        method=asked,
                        target=1,
                        metric=metric,
                        value=float(value) if np.isfinite(value) else None,
                    )
                )
        results.append(result)
    kept.parent.mkdir(parents=True, exist_ok=True)
    told = [{"case": c.case, "covariates": c.covariates} for c in cases]
    kept.write_text(json.dumps({"cases": told, "results": [r.model_dump() for r in results]}))
    return cases, results


def effect_of(world: World, model: nn.Module, seeds: Sequence[int]) -> float:
    """Return by how much the marker moves the score of positives, over the gap between unmarked classes."""

    def score(number: int, *, tagged: bool) -> float:
        image = torch.from_numpy(drawn_case(world, number, tagged=tagged).image[None])
        with torch.inference_mode():
            logits = model(image)[0]
        return float(logits[1] - logits[0])

    plain = np.array([score(s, tagged=False) for s in seeds])
    positive = labels_of(seeds) == 1
    marked = np.array([score(s, tagged=True) for s in np.array(seeds)[positive]])
    return float((marked - plain[positive]).mean() / (plain[positive].mean() - plain[~positive].mean()))


def clusterings_of(world: World, cases: list[Case], results: list[CaseResult], seed: int) -> list[Clustering]:
    """Cluster as an audit does."""
    protocol = SimpleNamespace(
        seed=seed,
        modality="mri" if world.name == "brain" else "fundus",
        methods=[SimpleNamespace(name=name) for name in ASKED],
        smallest_group=6,
    )
    audit: Any = SimpleNamespace(protocol=protocol, target=1, classes=("no", "yes"))
    found = Trust()
    cluster_maps(audit, Cohort(tuple(cases), "", patients_given=True), results, found)
    return found.clusters


def rows_of(world: World, kind: str, model_seed: int, cohort: int) -> list[dict[str, object]]:
    """Draw a cohort, cluster it, and compare the clusters with who carries the marker."""
    from sklearn.metrics import adjusted_rand_score

    begin = time.process_time()
    model = (
        tagged_model(world, model_seed)
        if kind == "tagged"
        else planted_model(world, "sound", 1.0, model_seed)
    )
    first = (model_seed if kind == "tagged" else 5 + cohort) * 10_000 + 5000  # as cached by verdict.py
    seeds = range(first, first + SIZE)
    carries = tags(labels_of(seeds), model_seed + 1000) if kind == "tagged" else np.zeros(SIZE, bool)
    cases, results = results_of(world, model, seeds, carries, f"{world.name}-{kind}-{model_seed}-{cohort}")
    effect = effect_of(world, model, seeds[:24]) if kind == "tagged" else 0.0
    carried = {case.case: bool(c) for case, c in zip(cases, carries, strict=True)}
    rows = []
    for found in clusterings_of(world, cases, results, model_seed):
        group = {case: i for i, cluster in enumerate(found.clusters) for case in cluster.cases}
        called = [r.row.case for r in results if (r.row.predicted == 1) == found.called]
        truth = [carried[case] for case in group]
        tag_share = [np.mean([carried[c] for c in cluster.cases]) for cluster in found.clusters]
        fullest = int(np.argmax(tag_share)) if tag_share else 0
        rows.append(
            {
                "world": world.name,
                "kind": kind,
                "model": model_seed,
                "effect": effect,
                "cohort": cohort,
                "method": found.method,
                "called": "yes" if found.called else "no",
                "n": found.n,
                "tagged": sum(carried[case] for case in called),
                "within": found.within,
                "null": found.null,
                "valley": found.valley,
                "p_adjusted": found.p_adjusted,
                "separate": found.separate,
                "groups": len(found.clusters),
                "rand": float(adjusted_rand_score(truth, list(group.values()))) if group else "",
                "rand_of_two": float(adjusted_rand_score(truth, [g == fullest for g in group.values()]))
                if group
                else "",
                "alarm": found.alarm,
                "traits": "; ".join(
                    f"{i + 1}: {t.name} {t.level}".strip()
                    for i, c in enumerate(found.clusters)
                    for t in c.traits
                ),
                "seconds": time.process_time() - begin,
            }
        )
    return rows


def stored() -> list[dict[str, str]]:
    if not PATH.is_file():
        return []
    with PATH.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def add(rows: Sequence[dict[str, object]]) -> None:
    fresh = not PATH.is_file()
    with PATH.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        if fresh:
            writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.3f}" if isinstance(v, float) else v for k, v in row.items()})


def table() -> None:
    """Print the tables of docs/trust.md."""
    rows = stored()
    print("| world | sound cohorts | with groups | alarms [95 %] |\n|---|---|---|---|")
    for world in WORLDS:
        cohorts: dict[tuple[str, str], list[dict[str, str]]] = {}
        for row in rows:
            if (row["world"], row["kind"]) == (world, "sound"):
                cohorts.setdefault((row["model"], row["cohort"]), []).append(row)
        alarms = [float(any(r["alarm"] == "True" for r in of)) for of in cohorts.values()]
        groups = sum(any(r["separate"] == "True" for r in of) for of in cohorts.values())
        if alarms:
            rate = rate_interval(alarms)
            said = f"{sum(alarms):.0f} [{100 * rate.low:.0f}, {100 * rate.high:.0f} %]"
            print(f"| {world} | {len(alarms)} | {groups} | {said} |")
    print(
        "\n| world | method | model | effect | called | of them tagged | p | groups | Rand | of two | alarm |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        if row["kind"] == "tagged" and row["called"] == "yes":
            keys = (
                "world",
                "method",
                "model",
                "effect",
                "n",
                "tagged",
                "p_adjusted",
                "groups",
                "rand",
                "rand_of_two",
                "alarm",
            )
            print("| " + " | ".join(row[k] for k in keys) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", choices=list(WORLDS))
    parser.add_argument("--kind", choices=("sound", "tagged"))
    parser.add_argument("--models", nargs="+", type=int, default=[])
    parser.add_argument("--cohorts", nargs="+", type=int, default=[0])
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.table:
        table()
        return
    world = WORLDS[options.world]()
    done = {(r["world"], r["kind"], r["model"], r["cohort"]) for r in stored()}
    for cohort in options.cohorts:
        for model in options.models:
            if (world.name, options.kind, str(model), str(cohort)) not in done:
                rows = rows_of(world, options.kind, model, cohort)
                add(rows)
                for row in rows:
                    print({k: f"{v:.3g}" if isinstance(v, float) else v for k, v in row.items()}, flush=True)


if __name__ == "__main__":
    main()
