"""What is installed is enough: templates, TOML, protocols and both bundles are package data."""

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
    ]
    subprocess.run([*pip, folder, ROOT], check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_code_data_and_nothing_of_the_tests(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for package, suffixes in (
        ("pipeline", {".py", ".safetensors", ".json", ".md", ".csv"}),
        ("atlases", {".py", ".toml"}),
        ("reports", {".py", ".typ"}),
        ("flows", {".py", ".yaml"}),
    ):
        for path in (ROOT / package).rglob("*"):
            if path.suffix in suffixes and "__pycache__" not in path.parts:
                assert path.relative_to(ROOT).as_posix() in names
    assert not [n for n in names if n.startswith(("tests/", "benchmarks/", "docs/"))]
    for bundle in ("alzheimer", "retinopathy"):
        assert f"pipeline/phantoms/bundles/{bundle}/models/model.safetensors" in names


@pytest.mark.long
def test_the_demonstration_runs_from_an_empty_folder_in_a_fresh_environment(wheel, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv/bin/python"
    # dependencies come from the environment of the tests, the package itself only from the wheel
    site = next((tmp_path / "venv/lib").glob("python*")) / "site-packages"
    (site / "dependencies.pth").write_text(str(Path(pytest.__file__).parent.parent))
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", wheel], check=True)
    empty = tmp_path / "empty"
    empty.mkdir()
    where = [python, "-c", "import pipeline, flows; print(pipeline.__file__)"]
    assert str(site) in subprocess.run(where, cwd=empty, check=True, capture_output=True, text=True).stdout
    command = [tmp_path / "venv/bin/relevance-audit", "demo", "--out", "out", "--cases", "2"]
    subprocess.run(command, cwd=empty, check=True)
    for name in ("brain", "retina"):
        assert (empty / "out" / name / "report.pdf").read_bytes().startswith(b"%PDF")
