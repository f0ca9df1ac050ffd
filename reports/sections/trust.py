"""Whether the maps can be trusted: they have to change with the model, and the score has to follow them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.record.schema import Figure
from pipeline.record.trust import MapTrust, Trust
from reports.blocks import Block, Bullets, Column, Picture, Section, Table, Text
from reports.context import Context
from reports.glossary import method
from reports.words import clean, compact, duration, number, plural

if TYPE_CHECKING:
    from reports.figures.trust import Line

HALF = 0.5
"""A map of which more than half is left has hardly noticed that the model forgot."""
SAME_FOR_ALL = 0.4
"""Maps of random models as alike as this are drawn by the image."""
STEADY = 0.9
"""Rank correlation under noise from which a map is called steady."""


def build(context: Context) -> Section | None:
    """Build one sentence a method, the curves, and everything in numbers."""
    found = context.record.trust
    if found is None or not (found.maps or found.notes):
        return None
    blocks: list[Block] = []
    if found.maps:
        rim = context.record.shares.get("log2_rim_density", {})
        blocks += [
            Text(_asked(found)),
            Bullets([sentence(row) for row in found.maps]),
            _picture(context, found.maps),
            _table(found.maps, rim),
        ]
        alike = _agreement(found.maps)
        if alike:
            blocks.append(Text(alike))
    before = f" ({found.expected_passes} announced)" if found.expected_passes else ""
    remarks = [f"This took {found.passes} forward passes{before} and {duration(found.seconds)}."]
    remarks += [f"{note[0].upper()}{note[1:]}." for note in found.notes if note]
    blocks.append(Text(" ".join(remarks), small=True))
    return Section(
        "trust",
        "Can the maps be trusted?",
        "Do the maps depend on what the model has learnt, and does the score follow them?",
        blocks,
    )


def sentence(row: MapTrust) -> str:
    """Say in plain words what holds of one method's maps and what does not."""
    parts = [_forgetting(row), _deletion(row), _noise(row)]
    return f"{method(row.method).title}: {'; '.join(part for part in parts if part)}."


def _forgetting(row: MapTrust) -> str:
    left = row.left
    if not row.steps:
        return "not tried on models that forget (too slow)"
    pairs = row.random_pairs.rank.value if row.random_pairs else None
    if left.value is None:
        return "its maps are the same for any weights, so they show the image and no model"
    share = f"{100 * max(left.value, 0):.0f} % of the map is left on average"
    if left.low is not None and left.low > HALF:
        text = f"hardly changes when the model forgets ({share})"
    elif left.high is not None and left.high <= HALF:
        text = f"changes when the model forgets ({share})"
    else:
        text = f"changes in part when the model forgets ({share}; not settled whether more than half)"
    if pairs is not None and pairs > SAME_FOR_ALL:
        text += f", but two random models already give maps alike ({number(pairs)})"
    return text


def _deletion(row: MapTrust) -> str:
    if row.deletion is None:
        return ""
    beyond = row.deletion.over_random
    if beyond.value is None:
        return ""
    told = f"{_signed(beyond.value)} logits"
    if beyond.low is not None and beyond.low > 0:
        return f"the score falls faster in its order than in random order ({told})"
    if beyond.high is not None and beyond.high < 0:
        return f"the score falls more slowly in its order than in random order ({told})"
    return f"it is not shown that the score falls faster in its order than in random order ({told})"


def _noise(row: MapTrust) -> str:
    value = row.noise_rank.value
    if value is None:
        return ""
    word = "steady" if value >= STEADY else "not steady"
    return f"{word} under slight noise (rank correlation {number(value)})"


def _signed(value: float) -> str:
    return f"+{number(value)}" if value > 0 else number(value)


def _asked(found: Trust) -> str:
    return (
        f"The maps of {plural(len(found.cases), 'case')} were put to three tests. The model is made to "
        "forget what it has learnt, layer by layer from its output: a map that stays the same shows the "
        "image, not the model. The patches that a map calls most relevant are blurred away first: the score "
        "has to fall faster than in random order. Noise too slight to see is added: the map should stay as "
        "it is."
    )


def _lines(rows: Sequence[MapTrust]) -> list[Line]:
    from reports.figures.trust import Line

    lines = []
    for row in rows:
        steps = [(s.layers / s.of, s.likeness.rank.value) for s in row.steps]
        steps = [(x, y) for x, y in steps if y is not None]
        lines.append(
            Line(
                clean(method(row.method).title),
                [0.0, *(x for x, _ in steps)] if steps else (),
                [1.0, *(y for _, y in steps if y is not None)] if steps else (),
                row.random_pairs.rank.value if row.random_pairs else None,
                row.deletion.fractions if row.deletion else (),
                row.deletion.most_first if row.deletion else (),
            )
        )
    return lines


def _picture(context: Context, rows: Sequence[MapTrust]) -> Picture:
    from reports.figures.trust import trust_curves

    path, relative = context.figure_path("trust.svg")
    deleted = next((row.deletion for row in rows if row.deletion), None)
    chance = list(zip(deleted.fractions, deleted.random, strict=True)) if deleted else []
    trust_curves(path, _lines(rows), chance)
    return Picture(
        relative,
        alt="Left: likeness of each method’s map to itself as more of the model’s layers are redrawn. Right: "
        "change of the score as patches are blurred away. All numbers are in the next table.",
        caption="Left: rank correlation of the map with that of the trained model, up to its sign, mean over "
        "cases and draws of the random weights; the short bars at the right end are maps of two random "
        "models. A line that falls to its bar is a map that depends on the model. Right: a line below the "
        "dashed one is a map that knows what the score rests on.",
    )


def _table(rows: Sequence[MapTrust], rim: dict[str, Figure]) -> Table:
    draws = max((row.draws for row in rows), default=0)
    return Table(
        caption="The same in numbers [95 % interval]. Left of the map: 1 if it stays, 0 if no more is left "
        f"than two random models share (mean over steps but the first and {plural(draws, 'draw')} of the "
        "random weights; for other patients and draws). Deletion, insertion: beyond random order, logits; "
        "above 0 is right. Order under noise: 1 if nothing moves. Rim density: log₂, above 0 in the rim.",
        columns=[
            Column("Method", 1.3),
            Column("Left of the map", 1.4),
            Column("Deletion", 1.4),
            Column("Insertion", 1.4),
            Column("Order under noise", 1.4),
            Column("Rim density", 1.4),
            Column("n", 0.5),
        ],
        rows=[
            [
                method(row.method).title,
                compact(row.left),
                compact(row.deletion.over_random) if row.deletion else "–",
                compact(row.deletion.insertion) if row.deletion else "–",
                compact(row.noise_rank),
                compact(rim.get(row.method, Figure())),
                str(row.deletion.over_random.n if row.deletion else row.left.n),
            ]
            for row in rows
        ],
        note=_retrained(rows),
    )


def _retrained(rows: Sequence[MapTrust]) -> str:
    """Tell how alike maps of models are that were trained again, where there are any."""
    told = [
        f"{method(row.method).title} {compact(figure)} ({clean(name)})"
        for row in rows
        for name, figure in row.retrained.items()
    ]
    return f"Rank correlation with maps of a model trained again: {'; '.join(told)}." if told else ""


def _agreement(rows: Sequence[MapTrust]) -> str:
    """Which two methods say most, and which least alike."""
    pairs = {
        tuple(sorted((row.method, other))): figure.value
        for row in rows
        for other, figure in row.agreement.items()
        if figure.value is not None
    }
    if not pairs:
        return ""
    order = sorted(pairs, key=lambda pair: pairs[pair] or 0.0)

    def told(pair: tuple[str, ...]) -> str:
        return f"{method(pair[0]).title} and {method(pair[1]).title} ({number(pairs[pair])})"

    most = f"Most alike are the maps of {told(order[-1])}"
    least = f", least alike those of {told(order[0])}" if len(order) > 1 else ""
    return f"{most}{least}: rank correlation of their strength, 1 for maps that say the same."
