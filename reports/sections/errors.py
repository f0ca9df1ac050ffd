"""What could not be done: bad cases, methods that did not run, brains that were not registered."""

from __future__ import annotations

from reports.blocks import Block, Column, Section, Table, Text
from reports.context import Context
from reports.words import plain

SHOWN = 60


def build(context: Context) -> Section:
    """Build the list of errors; an audit without any says so."""
    record = context.record
    blocks: list[Block] = []
    if record.errors:
        rest = len(record.errors) - SHOWN
        blocks.append(
            Table(
                caption=f"Cases or methods that failed ({len(record.errors)}); no other case was affected.",
                columns=[Column("Case", 1.2), Column("Step", 1), Column("Why", 3.5)],
                rows=[[e.case, plain(e.stage), e.reason] for e in record.errors[:SHOWN]],
                note=f"{rest} more in audit.json." if rest > 0 else "",
            )
        )
    idle = [row for row in record.methods if row.cases == 0]
    if idle:
        blocks.append(
            Table(
                caption="Methods that gave no map.",
                columns=[Column("Method", 1), Column("Why", 3)],
                rows=[[row.title or plain(row.name), row.note or "no case could be audited"] for row in idle],
            )
        )
    unregistered = [case for case in record.cases if case.regions_registered is False]
    if unregistered:
        rest = len(unregistered) - SHOWN
        blocks.append(
            Table(
                caption=f"Not registered to the atlas ({len(unregistered)}); no region is reported for them.",
                columns=[Column("Case", 1), Column("Remark", 3)],
                rows=[
                    [case.case, "; ".join(n for n in case.notes if "regist" in n) or "not registered"]
                    for case in unregistered[:SHOWN]
                ],
                note=f"{rest} more in audit.json." if rest > 0 else "",
            )
        )
    if not blocks:
        blocks.append(Text("Every listed case was audited and every method gave its maps."))
    return Section(
        "errors", "What could not be done", "Which cases or methods failed, and why?", blocks, new_page=True
    )
