"""Prefect for one audit directory: embedded server, its database inside the directory, nothing sent out."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import AuditError

_SERVER_START_SECONDS = 300


def use_prefect_home(home: Path) -> None:
    """Point Prefect at `home`; to be called before Prefect is imported.

    Parameters
    ----------
    home : Path
        Database and results of Prefect live here, beside the patients' data, never in the user's home.
        What the user has set (`PREFECT_API_URL` of a server of their own, for instance) is left alone.
    """
    home.mkdir(parents=True, exist_ok=True)
    settings = {
        "PREFECT_HOME": str(home.resolve()),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(_SERVER_START_SECONDS),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
        "DO_NOT_TRACK": "1",
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_TO_API_ENABLED": "false",
        "PREFECT_CLI_COLORS": "false",
    }
    for name, value in settings.items():
        os.environ.setdefault(name, value)


@contextmanager
def scheduling_server() -> Iterator[None]:
    """Run a Prefect server with its scheduler on the loopback interface for the length of the block.

    The server that a flow starts for itself keeps no schedules. A server of the user's own
    (`PREFECT_API_URL`) is used as it is.

    Raises
    ------
    pipeline.errors.AuditError
        If the server does not answer.
    """
    if os.environ.get("PREFECT_API_URL"):
        yield
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    environment = os.environ | {"PREFECT_SERVER_UI_ENABLED": "false"}
    server = subprocess.Popen(  # noqa: S603  our own interpreter and words
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_for(url, server)
        os.environ["PREFECT_API_URL"] = url
        yield
    finally:
        os.environ.pop("PREFECT_API_URL", None)
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _SERVER_START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:  # noqa: S310  loopback only
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise AuditError(
        "Prefect's server did not start", "try again, or set PREFECT_API_URL to a server of your own"
    )


def end_orphaned_servers(home: Path) -> int:
    """End embedded servers of `home` whose run was killed; they would go on forever.

    Parameters
    ----------
    home : Path
        As given to `use_prefect_home`.

    Returns
    -------
    int
        How many were ended. Only on systems with `/proc`; elsewhere nothing is looked for.
    """
    wanted = f"PREFECT_HOME={home.resolve()}".encode()
    ended = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes()
            if (
                b"prefect.server.api.server:create_app" not in words
                and b"prefect\0server\0start" not in words
            ):
                continue
            if wanted not in (process / "environ").read_bytes().split(b"\0"):
                continue
            parent = (process / "stat").read_text().rsplit(")", 1)[1].split()[1]
            if parent == "1":
                os.kill(int(process.name), signal.SIGTERM)
                ended += 1
        except (OSError, IndexError):  # it ended by itself, or is another user's
            continue
    return ended
