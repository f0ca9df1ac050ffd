"""Typeset the report of an audit directory."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import tempfile
import time
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import RecordError
from pipeline.files import whole_file
from pipeline.record.schema import AuditRecord, read_record
from reports.blocks import Section, as_data
from reports.context import Context
from reports.sections import SECTIONS
from reports.words import clean, fonts_folder, moment

if TYPE_CHECKING:
    from typst import PDFStandard

STANDARDS: tuple[PDFStandard, ...] = ("a-2a", "ua-1")

_STALE = 3600.0  # seconds


def render_report(folder: Path | str) -> Path:
    """Make `report.pdf` and `figures/` of an audit directory, whole or not at all.

    The report depends on the record alone: the same record gives the same bytes.

    Parameters
    ----------
    folder : path
        An audit directory: `audit.json`, and where there are any `measurements.parquet` and
        `cases/<case>.npz`.

    Returns
    -------
    Path
        The PDF: PDF/A-2a and PDF/UA-1, tagged, with bookmarks, fonts embedded.

    Raises
    ------
    pipeline.errors.RecordError
        If the folder holds no readable audit, cannot be written, or cannot be typeset.
    """
    folder = Path(folder)
    record = read_record(folder)
    target = folder / "report.pdf"
    try:
        _sweep(folder)
        with tempfile.TemporaryDirectory(prefix=".report-", dir=folder) as name:
            scratch = Path(name)
            context = Context(folder, record, scratch)
            sections = [section for build in SECTIONS if (section := build(context)) and section.blocks]
            pdf = _typeset(scratch, record, sections)
            _replace_figures(scratch, folder)
            with whole_file(target) as part:
                part.write_bytes(pdf)
    except OSError as error:
        raise RecordError(
            f"{folder}: the report cannot be written ({error.strerror or error})",
            "check the folder's permissions and free space",
        ) from error
    return target


def _sweep(folder: Path) -> None:
    """Remove what a killed run left behind an hour ago or more."""
    for old in folder.glob(".report-*"):
        if time.time() - old.stat().st_mtime > _STALE:
            shutil.rmtree(old, ignore_errors=True)


def _typeset(scratch: Path, record: AuditRecord, sections: list[Section]) -> bytes:
    import typst

    content = {
        "title": clean(record.title) or "Audit",
        "subtitle": clean(record.model.name),
        "date": clean(moment(record.provenance.finished)),
        "sections": as_data(sections),
    }
    (scratch / "report.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    with as_file(files("reports") / "templates") as templates:
        for template in sorted(templates.glob("*.typ")):
            shutil.copyfile(template, scratch / template.name)
    try:
        return bytes(
            typst.compile(
                str(scratch / "report.typ"),
                root=str(scratch),
                font_paths=[str(fonts_folder())],
                ignore_system_fonts=True,
                pdf_standards=list(STANDARDS),
                timestamp=_timestamp(record.provenance.finished),
            )
        )
    except RuntimeError as error:  # of which TypstError is one
        raise RecordError(
            f"the report could not be typeset ({str(error).splitlines()[0][:200]})",
            "audit.json holds every number; please report this record",
        ) from error


def _timestamp(finished: str) -> dt.datetime:
    try:
        moment = dt.datetime.fromisoformat(finished)
    except ValueError:
        return dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


def _replace_figures(scratch: Path, folder: Path) -> None:
    """Swap the old figures for the new ones; the old stay until the new are in place."""
    fresh, current, old = scratch / "figures", folder / "figures", scratch / "old-figures"
    fresh.mkdir(exist_ok=True)
    if current.exists():
        current.replace(old)
    fresh.replace(current)
