"""Prefect for one audit directory: embedded server, its database inside the directory, nothing sent out."""

from __future__ import annotations

import os
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
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
        "DO_NOT_TRACK": "1",
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_TO_API_ENABLED": "false",
        "PREFECT_CLI_COLORS": "false",
    }
    for name, value in settings.items():
        os.environ.setdefault(name, value)
