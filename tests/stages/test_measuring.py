"""The maps of one case: both classes of a wrong decision at once, and the map as a segmentation."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pipeline.attribution.localisation import localise
from pipeline.case import audit_case
from pipeline.cohort import Case
from pipeline.errors import ModelError
from pipeline.findings.experts import _overlaps
from pipeline.models.graph.operation import Operation
from pipeline.models.opening import OpenedModel
from pipeline.protocol import Protocol
from pipeline.stages.audit import Audit
from pipeline.stages.measuring import on_model_grid

SIDE = 48


class Finder(nn.Module):
    """Class 1 where something green is brighter than the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 2, 3, padding=1, bias=False)
        self.last = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.first.weight.zero_()
            self.first.weight[0, 1, 1, 1] = 1.0
            self.first.weight[1, 0, 1, 1] = 1.0
            self.last.weight.copy_(torch.tensor([[-1.0, 1.0], [8.0, -1.0]]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(x).relu().mean((2, 3)))


@pytest.fixture
def audit(tmp_path):
    protocol = Protocol.model_validate(
        {
            "schema": "relevance-audit-protocol/1",
            "modality": "fundus",
            "model": "m.pt",
            "cohort": "c.csv",
            "target": 1,
            "methods": ["lrp", "gradient", "cam"],
            "disease": "diabetic_retinopathy",
            "criteria": [],
            "seed": 4,
            "nulls": ["contrast"],
            "twins": {"random": 0},
        }
    )
    model = OpenedModel(Finder().eval(), None, "0" * 64, tmp_path)
    return Audit(protocol, model, ("healthy", "diseased"), 1, None, tmp_path / "out")


@pytest.fixture
def case(tmp_path):
    """A grey eye with one bright green lesion, labelled healthy: the decision is wrong."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    field, lesion = x**2 + y**2 < 22**2, (x - 6) ** 2 + (y + 4) ** 2 < 6**2
    pixels = np.zeros((SIDE, SIDE, 3))
    pixels[field] = 60
    pixels[field & lesion] = (60, 220, 60)
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "eye.png")
    Image.fromarray((lesion * 255).astype(np.uint8)).save(tmp_path / "marks.png")
    return Case("eye", "eye", tmp_path / "eye.png", "0", {"exudates": (tmp_path / "marks.png",)})


def test_a_wrong_case_has_maps_of_both_classes_from_one_forward_pass(audit, case, monkeypatch):
    convolved = []
    compute = Operation.compute

    def counted(op, values, images):
        convolved.extend([op.name] * (op.kind == "convolution") * images)
        return compute(op, values, images)

    monkeypatch.setattr(Operation, "compute", counted)
    result = audit_case(case, audit)
    assert result.row.predicted == 1
    assert result.row.maps == [f"{m}_class-{t}" for m in ("lrp", "gradient", "cam") for t in (0, 1)]
    assert len(convolved) == 1 + 3, "the decision, and one forward pass a method"
    assert {m.target for m in result.measurements if m.metric == "seconds"} == {0, 1}
    assert not result.errors


def test_a_class_that_is_refused_does_not_take_the_other_down(audit, case, monkeypatch):
    methods = [{"name": "guided_grad_cam"}]
    with torch.no_grad():  # nothing speaks for class 0 in any cell
        audit.model.module.last.weight[0] = torch.tensor([-1.0, -1.0])
    protocol = Protocol.model_validate(audit.protocol.model_dump(by_alias=True) | {"methods": methods})
    found = audit_case(case, Audit(protocol, audit.model, audit.classes, 1, None, audit.folder))
    assert found.row.maps == ["guided_grad_cam_class-1"]
    assert [e.stage for e in found.errors] == ["guided_grad_cam"]
    assert "target 0" in found.errors[0].reason


def test_the_map_as_a_segment_is_measured_against_the_marks(audit, case):
    result = audit_case(case, audit)
    values = {m.metric: m.value for m in result.measurements if m.method == "cam" and m.lesion == "exudates"}
    assert {"otsu_dice", "otsu_iou", "grown_dice", "grown_iou"} <= set(values)
    prepared = audit.model.prepare(_photograph(case))
    curve = next(row for row in result.curves if row.method == "cam")
    with np.load(audit.folder / "cases" / "eye.npz") as arrays:
        found = localise(arrays["map_cam_class-1"], prepared.tensor[0].numpy(), field=prepared.field).mask
        marked = arrays["marks_exudates"] & arrays["field"]
    dice = 2 * (found & marked).sum() / (found.sum() + marked.sum())
    assert values["grown_dice"] == pytest.approx(dice)
    assert values["grown_iou"] == pytest.approx(dice / (2 - dice))
    assert curve.grown == (values["grown_dice"], values["grown_iou"])
    assert dice > 0.5
    (row, *_) = _overlaps([result], ["cam"])
    assert row.method == "cam"
    assert row.grown_dice.value == pytest.approx(dice)
    assert row.grown_dice.n == 1


def _photograph(case):
    from pipeline.images import read_photograph

    return read_photograph(case.image)


def test_every_method_keeps_a_small_map_of_what_speaks_for_the_answer(audit, case):
    from dataclasses import replace

    from pipeline.case import case_key, finished_case
    from pipeline.record.small_maps import FUNDUS, small_map, unpacked

    result = audit_case(case, audit)
    assert set(result.small_maps) == {"lrp", "gradient", "cam"}
    with np.load(audit.folder / "cases" / "eye.npz") as arrays:
        expected = small_map(np.maximum(arrays["map_lrp_class-1"], 0), arrays["field"])
    assert np.abs(unpacked(result.small_maps["lrp"], FUNDUS) - expected / expected.max()).max() < 1e-3
    assert finished_case(case, audit) == result
    left = replace(case, covariates={"eye": "left"})
    assert case_key(left, audit, {}) != case_key(case, audit, {})
    mirrored = unpacked(audit_case(left, audit).small_maps["lrp"], FUNDUS)
    assert np.allclose(mirrored[0], unpacked(result.small_maps["lrp"], FUNDUS)[0][:, ::-1])


def test_where_the_class_is_not_called_what_speaks_against_it_is_kept(audit, case):
    from pipeline.record.small_maps import FUNDUS, small_map, unpacked

    with torch.no_grad():
        audit.model.module.last.weight[0] = torch.tensor([50.0, 50.0])
    result = audit_case(case, audit)
    assert result.row.predicted == 0
    with np.load(audit.folder / "cases" / "eye.npz") as arrays:
        values = arrays["map_lrp_class-1"]
        against = small_map(np.maximum(-values, 0), arrays["field"])
    kept = unpacked(result.small_maps["lrp"], FUNDUS)
    assert np.abs(kept - against / max(against.max(), 1e-30)).max() < 1e-3


@pytest.mark.parametrize("finer", [0.5, 1, 2])
def test_a_mark_covers_its_place_on_a_finer_and_on_a_coarser_grid(finer):
    mask = np.zeros((24, 24), bool)
    mask[6:18, 6:18] = True
    side = int(24 * finer)
    step, shift = 1 / finer, 0.5 / finer - 0.5
    transform = np.array([[step, 0, shift], [0, step, shift], [0, 0, 1]])
    prepared = SimpleNamespace(field=np.ones((side, side), bool), native_from_model=transform)
    expected = np.zeros((side, side), bool)
    expected[side // 4 : 3 * side // 4, side // 4 : 3 * side // 4] = True
    np.testing.assert_array_equal(on_model_grid(mask, prepared), expected)


@pytest.mark.parametrize("weight", [float("nan"), float("inf")])
def test_a_case_without_a_finite_score_is_refused_and_leaves_no_result(audit, case, weight):
    """A stored NaN becomes null: neither the case nor the record could be read again."""
    with torch.no_grad():
        audit.model.module.last.weight[1] = weight
    with pytest.raises(ModelError, match=r"eye\.png: the model's scores of it are not finite"):
        audit_case(case, audit)
    assert not list(audit.folder.glob("cases/*"))
