"""What a criterion bounds, taken from the interventions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pipeline.protocol import Criterion
from pipeline.record.interventions import Interventions
from pipeline.record.schema import Figure
from pipeline.stages.intervene import LEFT_OUT, REACHED
from pipeline.verdict import NOT_SWAPPED, Found

MORE_THAN = 3
"""Cases that a class needs more than, to have a correlation with an interval."""
LARGEST = 0.999
OUTSIDE = "outside"
SHARES = ("target_share", "outside_share", "other_share")


def find_in_interventions(criterion: Criterion, found: Interventions) -> Found | None:
    """Return the number that a criterion bounds; None where it was not measured.

    Where there are several (factors, cues, covariates), that is the one which breaks the bound most surely,
    or else the one which comes nearest to breaking it: the criterion is met only if it is met by all. Of the
    cues only stamped ones are judged; a change of the whole image (blur, noise, light) is judged by the share
    of its factor, and otherwise tells how robust the model is.
    """
    if criterion.name in SHARES and not found.factors:
        left = [n.removeprefix(LEFT_OUT) for n in found.notes if n.startswith(LEFT_OUT)]
        return Found(Figure(), detail=NOT_SWAPPED + "; ".join(left)) if left else None
    if criterion.name == "target_share":
        wanted = [row for row in found.factors if row.wanted]
        return Found(wanted[0].share, detail=wanted[0].title) if wanted else None
    if criterion.name == "outside_share":
        rows_ = [r for r in found.factors if r.name == OUTSIDE]
        return Found(rows_[0].share, detail=rows_[0].title) if rows_ else None
    if criterion.name == "other_share":
        others = [r for r in found.factors if not r.wanted and r.name not in (OUTSIDE, REACHED)]
        return _worst(criterion, [(r.title, r.share) for r in others])
    if criterion.name == "cue_shift":
        return _worst(criterion, [(r.title, unsigned(r.shift)) for r in found.cues if r.stamped])
    if criterion.name == "removal_effect":
        return Found(found.removals[0].difference, 0.0, found.removals[0].name) if found.removals else None
    if criterion.name == "covariate_link":
        rows = [r.figure for r in found.covariates if r.covariate == "age in years"]
        return Found(unsigned(combined(rows)), detail="age") if rows else None
    return None


def unsigned(figure: Figure) -> Figure:
    """Turn a figure and its interval into those of its size.

    An interval about 0 reaches from 0 to its farther end, be that the negative one.
    """
    if figure.value is None:
        return figure
    if figure.low is None or figure.high is None:
        return figure.model_copy(update={"value": abs(figure.value)})
    ends = sorted((abs(figure.low), abs(figure.high)))
    low = 0.0 if figure.low <= 0 <= figure.high else ends[0]
    return figure.model_copy(update={"value": abs(figure.value), "low": low, "high": ends[1]})


def combined(correlations: Sequence[Figure]) -> Figure:
    """Combine rank correlations of several groups by Fisher's z, each weighted by its n − 3.

    References
    ----------
    Bonett & Wright 2000, doi:10.1007/BF02294183 (variance of z for ranks: (1 + ρ²/2) / (n − 3))
    """
    usable = [r for r in correlations if r.value is not None and r.n is not None and r.n > MORE_THAN]
    if len(usable) < len(correlations) or not usable:
        return Figure(n=sum(r.n or 0 for r in correlations))
    weights = [float(r.n or 0) - MORE_THAN for r in usable]
    values = [max(-LARGEST, min(LARGEST, r.value or 0.0)) for r in usable]
    z = sum(w * math.atanh(v) for w, v in zip(weights, values, strict=True)) / sum(weights)
    value = math.tanh(z)
    half = 1.96 * math.sqrt((1 + value**2 / 2) / sum(weights))
    return Figure(
        value=value,
        low=math.tanh(z - half),
        high=math.tanh(z + half),
        n=sum(r.n or 0 for r in usable),
        excluded=sum(r.excluded or 0 for r in usable),
        method="rank correlations of the classes combined by Fisher's z",
    )


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
