"""Smoothing, tolerance and smallest mark come from the protocol, the same for methods, twins and nulls."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.cohort import Case
from pipeline.comparison import checkerboard, measure, null_maps, smoothed
from pipeline.models.opening import OpenedModel
from pipeline.models.prepared import Prepared
from pipeline.protocol import Method, Protocol
from pipeline.record.schema import CaseRow
from pipeline.stages.audit import Audit
from pipeline.stages.measuring import CaseWork, _case_seed
from pipeline.stages.twins import TwinSet

SIDE = 32
FIELD = np.ones((SIDE, SIDE), bool)
MARK = np.zeros((SIDE, SIDE), bool)
MARK[10:14, 10:14] = True


def work_of(folder, **measuring):
    torch.manual_seed(1)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    ).eval()
    protocol = Protocol.model_validate(
        {
            "schema": "relevance-audit-protocol/1",
            "modality": "fundus",
            "model": "m.pt",
            "cohort": "c.csv",
            "target": 1,
            "methods": ["gradient"],
            "disease": "diabetic_retinopathy",
            "criteria": [],
            "seed": 4,
            "nulls": ["contrast"],
            "measuring": measuring,
        }
    )
    audit = Audit(protocol, OpenedModel(network, None, "0" * 64, folder), ("a", "b"), 1, None, folder)
    audit.__dict__["twins"] = TwinSet((), {"twin-1": network})
    image = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    prepared = Prepared(image, np.eye(3), (SIDE, SIDE), FIELD)
    work = CaseWork(Case("c", "c", folder / "c"), audit, prepared, {"dots": MARK}, None, CaseRow(case="c"))
    work.run(Method(name="gradient"), [1])
    work.measure_nulls()
    work.run_twins()
    return work


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Work by its settings, each done once."""
    folder = tmp_path_factory.mktemp("audit")
    return cache(lambda **measuring: work_of(folder, **measuring))


def value(work, method, metric):
    (found,) = [r for r in work.measurements if (r.method, r.metric) == (method, metric)]
    return found.value if found.value is not None else found.status


def test_smoothing_is_the_same_for_methods_twins_and_nulls(made):
    plain, smooth = made(), made(smoothing=1.5)
    raw = smooth.maps["gradient_class-1"]
    assert np.array_equal(raw, plain.maps["gradient_class-1"])  # kept as it was made
    contrast = null_maps(plain.prepared.tensor[0].numpy(), FIELD, seed=_case_seed(4, "c"))["contrast"]
    for method, values in (("gradient", raw), ("null:contrast", contrast), ("twin-1:gradient", raw)):
        for work, width in ((plain, 0.0), (smooth, 1.5)):
            got = value(work, method, "auprc")
            expected = [
                measure(sign * smoothed(values, width), {"m": MARK}, FIELD)["m"].auprc for sign in (1, -1)
            ]
            # a twin's map has the sign of its own call
            signs = 2 if method.startswith("twin") else 1
            assert any(got == pytest.approx(e, rel=1e-6) for e in expected[:signs]), (method, width)
    assert value(smooth, "gradient", "checkerboard") == pytest.approx(checkerboard(smoothed(raw, 1.5)))
    assert value(smooth, "gradient", "checkerboard") < value(plain, "gradient", "checkerboard")


def test_tolerance_reaches_the_pointing_game_and_the_lesions(made):
    hits = [value(made(tolerance=t), "gradient", "pointing_game") for t in (0, 60)]
    assert hits == [0, 1]
    found = [made(tolerance=t).detections[0].found["dots"][0] for t in (0, 60)]
    highest = float(made().maps["gradient_class-1"].max())
    assert found[1] == pytest.approx(highest, rel=1e-6)
    assert found[0] is None or found[0] < found[1]


def test_a_mark_below_the_smallest_is_left_out_and_said(made):
    few = value(made(smallest_mark=17), "gradient", "log2_mass_lift")
    assert isinstance(few, str)
    assert "17" in few or "few" in few
    assert isinstance(value(made(smallest_mark=16), "gradient", "log2_mass_lift"), float)
