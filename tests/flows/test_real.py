"""A small part of what a hospital would audit: real photographs with expert masks, real MRI."""

import csv

import numpy as np
import pytest
import yaml

from flows.audit import audit_cohort, finish
from pipeline.case import audit_case
from pipeline.images import read_volume, write_volume
from pipeline.protocol import load_protocol
from pipeline.record.schema import read_arrays, read_record
from pipeline.stages.setup import set_up


def audit(folder, rows, **protocol):
    columns = sorted({key for row in rows for key in row})
    with (folder / "cohort.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(rows)
    content = {
        "schema": "relevance-audit-protocol/1",
        "cohort": "cohort.csv",
        "target": 1,
        "seed": 0,
        "criteria": [],
    }
    (folder / "p.yaml").write_text(yaml.safe_dump(content | protocol))
    made, cohort = set_up(load_protocol(folder / "p.yaml"), folder / "out")
    audit_cohort(made, cohort, lambda case: audit_case(case, made))
    return made, folder / "out"


def test_a_real_photograph_is_measured_against_its_masks_at_native_pixels(data, tmp_path):
    root = data / "retina/idrid/A. Segmentation"
    image = root / "1. Original Images/a. Training Set/IDRiD_01.jpg"
    marks = root / "2. All Segmentation Groundtruths/a. Training Set"
    row = {
        "case": "IDRiD_01",
        "image": str(image),
        "marks_haemorrhages": str(marks / "2. Haemorrhages/IDRiD_01_HE.tif"),
        "marks_microaneurysms": str(marks / "1. Microaneurysms/IDRiD_01_MA.tif"),
    }
    _, out = audit(
        tmp_path,
        [row],
        modality="fundus",
        model="retinopathy",
        methods=["grad_cam"],
        disease="diabetic_retinopathy",
    )
    record = read_record(out)
    assert not record.errors
    (figure,) = [
        a.figure for a in record.agreement if (a.lesion, a.metric) == ("haemorrhages", "mass_accuracy")
    ]
    # slow and independent: for each native pixel the map's value at its place, bilinear
    from PIL import Image
    from scipy.ndimage import map_coordinates

    from pipeline.images import read_photograph
    from pipeline.models.opening import open_model

    mask = np.asarray(Image.open(marks / "2. Haemorrhages/IDRiD_01_HE.tif")) != 0
    prepared = open_model("retinopathy").prepare(read_photograph(image))
    relevance = read_arrays(out / "cases/IDRiD_01.npz")["map_grad_cam_class-1"].astype(float)
    inverse = np.linalg.inv(prepared.native_from_model)
    where = np.indices(mask.shape).reshape(2, -1)
    at = inverse[:2, :2] @ where + inverse[:2, 2:]
    inside = ((at >= -0.5) & (at <= np.array(relevance.shape)[:, None] - 0.5)).all(0)
    nearest = np.clip(np.rint(at).astype(int), 0, np.array(relevance.shape)[:, None] - 1)
    inside &= prepared.field[tuple(nearest)]
    values = np.maximum(map_coordinates(relevance, at, order=1, mode="nearest"), 0)
    share = values[inside & mask.ravel()].sum() / values[inside].sum()
    assert figure.value == pytest.approx(share, rel=2e-3)


def test_a_real_brain_is_registered_half_of_it_is_refused_and_the_report_says_so(data, tmp_path):
    patient = data / "brain/ms_lesions/patient07"
    whole = read_volume(patient / "patient07_T1.nii.gz")
    half = whole.data.copy()
    half[:, half.shape[1] // 2 :] = 0
    write_volume(tmp_path / "half.nii.gz", half, whole.affine)
    rows = [
        {
            "case": "whole",
            "image": str(patient / "patient07_T1.nii.gz"),
            "marks_ms_lesions": str(patient / "patient07_GT.nii.gz"),
        },
        {"case": "half", "image": str(tmp_path / "half.nii.gz")},
    ]
    _, out = audit(
        tmp_path,
        rows,
        modality="mri",
        model="alzheimer",
        methods=["gradient", "region_occlusion"],
        atlas="AAL",
        disease="alzheimer",
    )
    record = read_record(out)
    assert [(e.case, e.stage) for e in record.errors] == [("half", "region_occlusion")]
    registered = {row.case: row.regions_registered for row in record.cases}
    assert registered == {"whole": True, "half": False}
    assert "not registered" in " ".join(next(row.notes for row in record.cases if row.case == "half"))
    assert "phantom" in record.model.trained_on
    finish(out)
    from pypdf import PdfReader

    text = " ".join(page.extract_text() for page in PdfReader(out / "report.pdf").pages)
    assert "not registered" in text
    assert "phantom" in text
