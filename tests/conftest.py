"""What all tests share: where the real images are, and a fixed Hypothesis profile."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "repository",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("repository")


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of real images, from RELEVANCE_AUDIT_DATA."""
    folder = os.environ.get("RELEVANCE_AUDIT_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("RELEVANCE_AUDIT_DATA does not name the folder of real images")
    return Path(folder)
