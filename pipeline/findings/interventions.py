"""What a criterion bounds, taken from the interventions."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.protocol import Criterion
from pipeline.record.interventions import Interventions
from pipeline.record.schema import Figure
from pipeline.verdict import Found


def find_in_interventions(criterion: Criterion, found: Interventions) -> Found | None:
    """Return the number that a criterion bounds; None where it was not measured.

    Where there are several (factors, cues, covariates), that is the one which breaks the bound most surely,
    or else the one which comes nearest to breaking it: the criterion is met only if it is met by all. Of the
    cues only stamped ones are judged; a change of the whole image (blur, noise, light) is judged by the share
    of its factor, and otherwise tells how robust the model is.
    """
    if criterion.name == "target_share":
        wanted = [row for row in found.factors if row.wanted]
        return Found(wanted[0].share, detail=wanted[0].title) if wanted else None
    if criterion.name == "other_share":
        return _worst(criterion, [(r.title, r.share) for r in found.factors if not r.wanted])
    if criterion.name == "cue_shift":
        return _worst(criterion, [(r.title, unsigned(r.shift)) for r in found.cues if r.stamped])
    if criterion.name == "covariate_link":
        rows = [r for r in found.covariates if r.covariate == "age in years"]
        return _worst(criterion, [("age", unsigned(r.figure)) for r in rows])
    return None


def unsigned(figure: Figure) -> Figure:
    """Turn a figure and its interval so that the value is not negative."""
    if figure.value is None or figure.value >= 0:
        return figure
    low = None if figure.high is None else -figure.high
    high = None if figure.low is None else -figure.low
    return figure.model_copy(update={"value": -figure.value, "low": low, "high": high})


def _worst(criterion: Criterion, figures: Sequence[tuple[str, Figure]]) -> Found | None:
    """Choose among several numbers that are all to stay below a bound; each that is surely above is named."""
    if not figures:
        return None
    bound = criterion.at_most if criterion.at_most is not None else float("inf")
    broken = sorted((f for f in figures if _low(f) > bound), key=_low, reverse=True)
    if broken:
        return Found(broken[0][1], detail=", ".join(dict.fromkeys(name for name, _ in broken)))
    name, figure = max(figures, key=_high)
    return Found(figure, detail=name)


def _low(item: tuple[str, Figure]) -> float:
    return item[1].low if item[1].low is not None else float("-inf")


def _high(item: tuple[str, Figure]) -> float:
    return item[1].high if item[1].high is not None else float("inf")
