"""The page for the reviewing clinician's own judgement."""

from __future__ import annotations

from reports.blocks import Lines, Questions, Section, Signature, Text
from reports.context import Context

QUESTIONS = (
    "The verdict on the first page agrees with my own impression.",
    "The images are of a quality on which I would decide.",
    "Where relevance is strong, there is a finding that I would use as well.",
    "The expert marks are correct and complete.",
    "Some maps are strong where there is no finding (possible shortcut).",
    "The wrong decisions can be explained.",
    "With these limits, the model may be used for its intended purpose here.",
)


def build(_: Context) -> Section:
    """Build the form."""
    return Section(
        "review",
        "Judgement of the reviewing clinician",
        "Do you agree? To be filled in by hand; the audit itself stays as it is.",
        [
            Questions(QUESTIONS, ["Agree", "Disagree", "Cannot judge"]),
            Lines("Comments, and cases that should be looked at again", 6),
            Text("I have read this report and looked at the cases shown in it."),
            Signature(["Name", "Role and department", "Date", "Signature"]),
        ],
        new_page=True,
    )
