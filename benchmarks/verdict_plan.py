"""Which models a fresh seed is to have: written down before any of them is trained."""

from __future__ import annotations

from collections.abc import Sequence

FRESH = 1200
"""First seed of the plan. Bounds, masks and this file were committed before one from here on was run."""
WEAK = {"brain": 0.6, "retina": 0.55}
"""Small networks that see a label in a corner of a photograph learn it sooner than one beside a brain."""
STRENGTHS = (1.0, 0.9, 0.8)
TURNS = {
    "brain": ("rim", "site", "noise", "blur", "age"),
    "retina": ("vignette", "colour", "noise", "blur"),
}
NO_SKILL = ("shuffled", "random", "flipped")


def planned(world: str, seed: int) -> Sequence[tuple[str, float]]:
    """List fault and strength of the models of a seed, in the order in which they are run.

    Each seed has two sound models, trained on different cases, a marker that goes with the label and one that
    hardly does, another cue (they take turns, and so do the strengths), a model without skill, and in every
    second seed one that sees the background only.
    """
    turn = seed - FRESH
    cues = TURNS[world]
    rows = [
        ("sound", 1.0),
        ("sound_b", 1.0),
        ("marker", STRENGTHS[turn % 3]),
        ("marker", WEAK[world]),
        (cues[turn % len(cues)], STRENGTHS[turn // len(cues) % 3]),
        (NO_SKILL[turn % 3], 1.0),
    ]
    return (*rows, ("background", 1.0)) if turn % 2 else tuple(rows)
