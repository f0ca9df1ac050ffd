"""One audit as a Prefect flow: every case a task, retried or reported; run again, it goes on."""

from __future__ import annotations

import fcntl
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from flows.prefect_home import end_orphaned_servers, use_prefect_home
from pipeline.allocator import allocator
from pipeline.errors import AuditError, RecordError
from pipeline.protocol import load_protocol

if TYPE_CHECKING:
    from rich.progress import Progress

    from pipeline.cohort import Case, Cohort
    from pipeline.record.interventions import Interventions
    from pipeline.record.schema import AuditRecord, CaseResult, ErrorRow, Verdict
    from pipeline.record.trust import Trust
    from pipeline.stages.audit import Audit

    RunCase = Callable[[Case], CaseResult]
    RunInterventions = Callable[[list[CaseResult]], Interventions]
    RunTrust = Callable[[list[CaseResult]], Trust]


T = TypeVar("T")


def run_audit(protocol: Path, out: Path, home: Path | None = None) -> Verdict:
    """Run one audit, or go on with one that was stopped.

    Parameters
    ----------
    protocol : Path
        The protocol file.
    out : Path
        The audit directory. What is already finished in it, for these inputs, this model and this protocol,
        is not computed again.
    home : Path, optional
        Where Prefect keeps its database; `out/.prefect` by default.

    Returns
    -------
    pipeline.record.schema.Verdict

    Raises
    ------
    pipeline.errors.AuditError
        If the protocol cannot be run, or another run is writing into `out`.
    """
    from pipeline.stages.setup import set_up

    set_up(load_protocol(protocol), out)  # refuse before anything is made
    with _only_one(out):
        end_orphaned_servers(home or out / ".prefect")
        use_prefect_home(home or out / ".prefect")
        from flows.flow import audit_flow, sweep_killed_runs

        sweep_killed_runs(str(out.resolve()))
        audit_flow(str(protocol.resolve()), str(out.resolve()))
    from pipeline.record.schema import read_record

    return read_record(out).verdict


def render_again(folder: Path) -> Path:
    """Render the report of an audit directory again and renew the report's hash in its manifest."""
    from pipeline.record.schema import read_record, verify
    from reports import render_report

    record = read_record(folder)
    changed = [line for line in verify(folder) if not line.startswith(("report.pdf", "figures/"))]
    if changed:
        raise RecordError(f"{folder}: changed since the run ({changed[0]})", "run the audit again")
    path = render_report(folder)
    _write_manifest(folder, record)
    return path


def audit_cohort(
    audit: Audit,
    cohort: Cohort,
    run_case: RunCase,
    run_interventions: RunInterventions | None = None,
    run_trust: RunTrust | None = None,
) -> AuditRecord:
    """Check, run and conclude: what the flow does, with `run_case` doing one case.

    Parameters
    ----------
    audit : pipeline.stages.audit.Audit
    cohort : pipeline.cohort.Cohort
    run_case : callable
        From a case to its result; raises what went wrong.
    run_interventions : callable, optional
        From the results of all cases to what interventions found; without it nothing is intervened upon.
    run_trust : callable, optional
        From the results of all cases to what their maps are worth; without it nobody asks.

    Returns
    -------
    pipeline.record.schema.AuditRecord
    """
    from pipeline.case import finished_case
    from pipeline.findings.conclusion import conclude, tidy
    from pipeline.record.clusters import pictured

    begin, started = time.perf_counter(), _now()
    results: dict[str, CaseResult] = {}
    errors: list[ErrorRow] = []
    with _log(audit.folder) as log:
        _learn_concepts(audit, log)
    with _log(audit.folder) as log, _progress(len(cohort.cases)) as advance:
        log.info("memory: %s", allocator())
        for case in cohort.cases:
            stored = finished_case(case, audit)
            if stored is not None:
                results[case.case] = stored
                log.info("case %s: finished in an earlier run", case.case)
                advance(case.case)
                continue
            rows = _check_and_run(case, audit, run_case, results)
            errors += rows
            for row in rows:
                log.error("case %s: %s: %s", row.case, row.stage, row.reason)
            if not rows:
                log.info("case %s: done in %.1f s", case.case, results[case.case].row.seconds)
            advance(case.case)
        done = list(results.values())
        found = _attempt("interventions", run_interventions, done, errors)
        log.info("interventions: %s", "done" if found else "none")
        asks = run_trust if audit.protocol.trust.cases else None
        trust = _attempt("trust of the maps", asks, done, errors)
        log.info("trust of the maps: %s", f"{trust.passes} forward passes" if trust else "not asked")
        seconds = time.perf_counter() - begin
        record = conclude(audit, cohort, done, errors, started, _now(), seconds, found, trust)
        by_name = {case.case: case for case in cohort.cases}
        drawn = pictured(record.trust.clusters) if record.trust else set()
        for shown in record.cases:
            wanted = shown.page or shown.case in drawn
            if wanted and not (audit.folder / "cases" / f"{shown.case}.npz").is_file():
                run_case(by_name[shown.case])  # an earlier report did not show this case
        tidy(audit, record)
        log.info("verdict: %s", record.verdict.answer)
    return record


def finish(folder: Path) -> None:
    """Render the report and write the manifest."""
    from pipeline.record.schema import read_record
    from reports import render_report

    render_report(folder)
    _write_manifest(folder, read_record(folder))


def _learn_concepts(audit: Audit, log: logging.Logger) -> None:
    """Learn concepts before the first case asks for them, where the protocol does, with a bar of its own."""
    from pipeline.stages.concepts import concepts_of, mace_of

    if mace_of(audit.protocol) is None:
        return
    learning = concepts_of(audit, progress=True).learning
    shown = "may be shown" if learning.faithful else "are not shown"
    log.info("concepts: %s", learning.refused or f"agreement {learning.fidelity.value:.2f}, they {shown}")


def _check_and_run(
    case: Case, audit: Audit, run_case: RunCase, results: dict[str, CaseResult]
) -> list[ErrorRow]:
    """Do one case; return what went wrong (its result goes into `results`)."""
    from pipeline.cohort import check_case
    from pipeline.record.schema import ErrorRow

    problems = check_case(case, audit.protocol.modality, audit.classes)
    if problems:
        return [ErrorRow(case=case.case, stage="check", reason=p.reason) for p in problems]
    try:
        results[case.case] = run_case(case)
    except AuditError as error:
        return [ErrorRow(case=case.case, stage="case", reason=str(error))]
    except Exception as error:  # noqa: BLE001  one case must not take the others down
        reason = _unexpected(error)
        return [ErrorRow(case=case.case, stage="case", reason=reason)]
    return []


def _attempt(
    stage: str, run: Callable[[list[CaseResult]], T] | None, results: list[CaseResult], errors: list[ErrorRow]
) -> T | None:
    """Do one step on the whole cohort; what goes wrong becomes an error row, and the cases' findings stay."""
    from pipeline.record.schema import ErrorRow

    if run is None or not results:
        return None
    try:
        return run(results)
    except AuditError as error:
        reason = str(error)
    except Exception as error:  # noqa: BLE001  the cases' findings must not be lost
        reason = _unexpected(error)
    errors.append(ErrorRow(case="all cases", stage=stage, reason=reason))
    return None


def _unexpected(error: Exception) -> str:
    """Say what no step foresaw, without the folders of a file: they may name a patient."""
    if isinstance(error, OSError) and error.filename:
        return f"unexpected {type(error).__name__}: {Path(str(error.filename)).name}: {error.strerror}"
    text = re.sub(r"(?<![\w.])/(?:[^/\n'\"]+/)+", "", str(error))
    return f"unexpected {type(error).__name__}: {' '.join(text.split())[:200]}"


def _write_manifest(folder: Path, record: AuditRecord) -> None:
    from pipeline.record.schema import write_manifest

    write_manifest(folder, record.provenance.inputs, record.model.sha256, record.provenance.versions)


@contextmanager
def _only_one(out: Path) -> Iterator[None]:
    """Hold the audit directory for this process."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = (out / ".lock").open("w")
    except OSError as error:
        raise RecordError(f"{out}: cannot be written ({error.strerror})", "name another directory") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RecordError(
                f"{out}: another run is writing here", "wait for it or name another directory"
            ) from error
        yield


@contextmanager
def _log(folder: Path) -> Iterator[logging.Logger]:
    """Lines of JSON in `log.jsonl`: time, level, message; no paths, no covariates."""
    import json

    class Lines(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            time_ = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="seconds")
            return json.dumps(
                {"time": time_, "level": record.levelname.lower(), "message": record.getMessage()}
            )

    folder.mkdir(parents=True, exist_ok=True)
    logger = logging.getLogger(f"relevance_audit.{folder.name}")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    handler = logging.FileHandler(folder / "log.jsonl", encoding="utf-8")
    handler.setFormatter(Lines())
    logger.addHandler(handler)
    try:
        yield logger
    finally:
        logger.removeHandler(handler)
        handler.close()


@contextmanager
def _progress(cases: int) -> Iterator[Callable[[str], None]]:
    """Show a bar with the time left on standard error."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    bar: Progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
    )
    with bar:
        task = bar.add_task("cases", total=cases)

        def advance(name: str) -> None:
            bar.update(task, advance=1, description=f"case {name}")

        yield advance


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
