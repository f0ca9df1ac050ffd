"""Whether something that must not matter moves the decision."""

from __future__ import annotations

from pipeline.record.interventions import CueRow
from reports.blocks import Block, Column, Picture, Section, Table
from reports.context import Context
from reports.words import class_name, clean, figure


def build(context: Context) -> Section | None:
    """Build the battery of cues."""
    from reports.figures.charts import Panel, Row, intervals

    record = context.record
    found = record.interventions
    if found is None or not found.cues:
        return None
    names = list(dict.fromkeys(row.name for row in found.cues))
    by_side = {side: {row.name: row for row in found.cues if row.positive == side} for side in (False, True)}
    disease = class_name(record.target, record.model.classes)
    sides = {False: f"on cases that are not {disease}", True: f"on cases of {disease}"}
    title = {row.name: row.title for row in found.cues}
    stamped = {row.name for row in found.cues if row.stamped}
    blocks: list[Block] = []
    whole = {side: rows for side, rows in by_side.items() if set(rows) == set(names)}
    if whole:
        path, relative = context.figure_path("cues.svg")
        panels = [
            Panel(clean(sides[side]), [Row(clean(title[n]), rows[n].shift) for n in names], 0.0)
            for side, rows in whole.items()
        ]
        intervals(path, panels, main="shift of the score, 95 % interval")
        blocks.append(
            Picture(
                relative,
                alt="Shift of the score by each cue with its 95 % interval. All numbers are in the next "
                "table.",
                caption="Shift of the score when a cue is put on an image, in standard deviations of "
                f"untouched scores within a class; to the right: towards {disease}.",
            )
        )
    blocks.append(
        Table(
            caption="Shift of the score, and right decisions that the cue turned into wrong ones.",
            columns=[
                Column("Cue", 2.4),
                *(Column(f"Shift {sides[side]}", 1.6) for side in (False, True)),
                *(Column(f"Turned {sides[side]}", 1.6) for side in (False, True)),
            ],
            rows=[
                [
                    title[name] if name in stamped else f"{title[name]} *",
                    *(_shift(by_side[side].get(name)) for side in (False, True)),
                    *(_turned(by_side[side].get(name)) for side in (False, True)),
                ]
                for name in names
            ],
            note="Shift in standard deviations. Turned: share of right decisions that became wrong, with the "
            "exact (Clopper–Pearson) 95 % interval. * Changes the whole image: tells how robust the model "
            "is, and no criterion judges it here; whether the decision rests on it is asked by the exchange "
            "of factors.",
        )
    )
    return Section(
        "cues",
        "Cues that must not matter",
        "Does the decision follow a label, a rim, noise or another camera?",
        blocks,
    )


def _shift(row: CueRow | None) -> str:
    return figure(row.shift) if row else "–"


def _turned(row: CueRow | None) -> str:
    return figure(row.flips) if row else "–"
