"""Twins are made once, taken up again, and never change the model or stand in for a degenerate one."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from pipeline.cohort import Case
from pipeline.findings.agreement import drop_zero_maps
from pipeline.models.opening import OpenedModel
from pipeline.protocol import Protocol
from pipeline.record.experts import TwinRow
from pipeline.stages.twins import twin_methods, twins_of


def protocol(**more):
    content = {
        "schema": "relevance-audit-protocol/1",
        "modality": "fundus",
        "model": "m.pt",
        "cohort": "c.csv",
        "target": 1,
        "methods": ["gradient", "smooth_grad", "grad_cam", "lrp", "occlusion"],
        "disease": "diabetic_retinopathy",
        "criteria": [],
        "seed": 4,
    }
    return Protocol.model_validate(content | more)


@pytest.fixture
def opened(tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )
    return OpenedModel(network.eval(), None, "0" * 64, tmp_path)


@pytest.fixture
def cases(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    made = []
    for number in range(5):
        path = tmp_path / f"{number}.png"
        Image.fromarray(rng.integers(0, 40 + 40 * number, (24, 24, 3), dtype=np.uint8)).save(path)
        made.append(Case(str(number), str(number), path))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    return [*made, Case("broken", "broken", tmp_path / "broken.png")]


def test_methods_of_the_gradient_cam_and_lrp_families_unless_the_protocol_asks_for_more():
    assert [m.name for m in twin_methods(protocol())] == ["gradient", "grad_cam", "lrp"]
    asked = protocol(twins={"methods": ["occlusion"]})
    assert [m.name for m in twin_methods(asked)] == ["occlusion"]


def test_a_run_that_goes_on_has_the_same_twins_and_the_model_stays_as_it_was(opened, cases, tmp_path):
    before = {name: value.clone() for name, value in opened.module.state_dict().items()}
    first = twins_of(opened, protocol(), cases, tmp_path / "out")
    assert [row.name for row in first.rows] == ["twin-1", "twin-2", "twin-3"]
    assert all(row.images == 5 and not row.degenerate for row in first.rows)
    again = twins_of(opened, protocol(), [], tmp_path / "out")  # no image is read again
    assert again.rows == first.rows
    x = torch.rand(2, 3, 24, 24)
    for name, twin in first.modules.items():
        assert torch.equal(twin(x), again.modules[name](x))
        assert not torch.allclose(twin(x), opened.module(x))
    assert all(torch.equal(value, before[name]) for name, value in opened.module.state_dict().items())
    other = twins_of(opened, protocol(seed=5), cases, tmp_path / "out")
    assert not torch.equal(other.modules["twin-1"](x), first.modules["twin-1"](x))


def test_a_twin_that_cannot_be_calibrated_is_a_row_that_says_why(opened, tmp_path):
    made = twins_of(opened, protocol(twins={"random": 1}), [], tmp_path / "out")
    assert made.modules == {}
    assert "images" in made.rows[0].degenerate


def test_a_method_whose_twin_maps_are_empty_is_not_compared_with():
    rows = [("twin-1:grad_cam", "zero_map", 1.0), ("twin-1:grad_cam", "auprc", 0.1)]
    rows += [("twin-1:lrp", "zero_map", 0.0), ("twin-1:lrp", "auprc", 0.2), ("grad_cam", "auprc", 0.3)]
    table = pd.DataFrame(rows, columns=["method", "metric", "value"])
    kept, (twin,) = drop_zero_maps(table, [TwinRow(name="twin-1", kind="random weights")])
    assert set(kept.method) == {"twin-1:lrp", "grad_cam"}
    assert twin.zero_maps == {"grad_cam": 1.0, "lrp": 0.0}


def test_a_twin_is_measured_on_what_it_calls(opened, tmp_path):
    """A twin and its negative say the same: a negative logit makes no opponent that anything beats."""
    from copy import deepcopy

    from pipeline.attribution import attribute
    from pipeline.comparison import measure
    from pipeline.models.prepared import Prepared
    from pipeline.record.schema import CaseRow
    from pipeline.stages.audit import Audit
    from pipeline.stages.measuring import CaseWork
    from pipeline.stages.twins import TwinSet

    negative = deepcopy(opened.module)
    with torch.no_grad():
        negative[-1].weight.neg_()
        negative[-1].bias.neg_()
    unturned = ("guided_backprop", "sglrp", "clrp")
    audit = Audit(protocol(methods=["lrp", "grad_cam", *unturned]), opened, ("a", "b"), 1, None, tmp_path)
    audit.__dict__["twins"] = TwinSet((), {"twin-1": opened.module, "twin-2": negative})
    mask = np.zeros((24, 24), bool)
    mask[3:9, 4:15] = True
    prepared = Prepared(torch.rand(1, 3, 24, 24), np.eye(3), (24, 24), np.ones((24, 24), bool))
    work = CaseWork(Case("c", "c", tmp_path / "c"), audit, prepared, {"dots": mask}, None, CaseRow(case="c"))
    for method in ("lrp", "grad_cam", *unturned):
        work._add(method, 1, "seconds", 0.1)
    work.run_twins()
    rows = [r for r in work.measurements if r.metric in ("log2_mass_lift", "auprc")]
    for method in ("lrp", "grad_cam"):
        one, two = ([r.value for r in rows if r.method == f"twin-{n}:{method}"] for n in (1, 2))
        assert len(one) == 2
        assert one == pytest.approx(two, rel=1e-4)
    # what does not follow the sign of the score is measured as it was made, whatever the twin calls
    for method in unturned:
        for twin, module in (("twin-1", opened.module), ("twin-2", negative)):
            made = attribute(module, prepared.tensor, 1, method).values[0]
            plain = measure(made.sum(0).numpy(), {"m": mask}, prepared.field)["m"].auprc
            (got,) = [r.value for r in rows if r.method == f"{twin}:{method}" and r.metric == "auprc"]
            assert got == pytest.approx(plain, rel=1e-4), (twin, method)
