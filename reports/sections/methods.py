"""Which methods drew maps, at what cost, and which did not run."""

from __future__ import annotations

from pipeline.record.schema import MethodRow
from reports.blocks import Block, Column, Section, Table
from reports.context import Context
from reports.words import clean, duration, plain


def build(context: Context) -> Section | None:
    """Build the method table."""
    methods = context.record.methods
    if not methods:
        return None
    blocks: list[Block] = [
        Table(
            caption="Methods, their properties and their cost.",
            columns=[
                Column("Method", 2),
                Column("Family", 1.5),
                Column("Signed", 0.9),
                Column("Class-specific", 1.2),
                Column("Forward passes", 1.6),
                Column("Time per map", 1.1, "right"),
                Column("Cases", 0.8, "right"),
            ],
            rows=[
                [
                    row.title or plain(row.name),
                    plain(row.family),
                    "yes" if row.signed else "no",
                    "yes" if row.class_discriminative else "no",
                    row.forward_passes,
                    duration(row.seconds),
                    str(row.cases),
                ]
                for row in methods
            ],
            note="Signed: the map tells for from against. Class-specific: maps of two classes differ. Time: "
            "median wall time of one map.",
        )
    ]
    details = [[row.title or plain(row.name), _options(row), row.source or "–"] for row in methods]
    blocks.append(
        Table(
            caption="Settings and sources.",
            columns=[Column("Method", 1.4), Column("Options", 2), Column("Source", 2.4)],
            rows=details,
        )
    )
    missing = [[row.title or plain(row.name), row.note] for row in methods if row.note]
    if missing:
        blocks.append(
            Table(
                caption="Remarks, and why a method did not run.",
                columns=[Column("Method", 1), Column("Remark", 3)],
                rows=missing,
            )
        )
    return Section("methods", "Methods", "How were the relevance maps made?", blocks)


def _options(row: MethodRow) -> str:
    return clean(", ".join(f"{name} = {value}" for name, value in row.options.items())) or "defaults"
