"""Tables and figure of the planted-fault bench: `verdict_table.py [--since SEED] [--limit]`.

`--limit` also counts, from the pairs kept in the cache, how often the factor swap alone would have flagged a
model with fewer pairs, adds that to verdict_limit.csv, and draws docs/images/verdict-limit.png from it.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.stats import binomtest
from verdict_plan import FRESH
from verdict_planting import CACHE

from pipeline.interventions.swapping import SwappedPair, factor_swap
from pipeline.protocol import load_protocol
from pipeline.stages.intervene import REACHED, WANTED, share_bound

ROOT = Path(__file__).resolve().parents[1]
Row = dict[str, str]
PAIRS = (8, 12, 16, 24, 32)
LIMIT_COLUMNS = (
    *("world", "seed", "fault", "kind", "strength", "reliance", "pairs", "flagged"),
    *("limit_outside", "limit_style"),
)
RIGHT = {"faulty": "flagged", "sound": "sound"}
STYLES = {"brain": "low_frequency", "retina": "style"}


def read(path: Path) -> list[Row]:
    """Return all rows of a CSV; none where it is absent."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def exact(hits: int, count: int) -> str:
    """Give a rate with its exact (Clopper–Pearson) 95 % interval."""
    found = binomtest(hits, count).proportion_ci(method="exact")
    return f"{hits}/{count} = {hits / count:.2f} [{found.low:.2f}, {found.high:.2f}]"


def rate(rows: Sequence[Row], answer: str) -> str:
    """Share of rows with an answer."""
    return exact(sum(r["answer"] == answer for r in rows), len(rows)) if rows else "–"


def seeds_right(rows: Sequence[Row]) -> str:
    """Share of seeds of which every model that counts was answered rightly."""
    right: dict[str, bool] = defaultdict(lambda: True)
    for r in rows:
        if r["truth"] in RIGHT:
            right[r["seed"]] &= r["answer"] == RIGHT[r["truth"]]
    return exact(sum(right.values()), len(right)) if right else "–"


def summary(rows: Sequence[Row]) -> str:
    """Sensitivity and specificity of each world."""
    lines = [
        "| | sensitivity | specificity | wrongly flagged | seeds without a miss |",
        "|" + "---|" * 5,
    ]
    for world in ("brain", "retina"):
        mine = [r for r in rows if r["world"] == world]
        faulty, sound = ([r for r in mine if r["truth"] == t] for t in RIGHT)
        cells = rate(faulty, "flagged"), rate(sound, "sound"), rate(sound, "flagged"), seeds_right(mine)
        lines.append(f"| {world} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def by_fault(rows: Sequence[Row]) -> str:
    """One line a fault: answers, and which criterion caught it."""
    lines = ["| | fault | in truth | models | flagged | inconclusive | sound | caught by |", "|" + "---|" * 8]
    groups: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for r in rows:
        groups[r["world"], r["fault"], r["truth"]].append(r)
    for (world, fault, truth), mine in sorted(groups.items()):
        answers = Counter(r["answer"] for r in mine)
        caught: Counter[str] = Counter()
        for r in mine:
            caught.update({part.split(":")[0] for part in r["broken"].split("; ") if part})
        named = ", ".join(f"`{name}` {n}" for name, n in caught.most_common())
        counts = " | ".join(str(answers[a]) for a in ("flagged", "inconclusive", "sound"))
        lines.append(f"| {world} | {fault} | {truth} | {len(mine)} | {counts} | {named} |")
    return "\n".join(lines)


def misses(rows: Sequence[Row]) -> str:
    """List every faulty model that was not flagged and every sound one that was not found sound."""
    lines = ["| | seed | fault | strength | effect | reliance | in truth | answer | why |", "|" + "---|" * 9]
    for r in rows:
        if RIGHT.get(r["truth"], r["answer"]) == r["answer"]:
            continue
        cells = [
            r[k] for k in ("world", "seed", "fault", "strength", "effect", "reliance", "truth", "answer")
        ]
        lines.append("| " + " | ".join([*cells, r["broken"] or r["undecided"]]) + " |")
    return "\n".join(lines)


def count_pairs(rows: Sequence[Row], path: Path) -> None:
    """Ask the factor swap of every model with skill again with fewer pairs."""
    done = {(r["world"], r["seed"], r["fault"], r["strength"]) for r in read(path)}
    fresh = not path.is_file()
    with path.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, LIMIT_COLUMNS, lineterminator="\n")
        if fresh:
            writer.writeheader()
        for r in rows:
            strength = f"{float(r['strength']):g}"
            stored = CACHE / "found" / f"{r['world']}-{r['seed']}-{r['fault']}-{strength}.json"
            known = (r["world"], r["seed"], r["fault"], r["strength"]) in done
            if known or r["kind"] == "no skill" or not stored.is_file():
                continue
            kept = json.loads(stored.read_text())
            pairs = [SwappedPair(a, b, np.array(v)) for a, b, v in kept["pairs"]]
            protocol = load_protocol(ROOT / "flows" / "protocols" / f"{r['world']}.yaml")
            apart = (WANTED[protocol.modality], REACHED)
            for count in PAIRS:
                swap = factor_swap(kept["names"], pairs[:count])
                shares = [(n, s.low) for n, s in zip(swap.names, swap.shares, strict=True) if n not in apart]
                flagged = any(low > share_bound(protocol, name) for name, low in shares)
                row: dict[str, object] = {k: r[k] for k in LIMIT_COLUMNS[:6]}
                row |= {"pairs": count, "flagged": int(flagged)}
                for column, name in (("outside", "outside"), ("style", STYLES[r["world"]])):
                    limit = swap.detection_limit(name, share_bound(protocol, name))
                    row[f"limit_{column}"] = f"{limit:.3f}"
                writer.writerow(row)


def draw_limit(path: Path, picture: Path) -> None:
    """Draw the detection limit over the number of pairs, and which planted models the swap alone flags."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    rows = read(path)
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 4), sharey=True, layout="constrained")
    for panel, world in zip(axes, STYLES, strict=True):
        mine = [r for r in rows if r["world"] == world]
        for column, colour, name in (
            ("limit_outside", "#b2182b", "outside the anatomy"),
            ("limit_style", "#2166ac", "light and colour"),
        ):
            by_model: dict[tuple[str, str, str], list[float]] = defaultdict(list)
            for r in mine:
                by_model[r["seed"], r["fault"], r["strength"]].append(float(r[column]))
            whole = [v for v in by_model.values() if np.isfinite(v).all()]  # the same models at every point
            if whole:
                panel.plot(PAIRS, np.median(whole, axis=0), "-", color=colour, label=f"limit: {name}")
        planted = [r for r in mine if r["kind"] and float(r["reliance"]) >= 0]
        for flagged, face, name in ((1, "#444444", "planted, flagged"), (0, "none", "planted, not flagged")):
            chosen = [r for r in planted if int(r["flagged"]) == flagged]
            x = [int(r["pairs"]) for r in chosen]
            y = [float(r["reliance"]) for r in chosen]
            panel.scatter(x, y, s=26, facecolors=face, edgecolors="#444444", label=name, zorder=3)
        models = len({(r["seed"], r["fault"], r["strength"]) for r in mine})
        panel.set(title=f"{world} ({models} models)", xlabel="pairs", xticks=PAIRS, ylim=(-0.03, 1.2))
        panel.grid(alpha=0.3)
    axes[0].set_ylabel("share of the gap on the cue")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=9, ncols=4, loc="outside lower center")
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", type=Path, default=ROOT / "benchmarks" / "verdict.csv")
    parser.add_argument("--since", type=int, default=FRESH, help="first seed that counts")
    parser.add_argument("--limit", action="store_true")
    options = parser.parse_args()
    rows = [r for r in read(options.csv) if int(r["seed"]) >= options.since]
    for part in (summary, by_fault, misses):
        print(part(rows), end="\n\n")
    if options.limit:
        path = ROOT / "benchmarks" / "verdict_limit.csv"
        count_pairs(rows, path)
        draw_limit(path, ROOT / "docs" / "images" / "verdict-limit.png")


if __name__ == "__main__":
    main()
