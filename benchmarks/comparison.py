"""Do the intervals cover, do the tests keep their level, and is it fast enough? One command, seeded.

python benchmarks/comparison.py [--cohorts 500] [--only coverage rates …]

Prints the tables of docs/statistics.md.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from scipy import stats

from pipeline.comparison import (
    METRICS,
    auc_interval,
    mean_interval,
    measure_native,
    overlap_curves,
    paired_lifts,
    paired_test,
    permutation_test,
    rate_interval,
    summarise,
    to_native,
)
from pipeline.comparison.statistics import RESAMPLES, bca, resampling_weights

PARTS = ["speed", "coverage", "rates", "patients", "areas", "level"]
SIZES = (12, 24, 60, 200)
Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]

LIFTS: dict[str, tuple[Draw, float]] = {
    "normal": (lambda rng, size: rng.normal(0.5, 1, size), 0.5),
    "heavy-tailed (t, 3 df)": (lambda rng, size: rng.standard_t(3, size), 0.0),
    "skewed (gamma, skewness 1.4)": (lambda rng, size: rng.gamma(2, 1, size), 2.0),
    "skewed (exponential, skewness 2)": (lambda rng, size: rng.exponential(1, size), 1.0),
    "skewed down (−exponential)": (lambda rng, size: -rng.exponential(1, size), -1.0),
}
TYPICAL = {name: LIFTS[name] for name in list(LIFTS)[:4] if "gamma" not in name}
"""One normal, one heavy-tailed, one skewed distribution."""
RAW: dict[str, tuple[Draw, float]] = {
    "beta(1, 20), skewness 1.8": (lambda rng, size: rng.beta(1, 20, size), 1 / 21),
    "log-normal (σ = 1), skewness 6": (lambda rng, size: rng.lognormal(-4, 1, size), float(np.exp(-3.5))),
}


def two_eyes(draw: Draw) -> Draw:
    """Two cases a patient that share half of their variance."""

    def both(rng: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
        common = draw(rng, (*size, 1))
        return np.where(rng.random((*size, 2)) < 0.5, common, draw(rng, (*size, 2)))

    return both


def share(hits: Iterator[bool]) -> str:
    return f"{100 * np.mean(list(hits)):.1f}"


def table(title: str, rows: dict[str, list[str]], columns: tuple[object, ...]) -> None:
    print(f"\n{title}\n\n| | {' | '.join(f'n = {column}' for column in columns)} |", flush=True)
    print(f"|---|{'---|' * len(columns)}")
    for name, cells in rows.items():
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def peers(values: np.ndarray, truth: float) -> tuple[bool, bool]:
    """Whether plain t and plain BCa intervals cover."""
    n = values.size
    half = stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n)
    replicates = resampling_weights(n, RESAMPLES, 0) @ values / n
    low, high = bca(values.mean(), replicates, (values.sum() - values) / (n - 1))
    return abs(values.mean() - truth) <= half, low <= truth <= high


def coverage(cohorts: int) -> None:
    rng = np.random.default_rng(2024)
    for title, kinds in (("Mean log₂ lift", LIFTS), ("Raw relevance mass accuracy", RAW)):
        rows: dict[str, list[str]] = {}
        for name, (draw, truth) in kinds.items():
            for n in SIZES:
                cover, t_only, bca_only = [], [], []
                for values in draw(rng, (cohorts, n)):
                    estimate = mean_interval(values)
                    cover.append(estimate.low <= truth <= estimate.high)
                    t, b = peers(values, truth)
                    t_only.append(t)
                    bca_only.append(b)
                rows.setdefault(f"**{name}**", []).append(f"**{share(iter(cover))}**")
                rows.setdefault(f"{name}: t alone", []).append(share(iter(t_only)))
                rows.setdefault(f"{name}: BCa alone", []).append(share(iter(bca_only)))
        table(f"{title}: coverage of the 95 % interval, % of {cohorts} cohorts", rows, SIZES)


def coverage_by_patient(cohorts: int) -> None:
    rng, rows = np.random.default_rng(2025), {}
    for name, (draw, truth) in TYPICAL.items():
        for n in SIZES:
            owners = np.repeat(np.arange(n), 2)
            estimates = [mean_interval(v.ravel(), owners) for v in two_eyes(draw)(rng, (cohorts, n))]
            rows.setdefault(name, []).append(share(e.low <= truth <= e.high for e in estimates))
    table("Mean log₂ lift, two correlated cases a patient", rows, SIZES)


def coverage_of_rates(cohorts: int) -> None:
    rng, rows = np.random.default_rng(2026), {}
    for rate in (0.05, 0.3, 0.6, 0.95):
        for n in SIZES:
            of_count = [rate_interval([1] * k + [0] * (n - k)) for k in range(n + 1)]
            one = [of_count[k] for k in rng.binomial(n, rate, cohorts)]
            rows.setdefault(f"rate {rate}, one case a patient", []).append(
                share(e.low <= rate <= e.high for e in one)
            )
        for n in SIZES:
            owners = np.repeat(np.arange(n), 2)
            chance = rng.beta(2 * rate, 2 * (1 - rate), (cohorts, n, 1))
            two = [rate_interval(h.ravel(), owners) for h in rng.random((cohorts, n, 2)) < chance]
            rows.setdefault(f"rate {rate}, two correlated cases a patient", []).append(
                share(e.low <= rate <= e.high for e in two)
            )
    table("Rates", rows, SIZES)


def coverage_of_areas(cohorts: int) -> None:
    rng, rows = np.random.default_rng(2027), {}
    for area in (0.7, 0.9, 0.98):
        shift = np.sqrt(2) * stats.norm.ppf(area)
        for n in SIZES:
            truth_of = np.arange(n) % 2 == 0
            estimates = [auc_interval(s + shift * truth_of, truth_of) for s in rng.normal(size=(cohorts, n))]
            rows.setdefault(f"area {area}", []).append(share(e.low <= area <= e.high for e in estimates))
    table("Area under the ROC curve (half of the patients positive)", rows, SIZES)


def level(cohorts: int) -> None:
    rng, rows = np.random.default_rng(7), {}
    for name, (draw, _) in TYPICAL.items():
        for n in SIZES:
            null = [
                paired_test(a, b, permutations=999).p <= 0.05
                for a, b in zip(draw(rng, (cohorts, n)), draw(rng, (cohorts, n)), strict=True)
            ]
            rows.setdefault(f"paired, {name}", []).append(share(iter(null)))
        for n in SIZES:
            null = [
                permutation_test(a[: n // 2], a[n // 2 :], permutations=999).p <= 0.05
                for a in draw(rng, (cohorts, n))
            ]
            rows.setdefault(f"two groups, {name}", []).append(share(iter(null)))
    table(f"Tests at α = 0.05 where nothing is true: % of {cohorts} cohorts called significant", rows, SIZES)


def photograph() -> None:
    """Ten maps against four lesion types at 4288×2848."""
    rng, scale = np.random.default_rng(0), 4288 / 448
    transform = np.array([[scale, 0, 4.3 - 720], [0, scale, 4.3], [0, 0, 1]])
    field = np.hypot(*np.ogrid[-224:224, -224:224]) < 220
    masks = {name: np.zeros((2848, 4288), bool) for name in ("MA", "HE", "EX", "SE")}
    for mask in masks.values():
        for row, column in rng.integers(0, 2700, (100, 2)):
            mask[row : row + 24, column + 500 : column + 524] = True
    wall, cpu = time.perf_counter(), time.process_time()
    native_field = to_native(field, transform, (2848, 4288))
    for _ in range(10):
        relevance = rng.standard_normal((448, 448)).astype(np.float32)
        measure_native(relevance, masks, transform, native_field=native_field, tolerance=15)
        overlap_curves(to_native(relevance, transform, native_field.shape), masks, native_field)
    print(
        f"\nOne 4288×2848 photograph, 10 methods, 4 lesion types, all metrics and thresholds: "
        f"{time.perf_counter() - wall:.1f} s, {time.process_time() - cpu:.1f} CPU s"
    )


def cohort() -> None:
    """Aggregate 1,000 cases × 10 methods with 3 twins and 4 nulls, 4 lesion types, 7 metrics."""
    rng, cases = np.random.default_rng(0), 1000
    methods = [f"method-{i}" for i in range(10)]
    sources = [("model", m) for m in methods]
    sources += [(f"twin-{t}", m) for t in (1, 2, 3) for m in methods]
    sources += [("null", name) for name in ("centre", "random", "sobel", "contrast")]
    parts = []
    for source, method in sources:
        for lesion in ("MA", "HE", "EX", "SE"):
            for metric in METRICS:
                values = rng.normal(size=cases)
                values = (values > 0).astype(float) if metric == "pointing_game" else values
                values[rng.random(cases) < 0.05] = np.nan
                parts.append(
                    pd.DataFrame(
                        {
                            "case": [f"c{i}" for i in range(cases)],
                            "patient": [f"p{i // 2}" for i in range(cases)],
                            "method": method if source == "model" else f"{source}:{method}",
                            "target": 1,
                            "lesion": lesion,
                            "metric": metric,
                            "value": values,
                            "logit": 1.0 if source == "model" else np.nan,
                        }
                    )
                )
    frame = pd.concat(parts, ignore_index=True)
    wall, cpu = time.perf_counter(), time.process_time()
    totals, lifts = summarise(frame), paired_lifts(frame)
    print(
        f"{len(frame):,} measurements of {cases} cases to {len(totals):,} cohort numbers and {len(lifts)} "
        f"paired comparisons: {time.perf_counter() - wall:.1f} s, {time.process_time() - cpu:.1f} CPU s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cohorts", type=int, default=500)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=None)
    arguments = parser.parse_args()
    chosen = set(arguments.only or PARTS)
    if "speed" in chosen:
        photograph()
        cohort()
        print(f"Peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")
    if "coverage" in chosen:
        coverage(arguments.cohorts)
    if "patients" in chosen:
        coverage_by_patient(arguments.cohorts)
    if "rates" in chosen:
        coverage_of_rates(arguments.cohorts)
    if "areas" in chosen:
        coverage_of_areas(arguments.cohorts)
    if "level" in chosen:
        level(arguments.cohorts)


if __name__ == "__main__":
    main()
