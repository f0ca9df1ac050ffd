"""The first page: the answer in plain words, and what limits it."""

from __future__ import annotations

from pipeline.record.schema import AuditRecord
from reports.blocks import Block, Callout, Facts, Numbers, Section, Text, Verdict
from reports.context import Context
from reports.glossary import skill
from reports.words import class_name, cut, figure, interval, moment, number, plain, plural, whole

HEADLINES = {"sound": "Sound", "flagged": "Flagged", "inconclusive": "Inconclusive"}
MEANINGS = {
    "sound": "Every criterion written down before the audit was met. This holds with respect to the factors "
    "listed here, on this cohort, and for nothing that was not tested.",
    "flagged": "At least one criterion written down before the audit was not met. The model should not be "
    "relied on until the factors listed here are understood.",
    "inconclusive": "The audit could neither confirm nor rule out that the model decides for the right "
    "reason. That is not a clean bill of health.",
}
LEADS = {
    "sound": "Sound with respect to",
    "flagged": "What was found",
    "inconclusive": "What would settle it",
}
FACTORS_SHOWN = 6
NOTES_SHOWN = 4
LONGEST = 260


def build(context: Context) -> Section:
    """Build the cover."""
    record = context.record
    verdict = record.verdict
    factors = [cut(factor, LONGEST) for factor in verdict.factors[:FACTORS_SHOWN]]
    if len(verdict.factors) > FACTORS_SHOWN:
        factors.append(f"and {len(verdict.factors) - FACTORS_SHOWN} more, all in audit.json")
    if not factors and verdict.sentence:
        factors = [cut(verdict.sentence, 2 * LONGEST)]
    blocks: list[Block] = [
        Verdict(
            answer=verdict.answer,
            headline=HEADLINES[verdict.answer],
            sentence=MEANINGS[verdict.answer],
            lead=LEADS[verdict.answer],
            factors=factors,
        )
    ]
    cautions = _cautions(record)
    if cautions:
        blocks.append(Callout("Read this before relying on the result", cautions))
    blocks.append(Numbers(_numbers(record)))
    target = class_name(record.target, record.model.classes)
    blocks.append(
        Facts(
            [
                ("Class audited", f"{target} ({plain(record.disease)})"),
                ("Images", "Brain MRI" if record.modality == "mri" else "Fundus photographs"),
                ("Model weights", f"SHA-256 {record.model.sha256[:16]}…"),
                ("Audit finished", moment(record.provenance.finished)),
            ]
        )
    )
    blocks.append(
        Text(
            "Relevance maps show where a decision comes from, not whether it is right. They are judged here "
            "against the marks of experts and against maps that know nothing of the model.",
            small=True,
        )
    )
    return Section("cover", "Verdict", blocks=blocks)


def _cautions(record: AuditRecord) -> list[str]:
    model = record.model
    cautions = []
    if model.trained_on:
        cautions.append(f"Trained on: {cut(model.trained_on, LONGEST)}")
    if model.limits:
        cautions.append(f"Limits of the model: {cut(model.limits, LONGEST)}")
    cautions += [cut(note, LONGEST) for note in model.notes[:NOTES_SHOWN]]
    if record.errors:
        failed = len({error.case for error in record.errors})
        cautions.append(f"{plural(failed, 'case')} had errors: see “What could not be done”.")
    return list(dict.fromkeys(cautions))


def _numbers(record: AuditRecord) -> list[tuple[str, str]]:
    cohort = record.cohort
    met = sum(criterion.answer == "met" for criterion in record.criteria)
    numbers = [
        (f"{whole(cohort.audited)} of {whole(cohort.cases)}", "cases audited"),
        (whole(cohort.patients), "patients" if cohort.patients_given else "patients (one per image assumed)"),
        (f"{met} of {len(record.criteria)}", "criteria met"),
    ]
    for name in [n for n in ("auc", *record.skill) if n in record.skill][:1]:
        value = record.skill[name]
        text = skill(name)
        if value.low is not None and value.high is not None:
            text += f", 95 % interval {interval(value.low, value.high)}"
        numbers.append((number(value.value) if value.value is not None else figure(value), text))
    return numbers
