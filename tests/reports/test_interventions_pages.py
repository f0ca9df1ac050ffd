"""Pages of the interventions: every number is printed, and what could not be done is said."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.record.interventions import (
    CovariateRow,
    CueRow,
    FactorRow,
    FillRow,
    Interventions,
    RemovalRow,
)
from pipeline.record.schema import Figure
from reports import render_report


def figure(value: float) -> Figure:
    return Figure(value=value, low=value - 0.1, high=value + 0.1, n=17)


def interventions() -> Interventions:
    return Interventions(
        gap=figure(4.25),
        pairs=16,
        factors=[
            FactorRow(
                name="target", title="regions expected for the disease", wanted=True, share=figure(0.875)
            ),
            FactorRow(name="rim", title="rim of the brain (skull strip)", share=figure(0.125), limit=0.283),
        ],
        cues=[
            CueRow(
                name="marker",
                title="marker in the corners",
                positive=p,
                shift=figure(0.47),
                flips=figure(0.15),
            )
            for p in (True, False)
        ],
        removals=[
            RemovalRow(
                name="lesions",
                title="Lesions",
                removed=figure(3.33),
                control=figure(0.2),
                difference=figure(3.13),
            )
        ],
        fills=[
            FillRow(fill=fill, region="hippocampus", role="expected", positive=True, fall=figure(-1.66))
            for fill in ("swap", "zero", "blur")
        ],
        covariates=[
            CovariateRow(positive=True, covariate="age", measure="Spearman's ρ", figure=figure(0.318), p=0.04)
        ],
        warnings=["The label can be guessed from pixels outside the anatomy alone."],
        notes=["left out of the factor swap: the brain is not registered to the atlas"],
    )


@pytest.mark.parametrize("modality", ["mri", "fundus"])
def test_every_number_is_printed(modality: str, tmp_path: Path, tools: SimpleNamespace) -> None:
    record = tools.make_record(modality, pages=0).model_copy(update={"interventions": interventions()})
    folder = tools.write_audit(tmp_path / modality, record)
    text = tools.text_of(render_report(folder))
    for words in (
        "What the decision rests on",
        "0.875 [0.775, 0.975]",
        "0.283",
        "4.25 [4.15, 4.35]",
        "3.13 [3.03, 3.23]",
        "0.470 [0.370, 0.570]",
        "0.150 [0.050, 0.250]",
        "−1.66 [−1.76, −1.56]",
        "zero 1 of 1",
        "0.318 [0.218, 0.418]",
        "The label can be guessed from pixels outside",
        "brain is not registered to the atlas",
    ):
        assert tools.squeeze(words) in text, words


def test_without_interventions_there_are_no_such_pages(tmp_path: Path, tools: SimpleNamespace) -> None:
    text = tools.text_of(render_report(tools.write_audit(tmp_path, tools.make_record("mri", pages=0))))
    assert tools.squeeze("What the decision rests on") not in text
