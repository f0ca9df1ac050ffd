"""The PDF of whole audits: complete, accessible, bounded, whole or not at all."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pypdf
import pytest

from pipeline.errors import RecordError
from pipeline.record.schema import Agreement, ErrorRow, Figure, RegionRow, read_record
from reports import render_report
from reports.words import class_name, clean, compact, interval, number

NASTY = "#set text(red) *b* $x^2$ <b>&amp;</b> \\\\ `raw` @ref // [x] \u202egnp\u0000 \U0001f9e0 患者 Ünïcödé"


def walk(node: Any) -> Iterator[Any]:
    """Every element of a structure tree."""
    node = node.get_object()
    if isinstance(node, list):
        for child in node:
            yield from walk(child)
    elif isinstance(node, dict):
        yield node
        if "/K" in node:
            yield from walk(node["/K"])


def titles(outline: list[Any]) -> list[str]:
    return [t for item in outline for t in (titles(item) if isinstance(item, list) else [item.title])]


def fonts(pdf: pypdf.PdfReader) -> list[Any]:
    found = {}
    for page in pdf.pages:
        for reference in page["/Resources"].get_object().get("/Font", {}).values():
            font = reference.get_object()
            found[font["/BaseFont"]] = font.get("/DescendantFonts", [font])[0].get_object()
    return list(found.values())


@pytest.mark.parametrize("audit", ["retina_audit", "brain_audit"])
def test_pdf_is_accessible(audit: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(audit)
    pdf = pypdf.PdfReader(folder / "report.pdf")
    root = pdf.trailer["/Root"]
    assert root["/MarkInfo"]["/Marked"]
    assert root["/Lang"] == "en"
    metadata = root["/Metadata"].get_data().decode()
    assert "pdfuaid:part" in metadata
    assert "pdfaid:part" in metadata
    assert clean(read_record(folder).title) in pdf.metadata.title
    elements = list(walk(root["/StructTreeRoot"]["/K"]))
    kinds = {element.get("/S") for element in elements}
    assert {"/Table", "/TH", "/H1", "/Figure", "/L"} <= kinds
    drawn = [element for element in elements if element.get("/S") == "/Figure"]
    assert len(drawn) >= len(list((folder / "figures").iterdir()))
    assert all(len(element["/Alt"]) > 30 for element in drawn)
    assert {"Verdict", "Agreement with experts", "Judgement of the reviewing clinician"} <= set(
        titles(pdf.outline)
    )
    embedded = fonts(pdf)
    assert embedded
    assert all("/FontFile2" in f["/FontDescriptor"] or "/FontFile3" in f["/FontDescriptor"] for f in embedded)


@pytest.mark.parametrize("audit", ["retina_audit", "brain_audit"])
def test_no_page_is_empty(audit: str, request: pytest.FixtureRequest) -> None:
    pdf = pypdf.PdfReader(request.getfixturevalue(audit) / "report.pdf")
    for page in pdf.pages:
        assert len(page.extract_text()) > 150 or page.images


@pytest.mark.parametrize("audit", ["retina_audit", "brain_audit"])
def test_every_number_is_printed(audit: str, request: pytest.FixtureRequest, tools: SimpleNamespace) -> None:
    folder = request.getfixturevalue(audit)
    record = read_record(folder)
    text = tools.text_of(folder / "report.pdf")
    wanted = [compact(row.figure) for row in record.agreement]
    # a null map is the same for every method: it stands there once
    nulls = {(r.lesion, r.metric, name): f for r in record.agreement for name, f in r.nulls.items()}
    wanted += [compact(f) for f in nulls.values()]
    main = [row for row in record.agreement if row.metric == "log2_mass_lift"]
    wanted += [compact(f) for row in main for f in row.differences.values()]
    wanted += [compact(f) for values in record.shares.values() for f in values.values()]
    wanted += [number(r.density.value) for r in record.regions if r.role]
    for criterion in record.criteria:
        wanted += [number(criterion.value), interval(criterion.low, criterion.high), criterion.answer]
    for value in record.skill.values():
        wanted += [number(value.value), interval(value.low, value.high)]
    wanted += [number(case.logit) for case in record.cases]
    wanted += [class_name(case.predicted, record.model.classes) for case in record.cases]
    wanted += [str(record.provenance.seed), record.model.sha256, *record.provenance.versions.values()]
    wanted += [record.model.trained_on, record.model.limits, *record.model.notes, *record.verdict.factors]
    wanted += list(record.provenance.inputs.values())
    missing = [w for w in wanted if tools.squeeze(clean(w)) not in text]
    assert len(wanted) > 100
    assert not missing


def test_cover_names_verdict_and_training_data(brain_audit: Path, tools: SimpleNamespace) -> None:
    cover = pypdf.PdfReader(brain_audit / "report.pdf").pages[0].extract_text()
    assert "Inconclusive" in cover
    squeezed = tools.squeeze(cover)
    assert "brainphantomsonly" in squeezed
    assert "trainedonphantoms;theimagesauditedherearereal" in squeezed


def test_same_record_same_bytes(retina_audit: Path) -> None:
    def digests() -> dict[str, str]:
        files = [retina_audit / "report.pdf", *(retina_audit / "figures").iterdir()]
        return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}

    before = digests()
    render_report(retina_audit)
    assert digests() == before


def test_no_folder_and_no_path_is_printed(retina_audit: Path, tools: SimpleNamespace) -> None:
    assert "/srv/hospital" in (retina_audit / "audit.json").read_text()
    text = tools.text_of(retina_audit / "report.pdf")
    assert "hospital" not in text
    assert "bad-1.jpg:truncated" in text
    raw = (retina_audit / "report.pdf").read_bytes()
    assert str(retina_audit).encode() not in raw


def test_wrong_decisions_are_sorted_by_confidence(retina_audit: Path) -> None:
    record = read_record(retina_audit)
    wrong = sorted((c for c in record.cases if c.correct is False), key=lambda c: -max(c.scores))
    assert len(wrong) > 2
    pages = [page.extract_text() for page in pypdf.PdfReader(retina_audit / "report.pdf").pages]
    page = next(text for text in pages if "Where was the model wrong" in text)
    page = page[page.index("Where was the model wrong") :]
    places = [page.index(case.case) for case in wrong]
    assert places == sorted(places)


def test_markup_and_foreign_letters_stay_text(tmp_path: Path, tools: SimpleNamespace) -> None:
    record = tools.make_record("mri", cases=6, pages=1)
    record.title = record.model.name = record.model.limits = NASTY
    record.model.classes = [NASTY, "$\\frac{a}{b}$ <i>x</i>"]
    record.verdict.answer = "flagged"
    record.verdict.factors = [NASTY * 3] * 20
    for row in record.agreement:
        row.lesion = NASTY
    for region in record.regions:
        region.region = "Very_long_region_name_" * 8 + region.region + NASTY
    for method in record.methods:
        method.note = method.title = NASTY
        method.options = {NASTY: NASTY}
        method.source = "https://example.org/" + "x" * 300
    for case in record.cases:
        case.notes = [NASTY]
    record.cases[3].case = "#set *x* $y$ <b>"
    record.errors = [ErrorRow(case="A" * 64, stage=NASTY, reason="C:\\Users\\doe\\x.nii is bad: " + NASTY)]
    record.cohort.labels = {NASTY: 3}
    folder = tools.write_audit(tmp_path / "nasty", record)
    text = tools.text_of(render_report(folder))
    literal = tools.squeeze("#set text(red) *b* $x^2$ <b>&amp;</b> \\\\ `raw` @ref // [x]")
    assert text.count(literal) > 20
    assert "#set*x*$y$<b>" in text
    assert "$\\frac{a}{b}$<i>x</i>" in text
    assert "Users" not in text


def test_audit_without_any_case(tmp_path: Path, tools: SimpleNamespace) -> None:
    record = tools.make_record("fundus", cases=0, pages=0)
    record.agreement, record.regions, record.shares, record.criteria, record.skill = [], [], {}, [], {}
    record.cohort.marks = {}
    record.provenance.finished = "unknown"
    for method in record.methods:
        method.cases = 0
    path = render_report(tools.write_audit(tmp_path / "none", record))
    text = tools.text_of(path)
    assert "nocasecouldbeaudited" in text
    assert "Agreementwithexperts" not in text
    assert len(pypdf.PdfReader(path).pages) < 8


def test_numbers_without_interval(tmp_path: Path, tools: SimpleNamespace) -> None:
    record = tools.make_record("mri", cases=3, pages=0)
    for row in record.agreement:
        for f in (row.figure, *row.nulls.values(), *row.differences.values()):
            f.value = f.low = f.high = None
    record.agreement[0].figure.value = 0.5
    for region in record.regions:
        region.density.low = region.density.high = None
        region.rank = Figure()
    record.shares = {kind: dict.fromkeys(values, Figure()) for kind, values in record.shares.items()}
    for criterion in record.criteria:
        criterion.value = criterion.low = criterion.high = None
    path = render_report(tools.write_audit(tmp_path / "few", record))
    text = " ".join(page.extract_text() for page in pypdf.PdfReader(path).pages)
    assert "(no interval)" in text
    assert not re.search(r"\b(nan|NaN|None(?! of))\b", text)


def test_many_cases_stay_few_pages(tmp_path: Path, tools: SimpleNamespace) -> None:
    record = tools.make_record("fundus", cases=200, pages=0)
    record.agreement = [row for row in record.agreement if row.lesion == "microaneurysms"] * 6
    record.errors = record.errors * 300
    path = render_report(tools.write_audit(tmp_path / "many", record))
    assert len(pypdf.PdfReader(path).pages) < 32
    text = tools.text_of(path)
    assert "Thefirst60of200;therestisinaudit.json" in text
    assert "240moreinaudit.json" in text


@pytest.mark.parametrize("content", [None, b"junk", b"PK\x03\x04 broken"])
def test_case_arrays_missing_or_broken(tmp_path: Path, tools: SimpleNamespace, content: bytes | None) -> None:
    record = tools.make_record("fundus", cases=3, pages=1)
    record.agreement, record.shares = [], {}
    folder = tools.write_audit(tmp_path / "broken", record, side=64)
    (npz,) = (folder / "cases").iterdir()
    npz.unlink()
    if content is not None:
        npz.write_bytes(content)
    (folder / "measurements.parquet").write_bytes(b"junk")
    assert "aremissingfromtheauditdirectory" in tools.text_of(render_report(folder))


def test_case_name_cannot_leave_the_folder(tmp_path: Path, tools: SimpleNamespace) -> None:
    record = tools.make_record("fundus", cases=3, pages=1)
    next(case for case in record.cases if case.page).case = "../secret"
    folder = tools.write_audit(tmp_path / "audit", record)
    (folder / "secret.npz").write_bytes(b"must not be opened")
    assert "aremissingfromtheauditdirectory" in tools.text_of(render_report(folder))


def test_many_methods_on_one_case(tmp_path: Path, tools: SimpleNamespace) -> None:
    record = tools.make_record("fundus", cases=3, pages=1)
    record.agreement, record.shares = [], {}
    case = next(case for case in record.cases if case.page)
    case.maps = [f"method_{n:02d}_class-{t}" for n in range(10) for t in (0, 1)]
    folder = tools.write_audit(tmp_path / "maps", record, side=48)
    render_report(folder)
    assert len(list((folder / "figures").glob("case-01-*.jpg"))) == 2


@pytest.mark.parametrize("content", [None, "{}", "not json", '{"schema": "relevance-audit/9"}'])
def test_bad_directory_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "audit.json").write_text(content)
    with pytest.raises(RecordError, match="audit"):
        render_report(tmp_path)
    assert not (tmp_path / "report.pdf").exists()
    assert not (tmp_path / "figures").exists()


def test_what_a_killed_run_left_is_swept(tmp_path: Path, tools: SimpleNamespace) -> None:
    record = tools.make_record("fundus", cases=3, pages=0)
    record.agreement, record.shares = [], {}
    folder = tools.write_audit(tmp_path / "audit", record)
    for name, age in ((".report-old", 7200), (".report-new", 10)):
        (folder / name).mkdir()
        os.utime(folder / name, (time.time() - age,) * 2)
    render_report(folder)
    assert sorted(p.name for p in folder.glob(".report-*")) == [".report-new"]


def test_failure_leaves_the_old_report(
    tmp_path: Path, tools: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = tools.make_record("fundus", cases=3, pages=0)
    folder = tools.write_audit(tmp_path / "audit", record)
    render_report(folder)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    monkeypatch.setattr("reports.render.as_data", lambda _: [{"unknown": "section"}])
    with pytest.raises(RecordError, match="typeset"):
        render_report(folder)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_agreement_and_regions_may_hold_unknown_names(tmp_path: Path, tools: SimpleNamespace) -> None:
    record = tools.make_record("mri", cases=6, pages=0)
    record.agreement = [
        Agreement(
            method="new_method", lesion="new_lesion", metric="new_metric", figure=Figure(value=0.125, n=6)
        )
    ]
    record.regions = [
        RegionRow(
            method="new_method", region="Only_region", density=Figure(value=1.5, n=6), rank=Figure(value=1)
        )
    ]
    text = tools.text_of(render_report(tools.write_audit(tmp_path / "new", record)))
    assert "newmetric" in text
    assert "0.125(nointerval)" in text


def test_import_is_cheap() -> None:
    heavy = ("numpy", "matplotlib", "typst", "pandas")
    code = f"import sys, reports; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_agreement_takes_one_page_a_lesion_type(retina_audit: Path) -> None:
    pdf = pypdf.PdfReader(retina_audit / "report.pdf")

    def pages(outline: list[Any]) -> Iterator[tuple[str, int]]:
        for item in outline:
            if isinstance(item, list):
                yield from pages(item)
            else:
                yield item.title, int(pdf.get_destination_page_number(item) or 0)

    found = dict(pages(pdf.outline))
    first = found["Agreement with experts"]
    lesions = dict.fromkeys(row.lesion for row in read_record(retina_audit).agreement)
    assert [found[lesion.replace("_", " ").capitalize()] for lesion in lesions] == [
        first + 1 + index for index in range(len(lesions))
    ]
