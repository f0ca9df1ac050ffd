"""What the decision rests on: shares of the gap between the classes, by exchanging parts of images."""

from __future__ import annotations

from pipeline.record.schema import Figure
from reports.blocks import Block, Bullets, Callout, Column, Part, Picture, Section, Table, Text
from reports.context import Context
from reports.words import class_name, clean, counted, figure, number, p_value, plain, plural


def build(context: Context) -> Section | None:
    """Build factor swap, removal, covariates and warnings."""
    found = context.record.interventions
    if found is None:
        return None
    blocks: list[Block] = []
    if found.warnings:
        blocks.append(Callout("The data alone give the label away", found.warnings))
    if found.factors:
        blocks += _shares(context)
    if found.removals:
        blocks.append(_removals(context))
    if found.covariates:
        blocks.append(_covariates(context))
    if found.notes:
        blocks.append(
            Part("What could not be tested", [Bullets([f"{n[:1].upper()}{n[1:]}." for n in found.notes])])
        )
    return Section(
        "interventions",
        "What the decision rests on",
        "If one part of the image is exchanged with that of a case of the other class, how much of the "
        "decision goes with it?",
        blocks,
    )


def _shares(context: Context) -> list[Block]:
    from reports.figures.charts import Panel, Row, intervals

    found = context.record.interventions
    assert found is not None
    blocks: list[Block] = [
        Text(
            f"In {plural(found.pairs, 'pair')} of one case of each class every combination of these parts "
            "was exchanged and the score measured (exact Shapley values). The shares add up to 1. The gap "
            f"between the classes is {figure(found.gap)} logits. A sound decision goes with the disease, and "
            "with nothing else."
        )
    ]
    rows = [Row(clean(row.title), row.share, role="expected" if row.wanted else "") for row in found.factors]
    if any(row.share.value is not None for row in found.factors):
        path, relative = context.figure_path("factor-shares.svg")
        intervals(
            path, [Panel("Share of the gap between the classes", rows, 0.0)], main="share, 95 % interval"
        )
        blocks.append(
            Picture(
                relative,
                alt="Share of each factor in the gap between the classes with its 95 % interval. All "
                "numbers are in the next table.",
                caption="Share of the gap between the classes that each part of the image carries, with its "
                "95 % interval (clustered by the patients of either class).",
            )
        )
    blocks.append(
        Table(
            caption="The same in numbers.",
            columns=[
                Column("Part of the image", 3),
                Column("The decision should", 1.6),
                Column("Share [95 %]", 1.8),
                Column("Would be noticed from", 1.4, "right"),
                Column("n", 0.6, "right"),
            ],
            rows=[
                [
                    row.title,
                    "rest on it" if row.wanted else "less so" if row.name == "rest" else "not rest on it",
                    figure(row.share),
                    number(row.limit),
                    counted(row.share),
                ]
                for row in found.factors
            ],
            note="Would be noticed from: the share that an audit of this cohort would flag 95 times in 100. "
            "A shortcut that the cohort does not contain cannot be found. The disease reaches the rest of a "
            "brain too; it is judged by what it leaves for the expected regions. n: patients.",
        )
    )
    return blocks


def _removals(context: Context) -> Part:
    found = context.record.interventions
    assert found is not None
    table = Table(
        caption="Fall of the score in logits when a structure is filled in from its surroundings, beside the "
        "same shapes filled in where there was nothing to remove.",
        columns=[
            Column("Filled in", 2.6),
            Column("Fall [95 %]", 1.7),
            Column("Same shapes elsewhere", 1.7),
            Column("Difference", 1.7),
            Column("n", 0.5, "right"),
        ],
        rows=[
            [r.title, figure(r.removed), figure(r.control), figure(r.difference), str(r.difference.n)]
            for r in found.removals
        ],
    )
    return Part("Removed", [table])


def _covariates(context: Context) -> Part:
    record = context.record
    found = record.interventions
    assert found is not None
    disease = class_name(record.target, record.model.classes)
    table = Table(
        caption="What the score goes with among cases of one class, where the disease cannot be the reason.",
        columns=[
            Column("Cases", 1.6),
            Column("Covariate", 1.4),
            Column("Measure", 1.6),
            Column("Found [95 %]", 1.8),
            Column("p (corrected)", 1, "right"),
            Column("n", 0.5, "right"),
        ],
        rows=[
            [
                disease if row.positive else f"not {disease}",
                plain(f"{row.covariate} {row.level}"),
                row.measure,
                figure(row.figure) if row.figure != Figure() else "–",
                p_value(row.p),
                str(row.figure.n),
            ]
            for row in found.covariates
        ],
    )
    return Part("Covariates", [table])
