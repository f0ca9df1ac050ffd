"""A whole cohort: a model that reads the vignette is found out, results are kept, bad cohorts are notes."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pipeline.cohort import Case, Cohort
from pipeline.findings.interventions import find_in_interventions
from pipeline.interventions import Subject
from pipeline.models.card import ModelCard, Preprocessing
from pipeline.models.opening import OpenedModel
from pipeline.phantoms.retina import retina_phantom
from pipeline.protocol import Criterion, CuePatch, Protocol
from pipeline.record.interventions import Interventions
from pipeline.record.schema import CaseResult, CaseRow
from pipeline.stages.audit import Audit
from pipeline.stages.intervene import _cover, _key, _remove, battery, intervene
from pipeline.stages.intervene_cases import Member, Score, _member, own_cue
from pipeline.stages.intervene_data import relate
from pipeline.verdict import decide, judge

SIDE, CASES = 96, 12
CLASSES = ("not referable", "referable")


class VignetteReader(nn.Module):
    """Says how much darker the rim is than the middle: a shortcut and nothing else."""

    def __init__(self):
        super().__init__()
        y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
        r = np.hypot(y, x) / (SIDE / 2)
        middle, rim = r < 0.5, (r > 0.75) & (r < 0.9)
        weight = middle / middle.sum() - rim / rim.sum()
        self.register_buffer("weight", torch.tensor(weight / 3, dtype=torch.float32))

    def forward(self, x):
        z = 40 * (x * self.weight).sum((1, 2, 3))
        return torch.stack([torch.zeros_like(z), z - 1.5], 1)


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    folder = tmp_path_factory.mktemp("retinas")
    cases = []
    for i in range(CASES):
        label = i % 2
        phantom = retina_phantom(100 + i, 3 if label else 0, size=256, vignette=0.6 * label, exposure=1.0)
        marks = np.zeros(phantom.photograph.shape, bool)
        for name in ("microaneurysms", "haemorrhages", "hard_exudates", "soft_exudates"):
            marks |= phantom.masks[name]
        Image.fromarray(np.round(phantom.photograph.data * 255).astype(np.uint8)).save(folder / f"{i}.png")
        Image.fromarray(marks.astype(np.uint8) * 255).save(folder / f"{i}_marks.png")
        covariates = {"age": str(50 + i), "site": "AB"[i % 3 == 0]}
        masks = {"lesions": (folder / f"{i}_marks.png",)} if label else {}
        cases.append(Case(f"c{i}", f"p{i}", folder / f"{i}.png", str(label), masks, covariates))
    Image.linear_gradient("L").resize((20, 10)).convert("RGB").save(folder / "logo.png")
    protocol = Protocol(
        schema="relevance-audit-protocol/1",
        modality="fundus",
        model="m",
        cohort="c",
        target=1,
        methods=("gradient",),
        disease="diabetic_retinopathy",
        criteria=(),
        seed=1,
        cues=(CuePatch(name="logo", image=str(folder / "logo.png"), place=(0.5, 0.5), width=0.3),),
    )
    card = ModelCard(
        name="reader",
        modality="fundus",
        architecture="none",
        weights="none",
        classes=CLASSES,
        target=1,
        preprocessing=Preprocessing(kind="fundus_square", shape=(SIDE, SIDE), mean=(0, 0, 0), std=(1, 1, 1)),
        trained_on="nothing",
    )
    model = OpenedModel(VignetteReader().eval(), card, "0" * 64, folder)
    audit = Audit(protocol, model, CLASSES, 1, None, folder)
    results = [
        CaseResult(key=c.case, patient=c.patient, row=CaseRow(case=c.case, label=int(c.label))) for c in cases
    ]
    return SimpleNamespace(
        audit=audit, cohort=Cohort(tuple(cases), "test", patients_given=True), results=results
    )


@pytest.fixture(scope="module")
def found(setting):
    return intervene(setting.audit, setting.cohort, setting.results)


def test_the_shortcut_carries_the_decision_and_is_flagged_by_name(found):
    shares = {f.name: f.share for f in found.factors}
    assert sum(s.value for s in shares.values()) == pytest.approx(1)
    assert shares["style"].low > 0.5
    assert shares["lesions"].high < 0.3
    assert found.pairs == 32
    criterion = Criterion(name="other_share", at_most=0.25)
    result = judge(criterion, find_in_interventions(criterion, found))
    assert (result.answer, result.detail) == ("not met", "light, colour, sharpness")


def test_every_cue_is_tried_on_both_classes_and_those_of_the_protocol_too(found):
    tried = {(c.name, c.positive) for c in found.cues}
    assert {("vignette", False), ("vignette", True), ("logo", False), ("mirror", True)} <= tried
    vignette = next(c for c in found.cues if c.name == "vignette" and not c.positive)
    assert vignette.shift.low > 1
    assert vignette.flips.value > 0.5


def test_removing_lesions_does_nothing_to_a_model_that_does_not_see_them(found):
    assert abs(found.removals[0].difference.value) < 0.2
    assert {c.covariate for c in found.covariates} == {"age in years", "site"}


def test_results_are_kept_and_renewed_when_a_case_changes(setting, found):
    path = setting.audit.folder / "interventions.json"
    written = path.stat().st_mtime_ns
    assert intervene(setting.audit, setting.cohort, setting.results) == found
    assert path.stat().st_mtime_ns == written
    changed = [setting.results[0].model_copy(update={"key": "other"}), *setting.results[1:]]
    few = replace(setting.cohort, cases=setting.cohort.cases[:4])
    again = intervene(setting.audit, few, changed)
    assert again.key != found.key
    assert not any(f.share.low for f in again.factors)


def test_one_class_alone_is_a_note(setting, tmp_path):
    audit = replace(setting.audit, folder=tmp_path)
    only = [r for r in setting.results if r.row.label == 1]
    assert "both classes" in intervene(audit, setting.cohort, only).notes[0]


class Broken(nn.Module):
    """Gives no number as soon as something bright lies in a corner."""

    def forward(self, x):
        z = torch.where(x[:, :, -8:, :8].amax((1, 2, 3)) > 0.5, torch.nan, x.mean((1, 2, 3)))
        return torch.stack([torch.zeros_like(z), z], 1)


class Constant(nn.Module):
    """Says the same of every image."""

    def forward(self, x):
        return torch.zeros(len(x), 2) + 0 * x.mean()


@pytest.mark.parametrize("model", [Broken(), Constant()])
def test_no_model_passes_for_lack_of_numbers(setting, tmp_path, model):
    audit = replace(setting.audit, folder=tmp_path, model=replace(setting.audit.model, module=model))
    found = intervene(audit, setting.cohort, setting.results)
    wanted = [
        Criterion(name="target_share", at_least=0.1),
        Criterion(name="other_share", at_most=0.9),
        Criterion(name="covariate_link", at_most=0.9),
        Criterion(name="removal_effect", at_least=-0.01),
    ]
    if isinstance(model, Broken):
        wanted.append(Criterion(name="cue_shift", at_most=5))
    results = [judge(c, find_in_interventions(c, found)) for c in wanted]
    answers = {r.name: r.answer for r in results}
    assert answers["target_share"] == answers["other_share"] == "undecided"
    assert answers.get("cue_shift", "undecided") == "undecided"
    assert decide(results).answer == "inconclusive"


@pytest.mark.parametrize("few", [5, 10])
def test_few_patients_settle_nothing(setting, tmp_path, few):
    audit = replace(setting.audit, folder=tmp_path)
    found = intervene(audit, setting.cohort, setting.results[:few])
    for criterion in (
        Criterion(name="target_share", at_least=-9),
        Criterion(name="other_share", at_most=9),
        Criterion(name="cue_shift", at_most=99),
        Criterion(name="covariate_link", at_most=0.999),
    ):
        assert judge(criterion, find_in_interventions(criterion, found)).answer == "undecided"


def test_without_ages_nothing_is_known_of_age(setting, tmp_path):
    audit = replace(setting.audit, folder=tmp_path)
    cases = tuple(replace(c, covariates={"site": "A"}) for c in setting.cohort.cases)
    found = intervene(audit, replace(setting.cohort, cases=cases), setting.results)
    criterion = Criterion(name="covariate_link", at_most=0.999)
    assert judge(criterion, find_in_interventions(criterion, found)).answer == "undecided"


def test_a_mended_covariate_renews_what_was_stored(setting):
    """Pairs are matched on age and sex, and the score is held against them: no file of a case changes."""
    older = tuple(replace(c, covariates={**c.covariates, "age": "71"}) for c in setting.cohort.cases)
    others = replace(setting.cohort, cases=older)
    assert _key(setting.audit, others, setting.results) != _key(
        setting.audit, setting.cohort, setting.results
    )


def member(number, *, positive=True, **changes):
    shape = (24, 24)
    made = Member(
        Subject(f"c{number}", f"p{number}", positive),
        np.full((3, *shape), 0.5, np.float32),
        np.ones(shape, bool),
        np.ones(2),
        1.0,
        {},
    )
    return replace(made, **changes)


def test_regions_of_one_class_alone_are_not_covered(setting):
    table = {1: "Hippocampus_L", 2: "Hippocampus_R", 3: "Cerebellum_Crus1_L"}
    audit = replace(setting.audit, atlas=SimpleNamespace(table=table))
    audit = replace(audit, protocol=audit.protocol.model_copy(update={"disease": "alzheimer"}))
    labels = np.ones((24, 24), int)
    members = [member(i, labels=labels) for i in range(3)]
    members += [
        member(i, positive=False, labels=labels, why_not_swapped="not registered") for i in range(3, 6)
    ]
    found = Interventions()
    _cover(audit, members, None, found)
    assert not found.fills
    assert "one class only" in found.notes[0]


def test_lesions_that_fill_the_eye_have_no_control_and_prove_nothing(setting):
    """Without room elsewhere the control would be the untouched image, and any removal would beat it."""
    lesions = np.zeros((24, 24), bool)
    lesions[2:20, 2:20] = True
    members = [member(i, lesions=lesions) for i in range(6)]
    found = Interventions()
    score = SimpleNamespace(of=lambda images: np.array([float(i.std()) for i in images]))
    _remove(setting.audit, members, score, found)
    assert not found.removals
    assert "6 of 6 cases" in found.notes[0]


def test_what_one_of_three_experts_marked_is_no_lesion(setting, tmp_path):
    case = setting.cohort.cases[1]
    (first,) = case.marks["lesions"]
    blank = tmp_path / "blank.png"
    Image.fromarray(np.zeros_like(np.asarray(Image.open(first)))).save(blank)
    score = Score(setting.audit)
    alone = _member(setting.audit, case, setting.results[1], score)
    outvoted = replace(case, marks={"lesions": (first, blank, blank)})
    assert alone.lesions.any()
    assert not _member(setting.audit, outvoted, setting.results[1], score).lesions.any()


def test_a_cue_is_as_large_on_every_grid(setting):
    """Photographs that are taken as read differ in size from case to case."""
    small, large = member(0), member(1, field=np.ones((48, 48), bool))
    images = [np.full((3, side, side), 0.2, np.float32) for side in (24, 48)]
    for cue in battery(setting.audit, [small, large]):
        if cue.name == "logo":
            changed = [
                (cue.apply(i, m.field) != i).any(0).mean()
                for i, m in zip(images, (small, large), strict=True)
            ]
            assert changed[0] == pytest.approx(changed[1], rel=0.15)
        assert [cue.apply(i, m.field).shape for i, m in zip(images, (small, large), strict=True)] == [
            i.shape for i in images
        ]


def test_a_group_of_one_patient_gets_no_number(setting):
    members = [
        member(i, clean=float(i), covariates={"site": "rare" if i < 2 else "usual", "sex": "FM"[i % 2]})
        for i in range(14)
    ]
    members += [member(20 + i, positive=False, covariates={"site": "usual", "sex": "F"}) for i in range(7)]
    found = Interventions()
    relate(setting.audit, members, None, found)
    rows = {(r.positive, r.covariate): r.figure for r in found.covariates}
    assert rows[True, "sex"].value is not None
    assert rows[True, "site"].value is None
    assert "fewer than 6" in rows[True, "site"].method


@pytest.mark.parametrize(
    ("colour", "size"), [(255, (30, 20)), ((255, 255, 255), (30, 20)), (255, (10, 9000))]
)
def test_a_bar_of_one_colour_is_a_cue_like_any(setting, tmp_path, colour, size):
    Image.new("L" if isinstance(colour, int) else "RGB", size, colour).save(tmp_path / "bar.png")
    patch = CuePatch(name="bar", image=str(tmp_path / "bar.png"), place=(0.5, 0.5), width=0.5)
    image = np.full((3, 24, 24), 0.2, np.float32)
    changed = own_cue(setting.audit, patch, (24, 24)).apply(image, np.ones((24, 24), bool))
    rows = 8 if size[1] == 20 else 24
    assert (changed == 1).all(0).sum() == 12 * rows
