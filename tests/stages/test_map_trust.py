"""The maps of a cohort questioned end to end: what is found, what is left out, and what it costs."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pipeline.attribution import attribute
from pipeline.cohort import Case
from pipeline.errors import ProtocolError
from pipeline.findings.overview import find
from pipeline.models.card import ModelCard, Preprocessing
from pipeline.models.opening import OpenedModel
from pipeline.protocol import Criterion, Protocol
from pipeline.record.schema import write_arrays
from pipeline.record.trust import Trust
from pipeline.stages.audit import Audit
from pipeline.stages.map_trust import Questions
from pipeline.stages.setup import _check_names
from pipeline.trust.faithfulness import RANDOM_ORDERS, STEPS
from pipeline.trust.similarity import rank_correlation
from pipeline.verdict import judge

CASES, SIDE = 7, 48


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 6, 5, padding=2, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 2),
    ).eval()


def card(**more):
    return ModelCard(
        name="m",
        modality="fundus",
        architecture="none",
        weights="w",
        classes=("no", "yes"),
        target=1,
        preprocessing=Preprocessing(
            kind="fundus_square", shape=(SIDE, SIDE), mean=(0.0,) * 3, std=(1.0,) * 3
        ),
        trained_on="",
        **more,
    )


def protocol(**more):
    content = {
        "schema": "relevance-audit-protocol/1",
        "modality": "fundus",
        "model": "m",
        "cohort": "c.csv",
        "target": 1,
        "methods": ["gradient", "grad_cam", {"name": "occlusion", "options": {"patch": 8, "stride": 8}}],
        "disease": "diabetic_retinopathy",
        "criteria": [],
        "seed": 4,
    }
    return Protocol.model_validate(content | more)


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eyes")
    axis = np.linspace(-1, 1, 96)
    x, y = np.meshgrid(axis, axis)
    made = []
    for number in range(CASES):
        rng = np.random.default_rng(number)
        picture = np.full((96, 96, 3), (150, 80, 40)) + rng.integers(-30, 30, (96, 96, 3))
        for _ in range(6):
            row, column = rng.integers(25, 70, 2)
            picture[row : row + 4, column : column + 4] = (240, 230, 90) if number % 2 else (90, 20, 20)
        picture[np.hypot(x, y) > 0.95] = 0
        path = folder / f"{number}.png"
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(path)
        made.append(Case(f"c{number}", f"p{number}", path))
    return made


def audit_in(folder, cases, model=None, **more):
    opened = OpenedModel(model or network(), card(), "0" * 64, folder)
    return Audit(protocol(**more), opened, ("no", "yes"), 1, None, folder, calibration=tuple(cases))


@pytest.fixture(scope="module")
def questioned(cases, tmp_path_factory):
    """An audit whose occlusion maps were stored with the cases, and what was found of its maps."""
    folder = tmp_path_factory.mktemp("audit")
    audit = audit_in(folder, cases)
    (folder / "cases").mkdir()
    for case in cases:
        prepared = _prepared(audit, case)
        made = attribute(audit.model.module, prepared.tensor, 1, method="occlusion", patch=8, stride=8)
        write_arrays(
            folder / "cases" / f"{case.case}.npz",
            {"map_occlusion_class-1": made.values[0].sum(0).numpy()},
        )
    found = Trust()
    Questions(audit, cases).answer(found)
    return audit, found


def _prepared(audit, case):
    from pipeline.images import read_photograph

    return audit.model.prepare(read_photograph(case.image))


def test_every_question_has_its_answer_and_what_was_left_out_is_said(questioned):
    _, found = questioned
    rows = {row.method: row for row in found.maps}
    assert list(rows) == ["gradient", "grad_cam", "occlusion"]
    for name in ("gradient", "grad_cam"):
        row = rows[name]
        assert [(s.layers, s.of) for s in row.steps] == [(1, 3), (2, 3), (3, 3)]
        assert row.left.n == CASES
        assert "3 draws" in row.left.method
        assert row.draws == 3
        assert row.random_pairs.rank.n == CASES
        assert row.noise_rank.value > 0.5
    assert rows["occlusion"].steps == []
    assert rows["occlusion"].left.value is None
    assert rows["occlusion"].deletion.over_random.n == CASES
    assert len(rows["occlusion"].deletion.most_first) == STEPS + 1
    assert any("occlusion" in note for note in found.notes)


def test_the_forward_passes_are_as_estimated(questioned, cases):
    audit, found = questioned
    estimate = Questions(audit, cases).expected_passes()
    curves = 2 + (STEPS - 1) * (RANDOM_ORDERS + 2 * 3)
    # of two methods: three cascades of three steps, the first step in one of them only; three noisy images
    maps = 2 * 3 * ((3 + 2 + 2) + 3)
    # mapped once by the two methods that were not stored; the last step alone has BatchNorm to calibrate
    assert found.passes == CASES * (2 * 3 + curves + maps + 3)
    assert estimate == found.passes + CASES * 2 * 3


def test_agreement_is_the_correlation_of_the_maps_themselves(questioned, cases):
    audit, found = questioned
    values = []
    for case in cases:
        prepared = _prepared(audit, case)
        gradient, cam = (
            attribute(audit.model.module, prepared.tensor, 1, method=m).values[0].sum(0).abs().numpy()
            for m in ("gradient", "grad_cam")
        )
        values.append(rank_correlation(gradient, cam, prepared.field))
    rows = {row.method: row for row in found.maps}
    assert rows["gradient"].agreement["grad_cam"].value == pytest.approx(np.mean(values), abs=1e-6)
    assert rows["grad_cam"].agreement["gradient"] == rows["gradient"].agreement["grad_cam"]


def test_a_criterion_reads_what_was_found(questioned):
    _, found = questioned
    rows = {row.method: row for row in found.maps}

    def asked(name, method, **bound):
        criterion = Criterion(name=name, method=method, **bound)
        return judge(criterion, find(criterion, None, 1, {}, (), None, found))

    left = asked("randomisation", "gradient", at_most=10.0)
    assert (left.answer, left.value) == ("met", rows["gradient"].left.value)
    assert asked("randomisation", "occlusion", at_most=10.0).answer == "undecided"
    fell = asked("deletion", "occlusion", at_least=-100.0)
    assert (fell.answer, fell.value) == ("met", rows["occlusion"].deletion.over_random.value)
    assert asked("deletion", "lrp", at_least=-100.0).answer == "undecided"


def test_criteria_that_no_questioned_map_could_answer_are_refused():
    criteria = [
        {"name": "randomisation", "method": "occlusion", "at_most": 0.5},
        {"name": "deletion", "method": "gradient", "at_least": 0},
    ]
    with pytest.raises(ProtocolError) as caught:
        _check_names(protocol(criteria=criteria, trust={"cases": 3}))
    assert "needs trust: {cases: 6}" in str(caught.value)
    assert "'randomisation' cannot be measured for occlusion" in str(caught.value)
    _check_names(protocol(criteria=criteria[1:]))


def test_asking_twice_gives_the_same(questioned, cases):
    audit, found = questioned
    again = Trust()
    Questions(audit, cases).answer(again)
    assert again.maps == found.maps


def test_a_map_that_ignores_the_weights_above_is_left_whole(cases, tmp_path):
    """The gradient of a network whose first layer decides alone stays; one that is read out anew goes."""

    class Fixed(nn.Module):
        """A sum of the image, scaled by a weight: every gradient map is the same up to its size."""

        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor([[1.0]]))
            self.register_buffer(
                "where", torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
            )

        def forward(self, x):
            z = torch.nn.functional.linear((x * self.where).flatten(1).sum(1, keepdim=True), self.scale)
            return torch.cat([-z, z], 1)

    found = Trust()
    Questions(audit_in(tmp_path, cases, Fixed().eval(), methods=["gradient"]), cases).answer(found)
    (row,) = found.maps
    assert row.random_pairs.rank.value == pytest.approx(1, abs=1e-6)
    assert row.left.value is None  # maps of random models are equal: nothing can be left or lost
    assert row.left.excluded == CASES


def test_models_trained_again_are_compared_where_the_card_names_them(cases, tmp_path, monkeypatch):
    audit = audit_in(tmp_path, cases, methods=["gradient"])
    named = card(twins={"retrained-1": "a", "shuffled_labels": "b"})
    opened = OpenedModel(audit.model.module, named, "0", tmp_path)
    audit = Audit(audit.protocol, opened, ("no", "yes"), 1, None, tmp_path, calibration=tuple(cases))
    modules = {"retrained-1": network(), "shuffled_labels": network(5)}
    monkeypatch.setattr(OpenedModel, "twin", lambda self, name: modules[name])
    found = Trust()
    questions = Questions(audit, cases)
    questions.answer(found)
    assert found.passes == questions.expected_passes() - 2 * 3 * CASES  # as above
    assert list(found.maps[0].retrained) == ["retrained-1"]
    assert found.maps[0].retrained["retrained-1"].value == pytest.approx(1)
