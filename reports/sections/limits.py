"""What this audit does not show."""

from __future__ import annotations

from reports.blocks import Block, Bullets, Facts, Part, Section
from reports.context import Context
from reports.words import plain

ALWAYS = (
    "The verdict holds for this model, these weights and this cohort, and no other scanner or camera.",
    "A map above chance proves nothing by itself: maps of untrained networks can be above chance as well.",
    "A shortcut that no image of the cohort contains cannot be found in it.",
)


def build(context: Context) -> Section:
    """Build the list of limits."""
    record = context.record
    items = [*([record.model.limits] if record.model.limits else []), *record.limits, *ALWAYS]
    blocks: list[Block] = [Bullets(list(dict.fromkeys(items)))]
    if record.atlas:
        blocks.append(Part("Atlas", [Facts([(plain(k).capitalize(), v) for k, v in record.atlas.items()])]))
    return Section("limits", "Limits", "What does this audit not show?", blocks)
