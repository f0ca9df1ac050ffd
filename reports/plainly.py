"""What numbers mean, each in one plain sentence."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.record.experts import GroupRow, LesionFinding
from pipeline.record.schema import Agreement, Figure
from reports.glossary import method, metric, metric_key, null
from reports.words import number, plain, plural

SURE = 0.05
MAIN = ("log2_mass_lift", "expected_log2_density_lift")
CONTRAST = "null:contrast"


def agreement_sentences(rows: Sequence[Agreement]) -> list[str]:
    """For each method: what it beats, case by case, and what it does not.

    Parameters
    ----------
    rows : sequence of Agreement
        Of one lesion type.

    Returns
    -------
    list of str
    """
    return [_sentence(row) for row in rows if metric_key(row.metric) in MAIN and row.differences]


def _sentence(row: Agreement) -> str:
    name = method(row.method).title
    place = "the regions expected for the disease" if row.lesion == "expected_regions" else plain(row.lesion)
    judged = {n: d for n, d in row.differences.items() if d.low is not None and d.high is not None}
    if not judged:
        few = f"too few patients (n = {row.figure.n})"
        return f"{name}: {few} to say whether it does better than a null map or a twin."
    beaten = [n for n, d in judged.items() if (d.low or 0) > 0 and row.p_values.get(n, 1) < SURE]
    below = [n for n, d in judged.items() if (d.high or 0) < 0 and row.p_values.get(n, 1) < SURE]
    open_ = [n for n in judged if n not in beaten and n not in below]
    parts = []
    if beaten and len(beaten) == len(judged):
        parts.append(f"puts more relevance on {place} than {_every(beaten)}")
    elif beaten:
        parts.append(f"puts more relevance on {place} than {_names(beaten)}")
    if open_:
        parts.append(f"is not shown to do better than {_names(open_)}")
    if below:
        parts.append(f"puts less there than {_names(below)}")
    hardest = min(judged, key=lambda n: judged[n].low or 0.0)
    return f"{name} {_joined(parts)} (hardest: {null(hardest).title.lower()}, {times(judged[hardest])})."


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])}, and {parts[-1]}"


def _every(names: Sequence[str]) -> str:
    twins = any(n in ("twins", "shuffled") for n in names)
    return "every null map and every twin of the model" if twins else "every null map"


def _names(names: Sequence[str]) -> str:
    titles = [null(n).title[0].lower() + null(n).title[1:] for n in names]
    return titles[0] if len(titles) == 1 else f"{', '.join(titles[:-1])} and {titles[-1]}"


def times(difference: Figure) -> str:
    """Turn a paired log₂ difference into a factor: `2.1 times as much [1.5, 2.9]`."""
    if difference.value is None:
        return "–"
    text = f"{number(2**difference.value)} times as much"
    if difference.low is None or difference.high is None:
        return text
    return f"{text} [{number(2**difference.low)}, {number(2**difference.high)}]"


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
