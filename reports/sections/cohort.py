"""Which cases were looked at."""

from __future__ import annotations

from reports.blocks import Block, Column, Facts, Section, Table, Text
from reports.context import Context
from reports.words import plain


def build(context: Context) -> Section:
    """Build the description of the cohort."""
    cohort = context.record.cohort
    patients = str(cohort.patients)
    if not cohort.patients_given:
        patients += " (not given in the cohort: every image counts as its own patient)"
    blocks: list[Block] = [
        Facts(
            [
                ("Source", cohort.source),
                ("Cases listed", str(cohort.cases)),
                ("Cases audited", str(cohort.audited)),
                ("Patients", patients),
            ]
        )
    ]
    counts = [["Label", name, str(count)] for name, count in cohort.labels.items()]
    counts += [["Expert marks", plain(name), str(count)] for name, count in cohort.marks.items()]
    if counts:
        blocks.append(
            Table(
                caption="Labels, and cases with expert marks of each type.",
                columns=[Column("", 1), Column("Which", 2), Column("Cases", 1, "right")],
                rows=counts,
            )
        )
    if not cohort.marks:
        blocks.append(Text("No expert marks were given, so nothing is compared with experts."))
    return Section("cohort", "Cohort", "Which images were audited?", blocks)
