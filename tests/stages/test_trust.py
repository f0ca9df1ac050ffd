"""The stage as a whole: what is announced in the log is what is counted, and nothing is done twice."""

import logging
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pipeline.cohort import Case, Cohort
from pipeline.models.card import ModelCard, Preprocessing
from pipeline.models.opening import OpenedModel
from pipeline.protocol import Protocol
from pipeline.record.schema import CaseResult, CaseRow
from pipeline.stages.audit import Audit
from pipeline.stages.trust import assess

SIDE = 48


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit")
    axis = np.linspace(-1, 1, 96)
    x, y = np.meshgrid(axis, axis)
    cases, results = [], []
    for number in range(7):
        picture = np.random.default_rng(number).integers(40, 200, (96, 96, 3))
        picture[np.hypot(x, y) > 0.95] = 0
        path = folder / f"{number}.png"
        Image.fromarray(picture.astype(np.uint8)).save(path)
        cases.append(Case(f"c{number}", f"p{number}", path))
        row = CaseRow(case=f"c{number}", predicted=number % 2)
        results.append(CaseResult(key=str(number), row=row, patient=f"p{number}"))
    content = {
        "schema": "relevance-audit-protocol/1",
        "modality": "fundus",
        "model": "m",
        "cohort": "c.csv",
        "target": 1,
        "methods": ["gradient", "lrp"],
        "disease": "diabetic_retinopathy",
        "criteria": [],
        "seed": 4,
        "trust": {"cases": 6},
    }
    preprocessing = Preprocessing(
        kind="fundus_square", shape=(SIDE, SIDE), mean=(0.4, 0.3, 0.2), std=(0.2, 0.2, 0.2)
    )
    card = ModelCard(
        name="m",
        modality="fundus",
        architecture="none",
        weights="w",
        classes=("no", "yes"),
        target=1,
        preprocessing=preprocessing,
        trained_on="",
    )
    torch.manual_seed(3)
    network = nn.Sequential(
        *(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)),
    )
    opened = OpenedModel(network.eval(), card, "0" * 64, folder)
    audit = Audit(Protocol.model_validate(content), opened, ("no", "yes"), 1, None, folder)
    return audit, Cohort(tuple(cases), "", patients_given=True), results


def test_the_log_announces_what_is_counted(audited, caplog):
    audit, cohort, results = audited
    with caplog.at_level(logging.INFO, logger="relevance_audit"):
        found = assess(audit, cohort, results)
    said = next(r.getMessage() for r in caplog.records if "forward passes" in r.getMessage())
    announced, of_the_card = (int(n) for n in re.findall(r"(\d+)[^0-9]*(?:forward passes| of them)", said))
    assert announced == found.expected_passes
    assert 0 < of_the_card < announced
    assert found.card is not None
    assert [row.method for row in found.maps] == ["gradient", "lrp"]
    assert 0.97 * found.passes <= announced <= 1.25 * found.passes


def test_a_run_that_goes_on_takes_up_what_is_kept(audited):
    audit, cohort, results = audited
    first = assess(audit, cohort, results)
    assert assess(audit, cohort, results) == first  # seconds as well: nothing was measured again
    changed = [*results[:-1], results[-1].model_copy(update={"key": "other"})]
    assert assess(audit, cohort, changed).key != first.key
