"""Prefect for one audit directory: embedded server, its database inside the directory, nothing sent out."""

from __future__ import annotations

import os
import signal
from pathlib import Path


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
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
        "DO_NOT_TRACK": "1",
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_TO_API_ENABLED": "false",
        "PREFECT_CLI_COLORS": "false",
    }
    for name, value in settings.items():
        os.environ.setdefault(name, value)


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
            if b"prefect.server.api.server:create_app" not in (process / "cmdline").read_bytes():
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
