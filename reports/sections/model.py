"""What the audited model is and what it can do."""

from __future__ import annotations

from typing import Any

from reports.blocks import Block, Bullets, Callout, Column, Facts, Part, Section, Table
from reports.context import Context
from reports.glossary import skill
from reports.words import interval, number


def build(context: Context) -> Section:
    """Build the description of the model."""
    record = context.record
    model = record.model
    blocks: list[Block] = [
        Facts(
            [
                ("Name", model.name),
                ("Architecture", model.architecture or "not stated"),
                ("Classes", ", ".join(model.classes)),
                ("Trained on", model.trained_on or "not stated"),
            ]
        )
    ]
    if model.limits or model.notes:
        blocks.append(Callout("Limits of this model", [t for t in (model.limits, *model.notes) if t]))
    rows = [_performance(row) for row in model.performance]
    rows += [
        [
            "This audit",
            skill(name),
            number(value.value),
            interval(value.low, value.high),
            str(value.n),
        ]
        for name, value in record.skill.items()
    ]
    if rows:
        blocks.append(
            Table(
                caption="How well the model tells the classes apart: as its card states, and on this cohort.",
                columns=[
                    Column("Data", 2.4),
                    Column("Measure", 2),
                    Column("Value", 0.8, "right"),
                    Column("95 % interval", 1.4, "right"),
                    Column("n", 0.6, "right"),
                ],
                rows=rows,
                note="Good performance alone says nothing about the reasons: a model that reads a shortcut "
                "can perform as well.",
            )
        )
    if model.credits:
        blocks.append(Part("Credits", [Bullets(model.credits)]))
    return Section("model", "Model", "What was audited?", blocks)


def _performance(row: dict[str, Any]) -> list[str]:
    def value(name: str) -> float | None:
        content = row.get(name)
        return float(content) if isinstance(content, int | float) else None

    return [
        str(row.get("data", "model card")),
        skill(str(row.get("metric", ""))),
        number(value("value")),
        interval(value("low"), value("high")),
        str(row.get("n", "–")),
    ]
