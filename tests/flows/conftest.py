"""One small audit that all tests of the flow look at: starting Prefect takes many seconds."""

import pytest
from support import command, write_inputs


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """Inputs, the finished audit directory, and what the command said; one of its cases is broken."""
    folder = tmp_path_factory.mktemp("audit")
    protocol = write_inputs(folder, 7)
    broken = folder / "cohort" / "images" / "retina-7000003.jpg"
    broken.write_bytes(broken.read_bytes()[:2000])
    said = command("run", protocol, "--out", folder / "out")
    return folder, folder / "out", said
