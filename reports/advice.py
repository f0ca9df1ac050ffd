"""For whom each method is best on this model, and where a measured number contradicts the survey's words.

Plain rules over the measured method card: the same numbers give the same sentences.

- A method *tells the classes apart* if its maps of two classes differ in sign or in place.
- *Detail* up to three pixels of the model's grid is grain: neighbouring points hardly agree, and nothing can
  be read as a shape. The finest detail is sought above that.
- Ten maps a second are called real time.
- Only methods that tell the classes apart, are steady under noise and change when the model forgets can lead.
- A method that leads in nothing is compared with those: one that shows shapes and is at least as good in
  detail, steadiness, focus and cost takes its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from pipeline.record.method_card import CardRow, MethodCards
from pipeline.record.trust import MapTrust
from reports.glossary import method
from reports.words import NONE, duration, number

GRAIN = 3.0
"""Width, in pixels of the model's grid, up to which a map is grain: a shape is three points across."""
LIVE = 10.0
"""Maps a second."""
QUICK = 5.0
"""Forward passes up to which a map is called cheap."""
UNSTEADY = 0.8
"""Rank correlation under noise below which a map is not steady."""
MOVED, CLEARLY = 1.0, 0.1
"""Change of the logit from which exchanged colours matter; of the map, beyond what noise does."""
KEPT = 0.5
"""Share of a map that may be left when the model forgets."""
FAR = 1e9


def told_apart(row: CardRow) -> bool:
    """Whether the maps of two classes differ in sign or in place."""
    return row.distinction in ("sign", "places")


def width(row: CardRow, unit: str) -> str:
    """Print an effective resolution."""
    return f"{number(row.width)} {'mm' if unit == 'mm' else 'px'}"


def two(value: float | None) -> str:
    """Print a correlation or an index with two decimals."""
    return NONE if value is None else f"{value:.2f}".replace("-", "−").replace("−0.00", "0.00")


def colour_change(card: MethodCards) -> float | None:
    """Mean size of the change of the audited logit with exchanged colours; None for what has none."""
    if not card.logits_exchanged:
        return None
    changes = [abs(b - a) for a, b in zip(card.logits, card.logits_exchanged, strict=True)]
    return sum(changes) / len(changes)


def best_for(card: MethodCards, maps: Sequence[MapTrust] = ()) -> dict[str, str]:
    """Say for whom each measured method is best.

    Parameters
    ----------
    card : MethodCards
    maps : sequence of MapTrust
        What else is known of the maps of some methods: whether they change when the model forgets.

    Returns
    -------
    dict of str to str
        Method → one or two sentences.
    """
    rows = [row for row in card.rows if not row.refused]
    kept = {m.method: 100 * (m.left.value or 0.0) for m in maps if (m.left.low or 0.0) > KEPT}
    warnings = {row.method: _warning(row, kept.get(row.method)) for row in rows}
    good = [row for row in rows if not warnings[row.method]]
    leads = _leads(card, good)
    return {row.method: _sentence(row, good, leads, warnings[row.method]) for row in rows}


def _leads(card: MethodCards, rows: Sequence[CardRow]) -> dict[str, list[str]]:
    """Find what each of the methods without a warning leads in."""
    leads: dict[str, list[str]] = {}

    def lead(row: CardRow | None, text: Callable[[CardRow], str]) -> None:
        if row is not None:
            leads.setdefault(row.method, []).append(text(row))

    lead(
        _first(rows, lambda r: r.width_pixels if (r.width_pixels or 0) > GRAIN else None),
        lambda r: f"A specialist after small findings: finest legible detail ({width(r, card.unit)})",
    )
    lead(_first(rows, lambda r: r.passes), _first_look)
    lead(
        _first(rows, lambda r: None if r.gini is None else -r.gini),
        lambda r: f"A reader with little time: the fewest places to look at (focus {two(r.gini)})",
    )
    lead(
        _first(rows, lambda r: r.regions if (r.regions or 0) < (r.regions_even or 0) else None),
        lambda r: (
            f"A finding in words: {r.regions} of {r.regions_present} regions hold 80 % of its relevance"
        ),
    )
    if (colour_change(card) or 0.0) >= MOVED:
        lead(
            _first(rows, lambda r: r.colour if _shows_colour(r) else None),
            lambda r: f"The question whether colour decides: its map changes most with it ({two(r.colour)})",
        )
    lead(
        next((row for row in rows if row.method == "region_occlusion"), None),
        lambda _: "Readers without any background: by how much the score falls without a region",
    )
    return leads


def _first_look(row: CardRow) -> str:
    rate = 1 / row.seconds if row.seconds else 0.0
    said = f"real time ({rate:.0f} maps a second)" if rate >= LIVE else f"{duration(row.seconds)} a map"
    return f"A first look at every image: the least work, {said}"


def _shows_colour(row: CardRow) -> bool:
    """Whether exchanged colours change a map clearly more than noise does."""
    return row.colour is not None and row.noise is not None and row.colour < row.noise - CLEARLY


def _first(rows: Sequence[CardRow], key: Callable[[CardRow], float | None]) -> CardRow | None:
    """Row with the smallest key; the first in the table where several have it."""
    known = [(value, row) for row in rows if (value := key(row)) is not None]
    return min(known, key=lambda pair: pair[0])[1] if known else None


def _sentence(row: CardRow, good: Sequence[CardRow], leads: Mapping[str, Sequence[str]], warning: str) -> str:
    if warning:
        return f"{warning}."
    if row.method in leads:
        return f"{'. '.join(leads[row.method])}."
    better = next((other for other in good if other is not row and _covers(other, row)), None)
    if better is not None:
        return f"Nothing that {method(better.method).title} does not do as well or better here."
    if row.width_pixels is not None and row.width_pixels <= GRAIN:
        return "A developer who asks how the score reacts to single points: grain, no legible shapes."
    return "A second opinion: it leads in nothing here, and no other replaces it on every count."


def _warning(row: CardRow, kept: float | None) -> str:
    """Say what speaks against using a method at all."""
    if kept is not None:
        return f"Nobody: its map hardly changes when the model forgets what it learnt ({kept:.0f} % is left)"
    if row.distinction == "none":
        return f"Not for telling classes apart: the other class has the same map ({two(row.class_signed)})"
    if row.distinction == "mixed":
        return (
            f"Not for telling classes apart: the other class has the same places ({two(row.class_strength)})"
        )
    if row.noise is not None and row.noise < UNSTEADY:
        return f"Not for reading points: slight noise puts them in another order ({two(row.noise)})"
    return ""


def _legible(row: CardRow) -> float:
    """Width of a map; grain shows no shapes at all."""
    return row.width_pixels if (row.width_pixels or 0.0) > GRAIN and row.width_pixels else FAR


def _covers(one: CardRow, other: CardRow) -> bool:
    """Whether `one` shows shapes and is at least as good as `other` on every count, better on one."""
    counts = [
        (_legible(one), _legible(other)),
        (one.passes or FAR, other.passes or FAR),
        (1 - (one.noise or 0.0), 1 - (other.noise or 0.0)),
        (1 - (one.gini or 0.0), 1 - (other.gini or 0.0)),
    ]
    as_good = all(a <= b + 0.02 * max(b, 1) for a, b in counts)
    return _legible(one) < FAR and as_good and any(a < b for a, b in counts)


@dataclass(frozen=True)
class Family:
    """What the survey says of one family, in its words, and which methods here belong to it.

    Attributes
    ----------
    title, favour, against, reader : str
    methods : tuple of str
    """

    title: str
    favour: str
    against: str
    reader: str
    methods: tuple[str, ...]


SURVEY = (
    Family(
        "Occlusion, area occlusion",
        "class-discriminative, model-agnostic, easily understood; area occlusion most so",
        "effort, run time grows with detail; area occlusion needs a segmentation",
        "readers without deep-learning knowledge",
        ("occlusion", "region_occlusion"),
    ),
    Family(
        "Gradient",
        "fast, easy, detailed, any network",
        "hard to read, no focus; not class-discriminative",
        "–",
        ("gradient",),
    ),
    Family(
        "Guided backpropagation",
        "as the gradient, sharper; uses colour; fine medical structures",
        "weak class discrimination",
        "images with one object; fine structures",
        ("guided_backprop",),
    ),
    Family("LRP", "also for other kinds of model; signed", "–", "bias detection", ("lrp", "sglrp")),
    Family("CAM", "very easy, class-dependent, real time", "special architecture; coarse", "–", ("cam",)),
    Family(
        "Grad-CAM, guided Grad-CAM",
        "any differentiable head; guided adds detail",
        "Grad-CAM coarse",
        "several classes in one image, model diagnosis",
        ("grad_cam", "guided_grad_cam"),
    ),
    Family(
        "MACE",
        "model-agnostic, closest to human perception, class-specific concepts",
        "much effort (training); edges and corners not shown",
        "wrong decisions and scores of the wrong class; non-experts",
        ("mace",),
    ),
)


def contradictions(card: MethodCards) -> dict[str, list[str]]:
    """Find what was measured against the survey's words.

    Parameters
    ----------
    card : MethodCards

    Returns
    -------
    dict of str to list of str
        Title of a family → one clause a contradiction; families without any measured method are left out.
    """
    rows = {row.method: row for row in card.rows if not row.refused}
    found: dict[str, list[str]] = {}
    for family in SURVEY:
        mine = [rows[name] for name in family.methods if name in rows]
        if mine:
            found[family.title] = [text for row in mine for text in _against_words(row, rows, card)]
    return found


def _against_words(row: CardRow, rows: dict[str, CardRow], card: MethodCards) -> list[str]:
    name, title, unit, forward = row.method, method(row.method).title, card.unit, card.forward_seconds
    out = []
    if name in CLAIMED_DISCRIMINATIVE and row.distinction in ("none", "mixed"):
        out.append(f"{title} does not tell the classes apart")
    if name in ("gradient", "guided_backprop") and told_apart(row):
        how = "by its sign" if row.distinction == "sign" else "by its places"
        out.append(f"{title} tells the classes apart {how} (rank correlation {two(row.class_signed)})")
    if name == "gradient" and (row.gini or 0.0) > median(r.gini or 0.0 for r in rows.values()) + 0.05:
        out.append(f"{title} has more focus than most ({two(row.gini)})")
    if name in ("gradient", "guided_backprop") and (row.passes or 0.0) > QUICK:
        out.append(f"{title} is not fast ({number(row.passes)} passes)")
    if name in ("occlusion", "region_occlusion") and row.passes is not None and row.passes <= QUICK:
        out.append(f"{title} is cheap ({number(row.passes)} passes)")
    middle = median(r.width_pixels for r in rows.values() if r.width_pixels is not None) if rows else 0.0
    if row.width_pixels is not None:
        out += _detail(row, rows, unit, middle)
    if name == "cam" and row.seconds and 1 / row.seconds < LIVE:
        rate = f"{1 / row.seconds:.1f} maps a second"
        model = f", the model alone {1 / forward:.1f} answers" if forward else ""
        out.append(f"{title} is not real time on this machine ({rate}{model})")
    return out


def _detail(row: CardRow, rows: dict[str, CardRow], unit: str, middle: float) -> list[str]:
    """Claims about detail."""
    title, other = method(row.method).title, {"guided_backprop": "gradient", "guided_grad_cam": "grad_cam"}
    size = row.width_pixels or 0.0
    if row.method == "gradient" and size > middle:
        return [f"{title} is coarser than most ({width(row, unit)})"]
    if row.method == "gradient" and size <= GRAIN and row.noise is not None and row.noise < UNSTEADY:
        return [f"its detail is grain ({width(row, unit)}) that slight noise reorders ({two(row.noise)})"]
    if row.method in ("cam", "grad_cam") and size < middle:
        return [f"{title} is finer than most ({width(row, unit)})"]
    beside = rows.get(other.get(row.method, ""))
    if beside is not None and beside.width_pixels is not None and size > beside.width_pixels:
        sizes = f"{width(row, unit)} against {width(beside, unit)}"
        return [f"{title} is not sharper than {method(beside.method).title} ({sizes})"]
    return []


CLAIMED_DISCRIMINATIVE = ("occlusion", "region_occlusion", "cam", "grad_cam", "mace")
