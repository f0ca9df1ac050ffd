"""Several experts, from table to report: their consensus is the truth, their agreement the ceiling."""

from __future__ import annotations

import numpy as np
import pypdf
import pytest
import torch
from PIL import Image
from torch import nn

from pipeline.case import audit_case
from pipeline.cohort import read_cohort
from pipeline.comparison import expert_agreement, mean_interval
from pipeline.findings.conclusion import conclude
from pipeline.models.opening import OpenedModel
from pipeline.protocol import Protocol
from pipeline.record.schema import read_record
from pipeline.stages.audit import Audit
from reports import render_report

SIDE, CASES = 64, 7


class Bright(nn.Module):
    """Class 1 where green is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 2, 1)
        self.last = nn.Linear(2, 2)
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor([[0.0, 1, 0], [1, 0, 0]])[..., None, None])
            self.last.weight.copy_(torch.tensor([[-1.0, 0], [2, 0.5]]))
            for layer in (self.first, self.last):
                layer.bias.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(x).relu().mean((2, 3)))


def masks_of(case):
    """Two experts who differ by a shift, and a third who marks one of two lesions only in even cases."""
    one, two, three = (np.zeros((SIDE, SIDE), bool) for _ in range(3))
    top = 10 + 3 * case
    one[top : top + 8, 20:30] = True
    two[top + 2 : top + 10, 20:30] = True
    three[top : top + 4, 20:30] = case % 2 == 0
    return one, two, three


@pytest.fixture
def audited(tmp_path):
    lines = ["case,image,label,marks_spots,marks_dots"]
    for case in range(CASES):
        marks = masks_of(case)
        picture = np.full((SIDE, SIDE, 3), 60, np.uint8)
        picture[marks[0] | marks[1]] = (60, 200, 60)
        picture[::7, ::5] += case
        Image.fromarray(picture).save(tmp_path / f"{case}.png")
        names = [f"{case}_{expert}.png" for expert in range(3)]
        for name, mask in zip(names, marks, strict=True):
            Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / name)
        lines.append(f"c{case},{case}.png,1,{'; '.join(names)},{names[0]}")
    (tmp_path / "cohort.csv").write_text("\n".join(lines))
    protocol = Protocol.model_validate(
        {
            "schema": "relevance-audit-protocol/1",
            "modality": "fundus",
            "model": "m.pt",
            "cohort": str(tmp_path / "cohort.csv"),
            "target": 1,
            "methods": ["input_x_gradient"],
            "disease": "diabetic_retinopathy",
            "criteria": [],
            "seed": 2,
            "nulls": ["centre"],
            "twins": {"random": 0},
            "case_pages": 0,
        }
    )
    cohort = read_cohort(protocol.cohort)
    model = OpenedModel(Bright().eval(), None, "0" * 64, tmp_path)
    audit = Audit(protocol, model, ("healthy", "diseased"), 1, None, tmp_path / "out", cohort.cases)
    results = [audit_case(case, audit) for case in cohort.cases]
    conclude(audit, cohort, results, [], "2026-01-01T00:00:00+00:00", "2026-01-01T00:00:01+00:00", 1.0)
    return audit.folder


def test_agreement_of_experts_is_the_ceiling_in_record_and_report(audited):
    record = read_record(audited)
    expected = [expert_agreement({str(n): m for n, m in enumerate(masks_of(case))}) for case in range(CASES)]
    assert {e.experts for e in expected} == {2, 3}
    by_metric = {row.metric: row for row in record.agreement if row.lesion == "spots"}
    for metric in ("log2_mass_lift", "mass_accuracy", "auprc"):
        ceiling = by_metric[metric].ceiling
        assert ceiling is not None
        assert ceiling.value == pytest.approx(np.mean([e.ceiling[metric] for e in expected]), rel=1e-9)
        assert ceiling.n == CASES
    dice = record.experts.dice_of_experts
    truth = mean_interval([e.dice for e in expected], bounds=(0.0, 1.0))
    assert (dice["spots"].value, dice["spots"].low) == pytest.approx((truth.value, truth.low), rel=1e-9)
    # one expert sets no ceiling, and the consensus of three is what at least two marked
    assert "dots" not in dice
    assert all(row.ceiling is None for row in record.agreement if row.lesion == "dots")
    marked = [np.mean(np.sum(masks_of(case), axis=0) >= 2) for case in range(CASES)]
    lift = by_metric["log2_mass_lift"].figure.value
    assert lift is not None
    assert 0.5 < lift < np.mean(-np.log2(marked))
    text = "".join(page.extract_text() for page in pypdf.PdfReader(render_report(audited)).pages)
    assert "Experts against each other reach" in " ".join(text.split())
    assert "Experts among themselves" in " ".join(text.split())
