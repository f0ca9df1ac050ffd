"""The page for the reviewing clinician's own judgement."""

from __future__ import annotations

from reports.blocks import Block, Lines, Questions, Section, Signature, Text
from reports.context import Context
from reports.sections.cases import pages
from reports.words import cut

QUESTIONS = (
    "The verdict on the first page agrees with my own impression.",
    "The images are of a quality on which I would decide.",
    "Where relevance is strong, there is a finding that I would use as well.",
    "The expert marks are correct and complete.",
    "Some maps are strong where there is no finding (possible shortcut).",
    "The wrong decisions can be explained.",
    "With these limits, the model may be used for its intended purpose here.",
)


ANSWERS = ("Agree", "Disagree", "Cannot judge")
CASES_SHOWN = 8


def build(context: Context) -> Section:
    """Build the form: the audit as a whole, then each case that was shown."""
    shown = pages(context.record)
    blocks: list[Block] = [Questions("Question", QUESTIONS, ANSWERS)]
    if shown:
        blocks.append(
            Questions(
                "The maps of this case make sense to me",
                [cut(case.case, 64) for case in shown[:CASES_SHOWN]],
                ANSWERS,
            )
        )
    return Section(
        "review",
        "Judgement of the reviewing clinician",
        "Do you agree? To be filled in by hand; the audit itself stays as it is.",
        [
            *blocks,
            Lines("Comments, and cases that should be looked at again", 4 if shown else 8),
            Text("I have read this report and looked at the cases shown in it."),
            Signature(["Name", "Role and department", "Date", "Signature"]),
        ],
        new_page=True,
    )
