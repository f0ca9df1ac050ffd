"""An audit as a user runs it: the directory of the contract, bad cases listed, nothing done twice."""

import csv
import json
import shutil

import pandas as pd
import pytest
from support import command, write_inputs

from pipeline.files import sha256_of
from pipeline.record.schema import read_record


def messages(out):
    return [json.loads(line)["message"] for line in (out / "log.jsonl").read_text().splitlines()]


def test_the_audit_directory_is_that_of_the_contract(finished):
    _, out, said = finished
    assert said.returncode == 1, said.stderr
    for name in (
        "report.pdf",
        "protocol.yaml",
        "audit.json",
        "measurements.parquet",
        "log.jsonl",
        "manifest.json",
    ):
        assert (out / name).is_file(), name
    assert (out / "report.pdf").read_bytes().startswith(b"%PDF")
    record = read_record(out)
    assert record.verdict.answer == "inconclusive"
    assert {row.case for row in record.cases if row.page} == {p.stem for p in (out / "cases").glob("*.npz")}
    for row in record.cases:
        if row.page:
            assert {f"{name}.tif" for name in row.maps} <= {
                p.name for p in (out / "maps" / row.case).iterdir()
            }
    table = pd.read_parquet(out / "measurements.parquet")
    assert set(table.columns) >= {"case", "method", "target", "metric", "value"}
    assert {"gradient", "grad_cam", "occlusion", "null:contrast"} <= set(table.method)


def test_a_broken_case_is_listed_and_takes_no_other_down(finished):
    folder, out, _ = finished
    record = read_record(out)
    assert [e.case for e in record.errors] == ["retina-7000003"]
    assert "retina-7000003.jpg" in record.errors[0].reason
    assert len(record.cases) == 6
    checked = command("check", folder / "protocol.yaml")
    assert checked.returncode == 1
    assert checked.stdout.splitlines()[0].startswith("case retina-7000003: retina-7000003.jpg")


def test_nothing_of_the_patient_or_the_machine_is_in_what_is_written(finished):
    folder, out, _ = finished
    rows = list(csv.DictReader((folder / "cohort/cohort.csv").read_text().splitlines()))
    assert rows
    for name in ("audit.json", "log.jsonl", "manifest.json", "report.pdf"):
        content = (out / name).read_bytes()
        assert str(folder).encode() not in content
    assert '"age"' not in (out / "audit.json").read_text()


def test_verify_sees_every_change(finished, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished[1], copy)
    assert command("verify", copy).returncode == 0
    (copy / "audit.json").write_text((copy / "audit.json").read_text() + " ")
    (copy / "extra.txt").write_text("x")
    (copy / "protocol.yaml").unlink()
    said = command("verify", copy)
    assert said.returncode == 1
    assert said.stdout.splitlines() == [
        "protocol.yaml: missing",
        "extra.txt: added since the run",
        "audit.json: changed",
        "3 differences",
    ]


def test_the_report_is_rendered_again_from_the_directory_alone(finished, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished[1], copy)
    (copy / "report.pdf").unlink()
    assert command("report", copy).returncode == 0
    assert (copy / "report.pdf").is_file()
    assert command("verify", copy).returncode == 0


def test_run_again_computes_nothing_again_and_a_changed_image_alone(finished, tmp_path):
    folder = tmp_path / "again"
    shutil.copytree(finished[0], folder)
    out = folder / "out"
    before = sha256_of(out / "measurements.parquet")
    picture = folder / "cohort/images/retina-7000001.jpg"
    assert command("run", folder / "protocol.yaml", "--out", out).returncode == 1
    assert sum("earlier run" in m for m in messages(out)) == 6
    assert sha256_of(out / "measurements.parquet") == before
    shutil.copy(folder / "cohort/images/retina-7000002.jpg", picture)
    command("run", folder / "protocol.yaml", "--out", out)
    assert sum("earlier run" in m for m in messages(out)) == 11


def test_a_stopped_run_goes_on_where_it_ended(tmp_path):
    from flows.audit import audit_cohort
    from pipeline.case import audit_case
    from pipeline.protocol import load_protocol
    from pipeline.stages.setup import set_up

    protocol = load_protocol(write_inputs(tmp_path, 3))
    audit, cohort = set_up(protocol, tmp_path / "out")
    done = []

    def run(case):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(case.case)
        return audit_case(case, audit)

    with pytest.raises(KeyboardInterrupt):
        audit_cohort(audit, cohort, run)
    assert len(done) == 2
    rest = []

    def go_on(case):
        rest.append(case.case)
        return audit_case(case, audit)

    record = audit_cohort(audit, cohort, go_on)
    assert rest == ["retina-7000002"]
    assert len(record.cases) == 3


@pytest.mark.long
def test_kill_minus_nine_in_the_middle_then_the_same_command(tmp_path):
    import os
    import signal
    import subprocess
    import sys
    import time

    protocol = write_inputs(tmp_path, 6)
    out = tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-m", "flows.cli", "run", protocol, "--out", out])
    deadline = time.monotonic() + 200
    while len(list((out / "cases").glob("*.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = {p.name: p.stat().st_mtime_ns for p in (out / "cases").glob("*.json")}
    assert 2 <= len(kept) < 6
    said = command("run", protocol, "--out", out)
    assert said.returncode == 1, said.stderr
    assert all((out / "cases" / name).stat().st_mtime_ns == when for name, when in kept.items())
    assert len(read_record(out).cases) == 6
    import sqlite3

    states = (
        sqlite3.connect(out / ".prefect/prefect.db").execute("select state_type from flow_run").fetchall()
    )
    assert sorted(s for (s,) in states) == ["COMPLETED", "CRASHED"]
