"""What numbers mean, each in one plain sentence."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.record.experts import GroupRow, LesionFinding
from pipeline.record.schema import Agreement, Figure, RegionRow
from reports.glossary import method, metric, metric_key, null
from reports.words import figure, number, plain, plural

SURE = 0.05
MAIN = ("log2_mass_lift", "expected_log2_density_lift")
CONTRAST, AVERAGE = "null:contrast", "average"
TWINS = ("twins", "shuffled")


def judged(row: Agreement) -> dict[str, Figure]:
    """Paired differences that have an interval, without the average mask of other patients.

    That mask knows the experts: where lesions lie always at one place nothing can beat it, so it is told
    apart.
    """
    return {
        name: d
        for name, d in row.differences.items()
        if name != AVERAGE and d.low is not None and d.high is not None
    }


def beaten(row: Agreement) -> list[str]:
    """Tell which nulls and twins a method is surely above: interval above 0 and corrected p below 0.05."""
    return [n for n, d in judged(row).items() if (d.low or 0.0) > 0 and row.p_values.get(n, 1.0) < SURE]


def standing(row: Agreement) -> str:
    """Sum up a method in a few words: `above all`, or what it is not above, the hardest first."""
    found = judged(row)
    if not found:
        return f"too few patients ({row.figure.n})"
    above = beaten(row)
    missing = sorted((n for n in found if n not in above), key=lambda n: found[n].low or 0.0)
    if not missing:
        return "above all" if any(n in found for n in TWINS) else "above all (no twins run)"
    twins = [n for n in missing if n in TWINS]
    shown = [*twins, *(n for n in missing if n not in TWINS)]
    named = [_lower(null(n).title) for n in shown[:2]] + ["others"] * (len(shown) > 2)
    return f"not above {_listed(named)}"


def agreement_sentence(rows: Sequence[Agreement]) -> str:
    """Draw the conclusion for one lesion type over all methods.

    Parameters
    ----------
    rows : sequence of Agreement
        Of one lesion type and the main measure, one a method.
    """
    place = "the expected regions" if rows[0].lesion == "expected_regions" else plain(rows[0].lesion)
    known = [row for row in rows if judged(row)]
    if not known:
        most = max(row.figure.n for row in rows)
        return f"Too few patients with {place} (n = {most}) to say whether any map means anything there."
    best = [row for row in known if len(beaten(row)) == len(judged(row))]
    best.sort(key=lambda row: min(d.low or 0.0 for d in judged(row).values()), reverse=True)
    if best:
        first = best[0]
        hardest = min(judged(first), key=lambda n: judged(first)[n].low or 0.0)
        every = _every([any(n in TWINS for n in judged(row)) for row in best])
        text = (
            f"{_listed([method(r.method).title for r in best])} {'put' if len(best) > 1 else 'puts'} more "
            f"relevance on {place} than {every}: {method(first.method).title} "
            f"{times(judged(first)[hardest])} as {_lower(null(hardest).title)}, the hardest of them."
        )
    else:
        learnt = [row for row in known if _above_twins(row)]
        text = (
            f"No map is above every null and twin on {place}. "
            + (
                f"{_listed([method(r.method).title for r in learnt])} {_do(learnt)} better than twins that "
                f"have learnt nothing, but not surely better than {_common(learnt)}."
                if learnt
                else "None is surely better than all twins of the model, which have learnt nothing."
                if any(n in TWINS for row in known for n in judged(row))
                else ""
            )
        ).strip()
    return f"{text}{_of_average(best or known)}"


def detector_sentence(rows: Sequence[Agreement]) -> str:
    """Say where a null map finds the single marked points better than every method; else nothing.

    Parameters
    ----------
    rows : sequence of Agreement
        Of one lesion type, all measures.
    """
    found = [row for row in rows if metric_key(row.metric) == "auprc" and row.figure.value is not None]
    nulls = {
        name: value.value
        for row in found
        for name, value in row.nulls.items()
        if name not in (*TWINS, AVERAGE) and value.value is not None
    }
    if not found or not nulls:
        return ""
    best = max(found, key=lambda row: row.figure.value or 0.0)
    hardest = max(nulls, key=lambda name: nulls[name])
    if nulls[hardest] <= (best.figure.value or 0.0):
        return ""
    verb = "reach" if hardest == "sobel" else "reaches"
    return (
        f"As a detector of single marked points (AUPRC) {_lower(null(hardest).title)}, without any model, "
        f"{verb} {number(nulls[hardest])}; no method more than {number(best.figure.value)} "
        f"({method(best.method).title})."
    )


def ceiling_sentence(rows: Sequence[Agreement], dice: Figure | None) -> str:
    """Tell what several experts reach against each other: no map can be asked for more."""
    ceiling = next((row.ceiling for row in rows if row.ceiling is not None), None)
    if ceiling is None or ceiling.value is None:
        return ""
    overlap = f", and their marks overlap with a Dice of {figure(dice)}" if dice is not None else ""
    return (
        f"Experts against each other reach {figure(ceiling)} of the same measure{overlap}: no map can be "
        "asked for more."
    )


def _every(with_twins: Sequence[bool]) -> str:
    if all(with_twins):
        return "every null map and every twin of the model"
    return (
        "every null map and every twin that was run"
        if any(with_twins)
        else "every null map (no twins were run)"
    )


def _of_average(rows: Sequence[Agreement]) -> str:
    """Say whether a map does more than know where such lesions usually lie."""
    found = [(row, row.differences[AVERAGE]) for row in rows if AVERAGE in row.differences]
    found = [(row, d) for row, d in found if d.low is not None]
    if not found:
        return ""
    above = [row for row, d in found if (d.low or 0.0) > 0 and row.p_values.get(AVERAGE, 1.0) < SURE]
    if above:
        names = _listed([method(r.method).title for r in above])
        return f" {names} also {_do(above)} better than the average mask of other patients."
    return " Knowing only where such marks lie in other patients does as well."


def _above_twins(row: Agreement) -> bool:
    twins = [n for n in judged(row) if n in TWINS]
    return bool(twins) and all(n in beaten(row) for n in twins)


def _common(rows: Sequence[Agreement]) -> str:
    """Name what the methods are not above."""
    missing = dict.fromkeys(n for row in rows for n in judged(row) if n not in beaten(row))
    return _names(list(missing))


def _do(rows: Sequence[Agreement]) -> str:
    return "do" if len(rows) > 1 else "does"


def _listed(titles: Sequence[str]) -> str:
    return titles[0] if len(titles) == 1 else f"{', '.join(titles[:-1])} and {titles[-1]}"


def _lower(title: str) -> str:
    return title[0].lower() + title[1:]


def _names(names: Sequence[str]) -> str:
    return _listed([_lower(null(n).title) for n in names])


def times(difference: Figure) -> str:
    """Turn a paired log₂ difference into a factor: `2.10 times [1.50, 2.90] as much`."""
    if difference.value is None:
        return "–"
    text = f"{number(2**difference.value)} times"
    if difference.low is not None and difference.high is not None:
        text += f" [{number(2**difference.low)}, {number(2**difference.high)}]"
    return f"{text} as much"


def lesion_sentence(lesion: str, rows: Sequence[LesionFinding]) -> str:
    """Best method beside plain contrast for one lesion type."""
    own = [r for r in rows if not r.method.startswith("null:") and r.cpm.value is not None]
    if not own:
        return f"{plain(lesion).capitalize()}: no marked lesion to be found."
    best = max(own, key=lambda r: r.cpm.value or 0.0)
    text = (
        f"{plain(lesion).capitalize()}: {method(best.method).title} finds {_percent(best.sensitivity)} of "
        f"{best.lesions} at {number(best.false_per_image.value)} false alarms an image"
    )
    contrast = next((r for r in rows if r.method == CONTRAST and r.cpm.value is not None), None)
    if contrast is None:
        return f"{text}."
    surely = best.cpm.low is not None and contrast.cpm.high is not None and best.cpm.low > contrast.cpm.high
    worse = best.cpm.high is not None and contrast.cpm.low is not None and best.cpm.high < contrast.cpm.low
    word = "more than" if surely else "fewer than" if worse else "which is not surely more than"
    return (
        f"{text}, {word} local contrast without any model ({_percent(contrast.sensitivity)} at "
        f"{number(contrast.false_per_image.value)}; compared by mean sensitivity)."
    )


def _percent(figure: Figure) -> str:
    return "–" if figure.value is None else f"{100 * figure.value:.0f} %"


def region_sentence(rows: Sequence[RegionRow]) -> str:
    """Tell which region a method puts first, and how many expected ones lie surely above the mean."""
    name = method(rows[0].method).title
    known = [row for row in rows if row.density.value is not None]
    if not known:
        return f"{name}: no region could be measured."
    first = min(known, key=lambda row: row.rank.value if row.rank.value is not None else float("inf"))
    expected = [row for row in known if row.role == "expected"]
    above = [row for row in expected if row.density.low is not None and row.density.low > 1]
    control = [row for row in known if row.role == "control" and (row.density.low or 0.0) > 1]
    text = f"{name} has its highest density in {plain(first.region)} ({_kind(first)})"
    if expected:
        text += f"; {len(above)} of {plural(len(expected), 'expected region')} surely above the brain’s mean"
    if control:
        text += f", and so {'is' if len(control) == 1 else 'are'} {plural(len(control), 'negative control')}"
    return f"{text}."


def _kind(row: RegionRow) -> str:
    kinds = {"expected": "expected for the disease", "control": "a negative control"}
    return kinds.get(row.role, "not expected")


def group_sentence(rows: Sequence[GroupRow], smallest: int) -> str:
    """Which subgroups differ from the rest."""
    told = [r for r in rows if r.figure.value is not None]
    small = {(r.grouping, r.level) for r in rows if r.figure.value is None}
    small -= {(r.grouping, r.level) for r in told}
    left = f" Left out for fewer than {smallest} patients: {plural(len(small), 'subgroup')}." if small else ""
    if not told:
        return f"No subgroup is large enough to be judged.{left}"
    surely = [r for r in told if r.p is not None and r.p < SURE]
    if not surely:
        return f"No subgroup is shown to differ from the rest; that is no proof that none does.{left}"
    named = dict.fromkeys(
        f"{r.grouping} {r.level} ({metric(r.metric).title[0].lower()}{metric(r.metric).title[1:]})"
        for r in surely
    )
    return f"Differs from the rest: {'; '.join(named)}.{left}"
