"""Audit directories with made-up numbers and drawn images: everything seeded, nothing measured."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pypdf
import pytest
from scipy import ndimage

from pipeline.record.schema import (
    Agreement,
    AuditRecord,
    CaseRow,
    CohortSummary,
    CriterionResult,
    ErrorRow,
    Figure,
    MethodRow,
    ModelSummary,
    Provenance,
    RegionRow,
    Verdict,
    write_arrays,
    write_record,
)
from reports import render_report

METHODS = {
    "gradient": ("Gradient", "backpropagation", True, False, "2–4"),
    "grad_cam": ("Grad-CAM", "activation", True, True, "1–2"),
    "lrp": ("LRP", "backpropagation", True, True, "3–4"),
    "occlusion": ("Occlusion", "perturbation", True, True, "one a patch"),
}
LESIONS = ("microaneurysms", "haemorrhages", "hard_exudates")
METRICS = {
    "log2_mass_lift": (1.3, 0.4),
    "mass_accuracy": (0.12, 0.03),
    "rank_accuracy": (0.21, 0.04),
    "auprc": (0.09, 0.02),
    "pointing_game": (0.58, 0.1),
}


def figure(rng: np.random.Generator, value: float, half: float, n: int, excluded: int = 0) -> Figure:
    v = value + rng.normal(0, half / 3)
    return Figure(value=v, low=v - half, high=v + half, n=n, excluded=excluded, method="t-interval")


def retina_arrays(seed: int, side: int, maps: list[str]) -> dict[str, np.ndarray[Any, Any]]:
    """A dotted disc with vessels, lesions, and maps that like lesions somewhat."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side - 0.5
    field = x**2 + y**2 < 0.48**2
    shade = 0.62 - 0.5 * (x**2 + y**2)
    disc = np.exp(-(((x - 0.22) ** 2 + y**2) / 0.003))
    image = np.stack([shade * 1.15 + 0.3 * disc, shade * 0.6 + 0.4 * disc, shade * 0.3 + 0.2 * disc], -1)
    vessels = np.zeros((side, side))
    for sign in (-1, 1):
        t = np.linspace(0, 1, 600)
        for bend in (0.9, 1.4):
            cx = ((0.22 - 0.62 * t) + 0.5) * side
            cy = (sign * 0.26 * np.sin(bend * 2 * t) + 0.5) * side
            vessels[cy.astype(int), cx.astype(int)] = 1
    vessels = np.clip(ndimage.gaussian_filter(vessels, 1.3) * 6, 0, 1)
    image *= 1 - vessels[..., None] * np.array([0.3, 0.5, 0.3])
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    every = np.zeros((side, side), bool)
    for lesion, count, radius in zip(LESIONS, (14, 7, 9), (2, 7, 4), strict=True):
        mask = np.zeros((side, side), bool)
        for _ in range(count):
            cx, cy = rng.uniform(0.22, 0.78, 2) * side
            mask |= (np.mgrid[:side, :side][1] - cx) ** 2 + (np.mgrid[:side, :side][0] - cy) ** 2 < (
                radius * rng.uniform(0.7, 1.5) * side / 384
            ) ** 2
        arrays[f"marks_{lesion}"] = mask
        image[mask] = (0.85, 0.78, 0.4) if "exudates" in lesion else (0.42, 0.1, 0.08)
        every |= mask
    image = np.clip(image * field[..., None] + rng.normal(0, 0.012, image.shape), 0, 1)
    arrays |= {"image": image.astype(np.float32), "field": field}
    for index, key in enumerate(maps):
        coarse = {"grad_cam": 0.05, "occlusion": 0.03}.get(key.split("_class")[0].removeprefix("map_"), 0.004)
        noise = ndimage.gaussian_filter(rng.normal(size=(side, side)), coarse * side)
        pull = ndimage.gaussian_filter(every.astype(float), coarse * side + 1)
        relevance = (noise / noise.std() * 0.6 + 2.0 * pull / pull.max()) * field * (1 - 0.3 * (index % 2))
        if "class-0" in key:
            relevance = -relevance
        arrays[key] = (relevance * 1e-3).astype(np.float32)
    return arrays


def brain_arrays(seed: int, maps: list[str]) -> dict[str, np.ndarray[Any, Any]]:
    """The MNI template at 4 mm with blobs where the hippocampi are."""
    from nilearn import datasets

    rng = np.random.default_rng(seed)
    template = datasets.load_mni152_template(resolution=4)
    image = np.asarray(template.dataobj, dtype=np.float32)
    affine = np.asarray(template.affine, dtype=np.float64)
    field = image > 0.15 * image.max()
    marks = np.zeros(image.shape, bool)
    for x in (-26, 26):
        i, j, k = np.round(np.linalg.solve(affine, [x, -22, -14, 1])[:3]).astype(int)
        marks[i - 1 : i + 2, j - 3 : j + 3, k - 1 : k + 2] = True
    arrays: dict[str, np.ndarray[Any, Any]] = {
        "image": image * rng.uniform(0.9, 1.1),
        "field": field,
        "marks_atrophy": marks,
        "affine": affine,
    }
    for key in maps:
        noise = ndimage.gaussian_filter(rng.normal(size=image.shape), 1.5)
        pull = ndimage.gaussian_filter(marks.astype(float), 1.5)
        relevance = (noise / noise.std() * 0.4 + 2.5 * pull / pull.max()) * field
        arrays[key] = (-relevance if "class-0" in key else relevance).astype(np.float32)
    return arrays


def make_record(modality: str, *, cases: int = 14, pages: int = 3, seed: int = 0) -> AuditRecord:
    """A whole record with made-up numbers."""
    rng = np.random.default_rng(seed)
    fundus = modality == "fundus"
    classes = ["not referable", "referable"] if fundus else ["healthy", "Alzheimer"]
    rows = []
    for index in range(cases):
        label = index % 2
        p = float(np.clip(rng.normal(0.68 if label else 0.32, 0.3), 0.01, 0.99))
        predicted = int(p > 0.5)
        targets = sorted({1, predicted, label}) if predicted != label else [1]
        rows.append(
            CaseRow(
                case=f"{'idrid' if fundus else 'sub'}-{index + 1:03d}",
                label=label,
                predicted=predicted,
                scores=[1 - p, p],
                logit=float(np.log(p / (1 - p))),
                maps=[f"{m}_class-{t}" for m in METHODS for t in targets],
                seconds=float(rng.uniform(3, 9)),
                notes=["negative logit"] if p < 0.5 else [],
                regions_registered=None if fundus else index != 2,
            )
        )
    if not fundus and cases > 2:
        rows[2].notes.append("not registered: Dice 0.71 with the template")
    order = sorted(rows, key=lambda c: (c.correct is not False, c.case))
    for case in order[:pages]:
        case.page = True
    lesions = LESIONS if fundus else ("atrophy",)
    agreement = [
        Agreement(
            method=method,
            lesion=lesion,
            metric=metric,
            figure=figure(rng, value, half, cases, 1),
            nulls={n: figure(rng, value * 0.4, half, cases, 1) for n in ("centre_prior", "random_smooth")},
            differences={
                n: figure(rng, value * 0.6, half, cases, 1) for n in ("centre_prior", "random_smooth")
            },
            p_values={"centre_prior": float(rng.uniform(0, 0.05)), "random_smooth": 0.0002},
        )
        for lesion in lesions
        for metric, (value, half) in METRICS.items()
        for method in METHODS
    ]
    names = {"Hippocampus_L": "expected", "Hippocampus_R": "expected", "Amygdala_L": "expected"}
    names |= {"ParaHippocampal_R": "expected", "Cerebelum_Crus1_L": "control", "Calcarine_R": "control"}
    names |= {f"Frontal_Region_{i:02d}_L": "" for i in range(30)}
    regions = [
        RegionRow(
            method=method,
            region=name,
            density=figure(rng, {"expected": 2.4, "control": 0.7, "": 1.0}[role], 0.4, cases - 1),
            rank=figure(rng, {"expected": 6, "control": 28, "": 18}[role], 3, cases - 1),
            role=role,
        )
        for method in ("gradient", "region_occlusion")
        for name, role in names.items()
    ]
    marks = dict.fromkeys(lesions, cases - 2)
    return AuditRecord(
        title="Referable retinopathy: demonstration" if fundus else "Alzheimer’s disease: demonstration",
        modality="fundus" if fundus else "mri",
        disease="diabetic_retinopathy" if fundus else "alzheimer",
        target=1,
        verdict=Verdict(
            answer="inconclusive",
            factors=[
                "more patients with expert marks (gradient)",
                "interventions: maps show where relevance lies, not what the decision rests on",
            ],
            sentence="Inconclusive. It would take: more patients with expert marks; interventions.",
        ),
        criteria=[
            CriterionResult(
                name="skill_auc",
                title="Area under the ROC curve on this cohort",
                bound="at least 0.75",
                value=0.914,
                low=0.822,
                high=0.971,
                null=0.5,
                n=cases,
                answer="met",
                reason="a model without skill cannot be judged",
            ),
            CriterionResult(
                name="lift_over_nulls",
                title="Relevance on expert marks over the best null map (paired log₂ lift)",
                method="lrp",
                bound="at least 0.5",
                value=0.63,
                low=0.21,
                high=1.04,
                null=0.0,
                n=cases,
                answer="undecided",
                reason="half a doubling is what twins with random weights stay below",
            ),
            CriterionResult(
                name="relevance_outside",
                title="Share of relevance outside the brain or the field of view",
                method="grad_cam",
                bound="at most 0.1",
                value=0.231,
                low=0.182,
                high=0.279,
                n=cases,
                answer="not met",
            ),
        ],
        model=ModelSummary(
            name="EfficientNet-Lite0, referable retinopathy" if fundus else "Rieke CNN, Alzheimer",
            sha256="9f" * 32,
            architecture="efficientnet_lite0" if fundus else "rieke",
            classes=classes,
            trained_on="343 IDRiD photographs and drawn retinas"
            if fundus
            else "brain phantoms only; no patient’s MRI was ever seen in training",
            performance=[
                {
                    "data": "held-out phantoms",
                    "metric": "auc",
                    "value": 0.951,
                    "low": 0.921,
                    "high": 0.974,
                    "n": 200,
                }
            ],
            credits=["IDRiD (Porwal et al. 2018), CC-BY 4.0, resized"],
            limits="For demonstration; not a medical device. It must not be used on patients.",
            notes=[] if fundus else ["The model was trained on phantoms; the images audited here are real."],
        ),
        cohort=CohortSummary(
            source="IDRiD segmentation folder" if fundus else "cohort.csv",
            cases=cases + 1,
            patients=cases,
            patients_given=not fundus,
            audited=cases,
            labels={classes[0]: (cases + 1) // 2, classes[1]: cases // 2},
            marks=marks,
        ),
        skill={"auc": Figure(value=0.914, low=0.822, high=0.971, n=cases, method="DeLong")},
        methods=[
            MethodRow(
                name=name,
                title=title,
                family=family,
                signed=signed,
                class_discriminative=discriminative,
                forward_passes=passes,
                seconds=float(rng.uniform(0.1, 5)),
                source="Selvaraju 2017" if name == "grad_cam" else "",
                options={"patch": 32, "stride": 16} if name == "occlusion" else {},
                cases=cases,
            )
            for name, (title, family, signed, discriminative, passes) in METHODS.items()
        ]
        + [
            MethodRow(
                name="cam",
                title="CAM",
                family="activation",
                signed=True,
                class_discriminative=True,
                forward_passes="1",
                note="the model has no global average pooling followed by one linear layer",
            )
        ],
        agreement=agreement,
        regions=[] if fundus else regions,
        shares={
            kind: {name: figure(rng, value, 0.02, cases) for name in (*METHODS, "centre_prior")}
            for kind, value in (("outside", 0.08), ("log2_rim_density", 0.4))
        },
        cases=rows,
        errors=[
            ErrorRow(
                case="bad-1",
                stage="read",
                reason="/srv/hospital/images/bad-1.jpg: truncated; export it again",
            )
        ],
        atlas={} if fundus else {"name": "AAL", "licence": "GPL (of the atlas, not of this tool)"},
        provenance=Provenance(
            versions={"relevance-audit": "0.1.0", "torch": "2.13.0", "numpy": "2.3.5"},
            seed=20261123,
            threads=2,
            started="2026-11-23T01:02:03+00:00",
            finished="2026-11-23T01:07:41+00:00",
            wall_seconds=338.4,
            peak_memory_mb=1875.0,
            inputs={f"{case.case}/image": f"{index:064x}" for index, case in enumerate(rows)},
            platform="Linux x86_64",
        ),
        limits=["The cohort is small: compact shortcuts below 20 % reliance would not be seen."],
    )


def write_audit(folder: Path, record: AuditRecord, *, side: int = 192, seed: int = 0) -> Path:
    """Write a record, its measurements, and the arrays of its pages."""
    folder.mkdir(parents=True, exist_ok=True)
    write_record(folder, record)
    rng = np.random.default_rng(seed)
    rows = [
        {
            "case": case.case,
            "patient": case.case,
            "method": row.method,
            "target": record.target,
            "lesion": row.lesion,
            "metric": row.metric,
            "value": (row.figure.value or 0) + rng.normal(0, (row.figure.high or 0) - (row.figure.low or 0)),
        }
        for row in record.agreement
        for case in record.cases
    ]
    columns = ["case", "patient", "method", "target", "lesion", "metric", "value"]
    pd.DataFrame(rows, columns=columns).to_parquet(folder / "measurements.parquet")
    for index, case in enumerate(record.cases):
        if case.page and "/" not in case.case:
            keys = [f"map_{name}" for name in case.maps]
            arrays = (
                retina_arrays(index, side, keys) if record.modality == "fundus" else brain_arrays(index, keys)
            )
            write_arrays(folder / "cases" / f"{case.case}.npz", arrays)
    return folder


def text_of(pdf: Path) -> str:
    """All text of a PDF without white space and break marks, which typesetting may put anywhere."""
    pages = pypdf.PdfReader(pdf).pages
    return squeeze("".join(page.extract_text() for page in pages))


def squeeze(text: str) -> str:
    return "".join(c for c in text if not c.isspace() and c not in "\u200b\u00ad\ufeff")


@pytest.fixture(scope="session")
def tools() -> SimpleNamespace:
    """The functions of this file, for tests that make audits of their own."""
    return SimpleNamespace(make_record=make_record, write_audit=write_audit, text_of=text_of, squeeze=squeeze)


@pytest.fixture(scope="session")
def retina_audit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered audit of photographs."""
    folder = write_audit(tmp_path_factory.mktemp("retina"), make_record("fundus", pages=2))
    render_report(folder)
    return folder


@pytest.fixture(scope="session")
def brain_audit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered audit of brains."""
    folder = write_audit(tmp_path_factory.mktemp("brain"), make_record("mri", pages=1))
    render_report(folder)
    return folder
