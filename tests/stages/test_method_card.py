"""Every method measured on a small model: numbers of direct calls, refusals as rows, costs counted."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pipeline.attribution import METHODS, attribute, logits
from pipeline.cohort import Case
from pipeline.models.card import ModelCard, Preprocessing
from pipeline.models.opening import OpenedModel
from pipeline.models.prepared import Prepared
from pipeline.protocol import Protocol
from pipeline.record.method_card import CardRow
from pipeline.record.schema import read_arrays
from pipeline.record.trust import Trust
from pipeline.stages import method_card
from pipeline.stages.audit import Audit
from pipeline.stages.card_cases import CardCase, card_case, card_picture
from pipeline.stages.method_card import Asked, CardPlan, _measure
from pipeline.trust.concentration import gini
from pipeline.trust.similarity import rank_correlation

SIDE = 32


def network(dims=2):
    torch.manual_seed(3)
    convolution, pool = (nn.Conv2d, nn.AdaptiveAvgPool2d) if dims == 2 else (nn.Conv3d, nn.AdaptiveAvgPool3d)
    return nn.Sequential(
        convolution(3 if dims == 2 else 1, 6, 3, padding=1),
        nn.ReLU(),
        convolution(6, 4, 3, padding=1, stride=2),
        nn.ReLU(),
        pool(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    ).eval()


def audit_of(folder, modality="fundus", methods=("gradient",)):
    content = {
        "schema": "relevance-audit-protocol/1",
        "modality": modality,
        "model": "m",
        "cohort": "c.csv",
        "target": 1,
        "methods": list(methods),
        "disease": "diabetic_retinopathy" if modality == "fundus" else "alzheimer",
        "criteria": [],
        "seed": 4,
    }
    card = ModelCard(
        name="m",
        modality="fundus",
        architecture="none",
        weights="w",
        classes=("no", "yes"),
        target=1,
        preprocessing=Preprocessing(
            kind="fundus_square", shape=(SIDE, SIDE), mean=(0.4, 0.3, 0.2), std=(0.2, 0.2, 0.2)
        ),
        trained_on="",
    )
    model = network(2 if modality == "fundus" else 3)
    opened = OpenedModel(model, card if modality == "fundus" else None, "0" * 64, folder)
    return Audit(Protocol.model_validate(content), opened, ("no", "yes"), 1, None, folder)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("card")
    axis = np.linspace(-1, 1, 64)
    x, y = np.meshgrid(axis, axis)
    cases = []
    for number in range(4):
        rng = np.random.default_rng(number)
        picture = np.full((64, 64, 3), (150, 80, 40)) + rng.integers(-40, 40, (64, 64, 3))
        picture[np.hypot(x, y) > 0.95] = 0
        lesion = np.hypot(x - 0.3, y) < 0.15
        picture[lesion] = (230, 220, 90)
        path, marks = folder / f"{number}.png", folder / f"marks-{number}.png"
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(path)
        Image.fromarray((lesion * 255).astype(np.uint8)).save(marks)
        cases.append(Case(f"c{number}", f"p{number}", path, "1", {"exudates": (marks,)}))
    methods = ({"name": "occlusion", "options": {"patch": 4, "stride": 4}}, "gradient")
    audit = audit_of(folder, methods=methods)
    found = Trust()
    CardPlan(audit, cases).measure(found)
    return audit, cases, found


def test_every_method_has_a_row_and_a_refusal_says_why(measured):
    rows = {row.method: row for row in measured[2].card.rows}
    assert list(rows) == list(METHODS)
    refused = {name: row.refused for name, row in rows.items() if row.refused}
    assert refused == {
        "region_occlusion": "no regions: the protocol names no atlas",
        "mace": "no concepts were learnt: the protocol does not ask for them",
    }
    assert all(row.needs == METHODS[name].needs for name, row in rows.items())


def test_numbers_are_those_of_direct_calls(measured):
    audit, cases, found = measured
    card = found.card
    assert card.cases == ["c0", "c1"]
    row = next(row for row in card.rows if row.method == "gradient")
    seen = [card_case(audit, case) for case in cases[:2]]
    pairs = [[_map(audit, one.image, "gradient", target) for target in (1, 0)] for one in seen]
    expected = [rank_correlation(a, b, one.field) for (a, b), one in zip(pairs, seen, strict=True)]
    assert row.class_signed == pytest.approx(np.median(expected), abs=1e-6)
    expected = [gini(a, one.field) for (a, _), one in zip(pairs, seen, strict=True)]
    assert row.gini == pytest.approx(np.median(expected), abs=1e-6)
    moved = [rank_correlation(a, _map(audit, one.noisy, "gradient", 1), one.field) for (a, _), one in zip(pairs, seen, strict=True)]  # fmt: skip  # noqa: E501
    assert row.noise == pytest.approx(np.median(moved), abs=1e-6)
    assert card.logits == pytest.approx([float(logits(audit.model.module, one.image)[0, 1]) for one in seen])
    assert len(card.logits_exchanged) == 2
    assert row.cases == 2
    assert row.passes == pytest.approx(2.0, abs=0.3)


def test_costly_methods_are_measured_on_one_case_the_dearest_without_copies(measured):
    rows = {row.method: row for row in measured[2].card.rows}
    assert rows["smooth_grad"].passes > method_card.COSTLY
    assert rows["smooth_grad"].cases == 1
    assert rows["smooth_grad"].noise is not None
    assert rows["integrated_gradients"].passes > method_card.DEAREST
    assert rows["integrated_gradients"].noise is None
    assert rows["integrated_gradients"].class_signed is not None


def test_the_passes_are_those_of_all_maps_that_were_made(measured):
    card = measured[2].card
    copies = {True: 2, False: 4}  # target and other class; noise and colours as well
    spent = sum(
        r.passes * r.cases * copies[r.passes >= method_card.DEAREST] for r in card.rows if not r.refused
    )
    assert measured[2].passes == pytest.approx(spent, rel=0.05)


def test_the_passes_are_forecast(measured):
    """At most a quarter more than is counted, and hardly less: LRP is forecast as on the dearest network."""
    audit, cases, found = measured
    plan = CardPlan(audit, cases)
    assert 0.97 * found.passes < plan.expected_passes() < 1.25 * found.passes
    counted = {row.method: row.passes for row in found.card.rows if not row.refused}
    expected = {one.card.name: one.passes for one in plan.methods if not one.refused}
    assert expected.keys() == counted.keys()
    for name, passes in expected.items():
        assert 0.9 * counted[name] <= passes <= 3 * counted[name], name


def test_the_report_gets_every_map_as_a_share_of_its_scale(measured):
    audit, _, found = measured
    arrays = read_arrays(audit.folder / method_card.PICTURE)
    assert arrays["marks_exudates"].any()
    for row in found.card.rows:
        assert (f"map_{row.method}" in arrays) == (not row.refused)
    field = arrays["field"]
    assert np.percentile(np.abs(arrays["map_gradient"][field]), 99.5) == pytest.approx(1, abs=0.02)


def test_what_cannot_be_compared_is_left_out(tmp_path):
    """A method that refuses the other class has no class similarity, and keeps the rest."""
    audit = audit_of(tmp_path)
    with torch.no_grad():  # only class 1 reads anything, so that the rectified Grad-CAM of 0 is zero
        audit.model.module[-1].weight.copy_(torch.tensor([[0.0] * 4, [1.0] * 4]))
    image = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    field = np.ones((SIDE, SIDE), bool)
    case = CardCase("c", Prepared(image, np.eye(3), field.shape, field), 0, np.ones(2), image + 0.01, None, None, "", None, {})  # fmt: skip  # noqa: E501
    row = CardRow(method="guided_grad_cam")
    _measure(Asked(audit, METHODS["guided_grad_cam"], {}, 10**9), [case], row, copies=True)
    assert row.class_signed is None
    assert row.distinction == ""
    assert row.noise is not None
    assert row.colour is None


def test_a_volume_has_regions_and_one_coronal_slice(tmp_path):
    audit = audit_of(tmp_path, "mri")
    image = torch.rand(1, 1, 10, 12, 8)
    field = np.ones((10, 12, 8), bool)
    labels = np.zeros(field.shape, np.int32)
    labels[:5], labels[5:, :, :4], labels[5:, :, 4:] = 3, 5, 9
    affine = np.array([[0, 0, 2.0, 1], [3.0, 0, 0, 2], [0, 1.5, 0, 3], [0, 0, 0, 1]])  # y runs along axis 0
    prepared = Prepared(image, np.eye(4), field.shape, field, affine)
    expected = np.zeros(field.shape, bool)
    expected[7] = True
    case = CardCase("c", prepared, 0, np.array([3.0, 1.5, 2.0]), image, None, labels, "", expected, {})
    rows = {}
    for name in ("region_occlusion", "gradient"):
        rows[name] = CardRow(method=name)
        values = _measure(Asked(audit, METHODS[name], {}, 1), [case], rows[name], copies=False)
    scores = attribute(audit.model.module, image, 1, "region_occlusion", torch.from_numpy(labels).long())
    sizes = np.sort(np.abs(scores.region_scores[0].numpy()))[::-1]
    assert rows["region_occlusion"].regions == 1 + np.flatnonzero(np.cumsum(sizes) >= 0.8 * sizes.sum())[0]
    assert rows["gradient"].regions_present == 3
    assert rows["gradient"].width == pytest.approx(
        rows["gradient"].width_pixels * np.cbrt(3 * 1.5 * 2), rel=1e-6
    )
    arrays = card_picture(audit, case, {"gradient": values})
    assert arrays["map_gradient"].shape == (1, 12, 8)
    assert np.allclose(arrays["affine"][:3, 3], affine[:3, 3] + 7 * affine[:3, 0])
    assert np.allclose(arrays["image"], image[0, 0, 7:8])
    plain = card_picture(audit, replace(case, expected=None), {"gradient": np.zeros(field.shape, np.float32)})
    assert not plain["map_gradient"].any()


def _map(audit, image, method, target):
    return attribute(audit.model.module, image, target, method).values[0].sum(0).numpy()
