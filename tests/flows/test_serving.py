"""A schedule of every minute starts audits by itself, each in its own directory."""

import os
import signal
import subprocess
import sys
import time

import pytest
from support import write_inputs


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_cron_of_every_minute_audits_twice_by_itself(tmp_path):
    protocol = write_inputs(tmp_path, 1)
    root = tmp_path / "audits"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "serve", protocol, "--cron", "* * * * *", "--out", root],
        env=environment,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 420
        while len(list(root.glob("*/report.pdf"))) < 2 and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(1)
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    finished = [path.parent for path in root.glob("*/manifest.json")]
    assert len(finished) >= 2
    assert len({path.name for path in finished}) == len(finished)
