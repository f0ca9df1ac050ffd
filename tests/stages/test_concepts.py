"""MACE in an audit: learnt once on the cohort, by patient; shown only where it is faithful."""

import json

import numpy as np
import pandas as pd
import pypdf
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from flows.audit import audit_cohort
from pipeline.case import audit_case
from pipeline.cohort import Case, Cohort
from pipeline.errors import ProtocolError
from pipeline.images import write_volume
from pipeline.models.opening import OpenedModel
from pipeline.protocol import Protocol
from pipeline.record.schema import read_record
from pipeline.stages import concepts as stage
from pipeline.stages.audit import Audit
from pipeline.stages.setup import _check_names
from reports import render_report
from reports.sections.concepts import build

SIDE, CASES = 32, 26
MACE = {"name": "mace", "options": {"epochs": 60, "learning_rate": 1e-3, "concepts": 4}}


def protocol(**more):
    content = {
        "schema": "relevance-audit-protocol/1",
        "modality": "fundus",
        "model": "m.pt",
        "cohort": "c.csv",
        "target": 1,
        "methods": ["cam", MACE],
        "disease": "diabetic_retinopathy",
        "criteria": [],
        "seed": 4,
        "nulls": [],
        "twins": {"random": 0},
        "case_pages": 3,
    }
    return Protocol.model_validate(content | more)


def spotter(dims: int) -> nn.Module:
    """Class 1 where the first channel has something brighter than its surroundings, in cells of a grid."""
    conv = (nn.Conv2d, nn.Conv3d)[dims - 2]
    pool = (nn.AvgPool2d, nn.AvgPool3d)[dims - 2]
    first, last = conv(3 if dims == 2 else 1, 2, 1), nn.Linear(2, 2)
    with torch.no_grad():
        first.weight.zero_()
        first.weight[:, 0] = 1.0
        first.bias.copy_(torch.tensor([-0.5, 0.0]))
        last.weight.copy_(torch.tensor([[-60.0, 0.0], [60.0, 0.0]]))
        last.bias.copy_(torch.tensor([1.0, -1.0]))
    average = (nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[dims - 2](1)
    return nn.Sequential(first, nn.ReLU(), pool(4 if dims == 2 else 8), average, nn.Flatten(), last).eval()


def draw(number: int, dims: int) -> np.ndarray:
    """A grey ball, every second one with a bright spot."""
    rng = np.random.default_rng(number)
    grid = np.stack(np.meshgrid(*[np.arange(SIDE)] * dims, indexing="ij")) - (SIDE - 1) / 2
    image = np.where((grid**2).sum(0) < 15**2, 0.3 + 0.05 * rng.random((SIDE,) * dims), 0.0)
    if number % 2:
        centre = rng.integers(-6, 7, dims).reshape(-1, *[1] * dims)
        image[((grid - centre) ** 2).sum(0) < (4 if dims == 2 else 7) ** 2] = 0.95
    return image


def write(folder, dims: int) -> Cohort:
    """Some patients have two images; a healthy one is labelled ill, so that its decision is wrong."""
    cases = []
    for number in range(CASES):
        image, name = draw(number, dims), f"case-{number}"
        if dims == 2:
            path = folder / f"{name}.png"
            Image.fromarray((image[..., None].repeat(3, 2) * 255).astype(np.uint8)).save(path)
        else:
            path = folder / f"{name}.nii.gz"
            write_volume(path, image.astype(np.float32), np.diag([2.0, 2, 2, 1]))
        label = "1" if number in (4, *range(1, CASES, 2)) else "0"
        patient = number // 2 if number < 8 else number
        cases.append(Case(name, f"patient-{patient}", path, label))
    (folder / "broken.png").write_bytes(b"no picture")
    cases.append(Case("broken", "patient-broken", folder / "broken.png", "0"))
    return Cohort(tuple(cases), "a test", patients_given=True)


def audit_of(folder, dims: int, asked: Protocol | None = None) -> tuple[Audit, Cohort]:
    folder.mkdir(exist_ok=True)
    cohort = write(folder, dims)
    opened = OpenedModel(spotter(dims), None, "0" * 64, folder)
    asked = asked or protocol(modality="fundus" if dims == 2 else "mri")
    audit = Audit(asked, opened, ("healthy", "ill"), 1, None, folder / "out", calibration=cohort.cases)
    return audit, cohort


def run(audit: Audit, cohort: Cohort):
    return audit_cohort(audit, cohort, lambda case: audit_case(case, audit))


@pytest.fixture(scope="module", params=[2, 3], ids=["photographs", "volumes"])
def finished(request, tmp_path_factory):
    audit, cohort = audit_of(tmp_path_factory.mktemp("audit"), request.param)
    record = run(audit, cohort)
    render_report(audit.folder)
    return audit, cohort, record


def test_concepts_of_a_faithful_state_are_shown_for_predicted_and_true_class(finished):
    audit, _, record = finished
    found = read_record(audit.folder).concepts
    assert found is not None
    assert found.faithful
    assert found.fidelity.value >= 0.9
    assert found.fidelity.low < found.fidelity.value
    assert found.deletion.low > 0, "the top concept matters more than another"
    pages = {row.case for row in record.cases if row.page}
    assert set(found.shown) == pages
    assert "case-4" in pages
    targets = [row.target for row in found.shown["case-4"]]
    assert 0 < targets.count(0) <= 3
    assert targets == sorted(targets), "predicted class before the true one"
    for case, rows in found.shown.items():
        with np.load(audit.folder / "cases" / f"{case}.npz") as arrays:
            for row in rows:
                assert arrays[row.array].shape == arrays["field"].shape
                assert arrays[row.array].mean() <= 0.11
    table = pd.read_parquet(audit.folder / "measurements.parquet")
    assert set(table[table.metric == "concepts_agree"].value) <= {0.0, 1.0}
    text = " ".join(page.extract_text() for page in pypdf.PdfReader(audit.folder / "report.pdf").pages)
    assert "Concepts in case case-4" in " ".join(text.split())
    assert len(list((audit.folder / "figures").glob("concepts-*.jpg"))) == len(pages)


def test_whole_patients_are_held_out(finished):
    _, cohort, record = finished
    owner = {case.case: case.patient for case in cohort.cases}
    learnt, held = (
        {owner[c] for c in part} for part in (record.concepts.learnt_from, record.concepts.held_out)
    )
    assert learnt
    assert held
    assert not learnt & held
    assert len(record.concepts.learnt_from) + len(record.concepts.held_out) == CASES
    assert record.concepts.fidelity.n == len(held)


def test_run_again_nothing_is_learnt_again(finished, monkeypatch):
    audit, cohort, record = finished
    before = (audit.folder / "concepts.safetensors").read_bytes()
    monkeypatch.setattr(stage, "_learn", lambda *_: pytest.fail("learnt again"))
    fresh = Audit(
        audit.protocol, audit.model, audit.classes, 1, None, audit.folder, calibration=audit.calibration
    )
    again = audit_cohort(fresh, cohort, lambda case: pytest.fail(f"{case.case} again"))
    assert again.concepts == record.concepts
    assert (audit.folder / "concepts.safetensors").read_bytes() == before
    assert load_file(audit.folder / "concepts.safetensors")


def test_a_cut_state_is_learnt_again_and_an_added_image_too(tmp_path):
    audit, _ = audit_of(tmp_path / "a", 2, protocol(methods=[{"name": "mace", "options": {"epochs": 2}}]))
    first = stage.concepts_of(audit)
    (audit.folder / "concepts.json").write_text("{")
    assert stage.concepts_of(audit).learning.fidelity == first.learning.fidelity
    key = audit.settings_key
    Image.fromarray(np.full((SIDE, SIDE, 3), 9, np.uint8)).save(audit.calibration[3].image)
    later = Audit(audit.protocol, audit.model, audit.classes, 1, None, audit.folder, audit.calibration)
    assert later.settings_key != key
    assert stage.concepts_key(later) != stage.concepts_key(
        Audit(audit.protocol, audit.model, audit.classes, 1, None, audit.folder, audit.calibration[1:])
    )


def test_an_unfaithful_state_shows_nothing_and_the_report_says_so(tmp_path):
    hardly = {"name": "mace", "options": {"epochs": 1, "learning_rate": 1e-9}}
    audit, cohort = audit_of(tmp_path / "a", 2, protocol(methods=["cam", hardly]))
    record = run(audit, cohort)
    assert not record.concepts.faithful
    assert not record.concepts.shown
    assert not any("mace" in name for row in record.cases for name in row.maps)
    section = section_of(record, audit.folder)
    (callout,) = [block for block in section.blocks if block.kind == "callout"]
    assert callout.title == "Concepts are not shown"
    assert "own decision in only" in callout.items[0]
    assert "90 %" in callout.items[0]
    assert len(callout.items) == 1


def test_a_cohort_too_small_is_one_sentence_and_the_other_methods_go_on(tmp_path):
    audit, cohort = audit_of(tmp_path / "a", 2)
    few = Cohort(cohort.cases[:4], cohort.source, patients_given=True)
    audit = Audit(audit.protocol, audit.model, audit.classes, 1, None, audit.folder, calibration=few.cases)
    record = run(audit, few)
    assert "fewer than 10" in record.concepts.refused
    assert [row.maps for row in record.cases] == [["cam_class-1"]] * 4
    section = section_of(record, audit.folder)
    assert section.blocks[0].items[0].startswith("None could be learnt: the model decides the same for all 4")
    assert stage.concepts_of(audit).learning.refused == record.concepts.refused


@pytest.mark.parametrize(
    ("options", "message"),
    [({"epoch": 3}, "no option 'epoch'"), ({"epochs": 0}, "epochs=0"), ({"held_out": 0.9}, "held_out"),
     ({"concepts": 1}, "from 2"), ({"state": "x"}, "no option 'state'")],
)  # fmt: skip
def test_options_are_checked_before_the_run(options, message):
    with pytest.raises(ProtocolError, match=message):
        _check_names(protocol(methods=[{"name": "mace", "options": options}]))
    _check_names(protocol())


def test_mace_has_no_twins():
    with pytest.raises(ProtocolError, match="belong to one model"):
        _check_names(protocol(twins={"random": 1, "methods": ["mace"]}))


def section_of(record, folder):
    from reports.context import Context

    return build(Context(folder, record, folder))


def test_what_is_stored_is_plain(finished):
    stored = json.loads((finished[0].folder / "concepts.json").read_text())
    assert set(stored) == {"key", "learning"}
    assert str(finished[0].folder) not in json.dumps(stored)
