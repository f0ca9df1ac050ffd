"""From the cohort table to record and report: where the regions came from, what was refused, in pictures."""

import json

import nibabel as nib
import numpy as np
import pypdf
import pytest
import torch
import yaml
from PIL import Image
from torch import nn

from flows.cli import main
from pipeline.case import audit_case
from pipeline.findings.conclusion import conclude, tidy
from pipeline.images.volumes import write_volume
from pipeline.phantoms.brain import brain_phantom
from pipeline.phantoms.retina import retina_phantom
from pipeline.protocol import load_protocol
from pipeline.record.schema import read_arrays, read_record
from pipeline.stages.setup import check_cases, set_up
from reports import render_report

LUT = "#No. Label Name: R G B A\n17 Left-Hippocampus 1 2 3 0\n53 Right-Hippocampus 1 2 3 0\n"
PROTOCOL = {
    "schema": "relevance-audit-protocol/1",
    "modality": "mri",
    "model": "model.pt",
    "cohort": "cohort.csv",
    "target": 1,
    "methods": ["gradient", "region_occlusion"],
    "atlas": "AAL",
    "disease": "alzheimer",
    "criteria": [],
    "seed": 1,
    "nulls": ["random"],
    "twins": {"random": 0},
    "case_pages": 2,
}


def inputs(folder, table):
    """A network that takes images as they are, one brain, two hippocampi of its own, and a cohort."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv3d(1, 4, 3, stride=2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(),
        nn.Linear(4, 2),
    )  # fmt: skip
    phantom = brain_phantom(3, 0.3, 5.0)
    volume = phantom.volume
    torch.jit.trace(network.eval(), torch.rand(1, 1, *volume.shape)).save(folder / "model.pt")
    own = np.zeros(volume.shape, np.int16)
    own[phantom.labels == 37], own[phantom.labels == 38] = 17, 53
    write_volume(folder / "brain.nii.gz", volume.data, volume.affine)
    write_volume(folder / "aseg.nii.gz", own, volume.affine)
    (folder / "lut.txt").write_text(LUT)
    far = volume.affine.copy()
    far[:3, 3] += 90
    write_volume(folder / "far.nii.gz", own, far)
    (folder / "cohort.csv").write_text("case,image,label,regions,regions_table\n" + table)
    (folder / "protocol.yaml").write_text(yaml.safe_dump(PROTOCOL))
    return folder / "protocol.yaml"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit")
    table = "plain,brain.nii.gz,0,,\nown,brain.nii.gz,1,aseg.nii.gz,lut.txt\n"
    protocol = inputs(folder, table + "other,brain.nii.gz,1,far.nii.gz,lut.txt\n")
    audit, cohort = set_up(load_protocol(protocol), folder / "out")
    results = [audit_case(case, audit) for case in cohort.cases]
    record = conclude(audit, cohort, results, [], "2026-01-01T00:00:00+00:00", "2026-01-01T00:01:00+00:00", 1)
    tidy(audit, record)
    return audit, cohort, read_record(folder / "out"), results


def test_the_record_says_where_regions_came_from(made):
    _, _, record, results = made
    plain, own, other = (row.registration for row in record.cases)
    assert (plain.how, plain.accepted, plain.regions) == ("template space", True, 116)
    assert plain.brain > 0.85
    assert plain.correlation > 0.55
    assert (own.how, own.accepted, own.regions) == ("segmentation", True, 2)
    assert (other.how, other.accepted) == ("segmentation", False)
    assert "own segmentation lies in its brain" in other.reason
    assert "aseg" not in record.model_dump_json().replace('/regions"', "")
    measured = {r.region for r in results[1].measurements if r.metric == "region_density"}
    assert measured == {"Left-Hippocampus", "Right-Hippocampus"}
    assert not [r for r in results[2].measurements if r.region]
    assert [e.stage for e in record.errors if e.case == "other"] == ["region_occlusion"]
    roles = {row.region: row.role for row in record.regions}
    assert roles["Left-Hippocampus"] == roles["Hippocampus_L"] == "expected"


def test_a_changed_segmentation_makes_the_case_anew(made):
    _, cohort, _, results = made
    assert set(results[1].inputs) == {"image", "regions", "regions_table"}
    assert cohort.cases[1].regions_table is not None


def test_the_refused_case_keeps_its_picture_and_the_report_shows_it(made):
    audit, _, _, _ = made
    arrays = read_arrays(audit.folder / "cases" / "other.npz")
    assert "regions_refused" in arrays
    assert "regions" not in arrays
    pdf = render_report(audit.folder)
    text = " ".join(" ".join(page.extract_text().split()) for page in pypdf.PdfReader(pdf).pages)
    assert "Where the regions are" in text
    assert "2 of 3 cases have regions: 1 already in template space, 1 own segmentation." in text
    assert "1 case refused" in text
    assert (audit.folder / "figures" / "regions-refused-1.jpg").is_file()
    assert (audit.folder / "figures" / "regions-selected-1.jpg").is_file()


def test_check_names_a_segmentation_of_someone_else(made):
    audit, cohort, _, _ = made
    (problem,) = check_cases(audit, cohort)
    assert problem.case == "other"
    assert "name this patient's" in problem.reason


BAD = {
    "labels missing in the table": ("segmentation", "labels 53 are not in its table"),
    "no table at all": ("segmentation", "no label table"),
    "float-valued labels": ("segmentation", "not whole numbers"),
    "segmentation in 4D": ("segmentation", "has 4 dimensions"),
    "segmentation without qform and sform": ("segmentation", "neither qform nor sform"),
    "image without qform and sform": ("image", "neither qform nor sform"),
    "image in 4D": ("image", "has 4 dimensions"),
}


def spoil(folder, how):
    path = folder / ("brain.nii.gz" if how.startswith("image") else "aseg.nii.gz")
    image = nib.load(path)
    data = np.asanyarray(image.dataobj)
    if "4D" in how:
        image = nib.Nifti1Image(np.stack([data, data], -1), image.affine)
    elif "float" in how:
        image = nib.Nifti1Image(data.astype(np.float32) * 0.5, image.affine)
    elif "form" in how:
        image = nib.Nifti1Image(data, None)
        image.set_sform(None, 0)
        image.set_qform(None, 0)
    nib.save(image, path)
    if how.startswith("labels"):
        (folder / "lut.txt").write_text("17 Left-Hippocampus 1 2 3 0\n")
    if "no table" in how:
        (folder / "lut.txt").unlink()


@pytest.mark.parametrize("how", BAD)
def test_bad_input_is_one_line_at_the_command_line(tmp_path, capsys, how):
    protocol = inputs(tmp_path, "one,brain.nii.gz,1,aseg.nii.gz,lut.txt\n")
    spoil(tmp_path, how)
    code = main(["check", str(protocol)])
    out, err = capsys.readouterr()
    if how.startswith("image"):  # the only image: nothing is left to audit
        assert (code, out) == (2, "")
        (line,) = err.splitlines()
    else:
        assert (code, err) == (1, "")
        line, count = out.splitlines()
        assert count == "1 problem"
    assert BAD[how][1] in line


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("3\tThing\n", "labels 9 are not in its table"),
        ("3\tThing\n9\tOther\n", "lies within the MNI152 brain"),
    ],
)
def test_a_bad_atlas_is_refused_before_the_run(tmp_path, capsys, table, message):
    protocol = inputs(tmp_path, "one,brain.nii.gz,1,,\n")
    labels = np.zeros((8, 8, 8), np.int16)
    labels[:4], labels[4:] = 3, 9
    far = np.diag([2.0, 2, 2, 1])
    far[:3, 3] = 90
    write_volume(tmp_path / "mine.nii.gz", labels, far)
    (tmp_path / "mine.tsv").write_text(table)
    protocol.write_text(yaml.safe_dump({**PROTOCOL, "atlas": "mine.nii.gz"}))
    assert main(["check", str(protocol)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_method_of_regions_needs_an_atlas_or_segmentations(tmp_path):
    protocol = inputs(tmp_path, "one,brain.nii.gz,1,aseg.nii.gz,lut.txt\n")
    protocol.write_text(yaml.safe_dump({k: v for k, v in PROTOCOL.items() if k != "atlas"}))
    audit, _ = set_up(load_protocol(protocol), tmp_path / "out")
    assert audit.atlas is None
    (tmp_path / "cohort.csv").write_text("case,image,label\none,brain.nii.gz,1\n")
    assert main(["check", str(protocol)]) == 2


def test_explain_takes_the_fields_of_a_photograph(tmp_path):
    photograph = retina_phantom(1, 1, 256).photograph
    network = nn.Sequential(nn.Conv2d(3, 2, 5, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    torch.jit.trace(network.eval(), torch.rand(1, 3, *photograph.shape)).save(tmp_path / "model.pt")
    pixels = np.rint(photograph.data * 255).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "eye.png")
    ask = ["explain", "--model", str(tmp_path / "model.pt"), "--image", str(tmp_path / "eye.png")]
    ask += ["--method", "region_occlusion", "--target", "1", "--out", str(tmp_path / "out"), "--atlas"]
    assert main([*ask, "AAL"]) == 2
    assert not (tmp_path / "out").exists()
    assert main([*ask, "ETDRS"]) == 0
    made = json.loads((tmp_path / "out" / "explain.json").read_text())
    (scores,) = (one["region_scores"] for one in made["maps"].values())
    assert set(scores) == set(made["regions"])
    assert {"optic disc", "centre"} <= set(made["regions"].values())
