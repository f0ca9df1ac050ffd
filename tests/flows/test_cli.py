"""The command line: fast to answer, one line for every refusal, exit codes of the contract."""

import json
import subprocess
import sys
import time

import nibabel as nib
import numpy as np
import pytest
import tifffile
import torch
from support import command, write_inputs
from torch import nn


def test_help_needs_none_of_the_heavy_packages():
    code = "import sys, flows.cli, pipeline, atlases, reports, pipeline.attribution, pipeline.comparison; "
    code += "heavy = {'torch', 'monai', 'nilearn', 'prefect', 'SimpleITK', 'matplotlib'}; "
    code += "print(heavy & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"


def test_help_answers_in_half_a_second():
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        said = command("--help")
        times.append(time.perf_counter() - begin)
        assert said.returncode == 0
    assert min(times) < 0.5


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("run", "none.yaml", "--out", "o"), "none.yaml"),
        (("check", "none.yaml"), "none.yaml"),
        (("report", "none"), "audit.json"),
        (("verify", "none"), "manifest.json"),
        (
            (
                "explain",
                "--model",
                "none",
                "--image",
                "i.png",
                "--method",
                "gradient",
                "--target",
                "1",
                "--out",
                "o",
            ),
            "none",
        ),
        (
            (
                "explain",
                "--model",
                "m",
                "--image",
                "i.png",
                "--method",
                "magic",
                "--target",
                "1",
                "--out",
                "o",
            ),
            "magic",
        ),
        (("serve", "none.yaml", "--cron", "often"), "none.yaml"),
    ],
)
def test_refusals_are_one_line_and_exit_code_two(tmp_path, monkeypatch, arguments, word):
    monkeypatch.chdir(tmp_path)
    said = command(*arguments)
    assert said.returncode == 2
    (line,) = said.stderr.splitlines()
    assert word in line
    assert not list(tmp_path.iterdir())


def test_a_protocol_is_refused_with_all_its_mistakes(tmp_path):
    protocol = write_inputs(tmp_path, 1)
    text = (
        protocol.read_text().replace("grad_cam,", "grad_cam, magic,", 1).replace("patch: 128", "patches: 128")
    )
    protocol.write_text(text.replace("skill_auc", "beauty").replace("model.pt", "gone.pt"))
    said = command("run", protocol, "--out", tmp_path / "out")
    assert said.returncode == 2
    (line,) = said.stderr.splitlines()
    for word in ("magic", "patches", "beauty", "gone.pt"):
        assert word in line
    assert not (tmp_path / "out").exists()


def test_a_schedule_that_is_none_is_refused(tmp_path):
    said = command("serve", write_inputs(tmp_path, 1), "--cron", "often", "--out", tmp_path / "out")
    assert said.returncode == 2
    (line,) = said.stderr.splitlines()
    assert "'often' is not a cron schedule" in line
    assert not (tmp_path / "out").exists()


def test_methods_and_atlases_are_listed():
    from pipeline.attribution import METHODS

    lines = command("methods").stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(METHODS)
    listed = command("atlases").stdout
    assert all(name in listed for name in ("AAL", "nilearn:NAME", "FILE.nii.gz", "ETDRS"))


def test_explain_a_photograph_and_a_volume(tmp_path):
    write_inputs(tmp_path, 1)
    picture = tmp_path / "cohort/images/retina-7000000.jpg"
    said = command(
        *(
            "explain",
            "--model",
            tmp_path / "model.pt",
            "--image",
            picture,
            "--method",
            "occlusion",
            "--target",
            1,
        ),
        *("--option", "patch=[128, 128]", "--option", "stride=128", "--out", tmp_path / "a"),
    )
    assert said.returncode == 0, said.stderr
    assert "as read" in said.stdout
    content = json.loads((tmp_path / "a/explain.json").read_text())
    (name,) = content["maps"]
    values = tifffile.imread(tmp_path / "a" / name)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values.sum(), content["maps"][name]["sum"], rtol=1e-4)

    network = nn.Sequential(
        nn.Conv3d(1, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(3, 2)
    )
    torch.jit.trace(network.eval(), torch.rand(1, 1, 9, 9, 9)).save(tmp_path / "v.pt")
    affine = np.diag([-2.0, 2, 2, 1])
    data = np.random.default_rng(0).normal(size=(9, 10, 11)).astype(np.float32)
    labels = np.zeros(data.shape, np.int16)
    labels[:4], labels[4:6] = 3, 7
    nib.save(nib.Nifti1Image(data, affine), tmp_path / "v.nii.gz")
    nib.save(nib.Nifti1Image(labels, affine), tmp_path / "labels.nii.gz")
    said = command(
        *(
            "explain",
            "--model",
            tmp_path / "v.pt",
            "--image",
            tmp_path / "v.nii.gz",
            "--method",
            "region_occlusion",
        ),
        *("--target", 1, "--regions", tmp_path / "labels.nii.gz", "--out", tmp_path / "b"),
    )
    assert said.returncode == 0, said.stderr
    content = json.loads((tmp_path / "b/explain.json").read_text())
    (name,) = content["maps"]
    image = nib.load(tmp_path / "b" / name)
    np.testing.assert_allclose(image.affine, affine)
    assert set(content["maps"][name]["region_scores"]) == {"3", "7"}
    module = torch.jit.load(tmp_path / "v.pt")
    occluded = torch.from_numpy(np.where(labels == 7, 0, data))[None, None]
    with torch.no_grad():
        drop = module(torch.from_numpy(data)[None, None])[0, 1] - module(occluded)[0, 1]
    np.testing.assert_allclose(content["maps"][name]["region_scores"]["7"], drop, rtol=1e-4)
    np.testing.assert_allclose(image.get_fdata()[labels == 7], float(drop), rtol=1e-4)


def test_a_stopped_write_leaves_nothing(tmp_path):
    write_inputs(tmp_path, 1)
    picture = tmp_path / "cohort/images/retina-7000000.jpg"
    said = command(
        *(
            "explain",
            "--model",
            tmp_path / "model.pt",
            "--image",
            picture,
            "--method",
            "gradient",
            "--target",
            7,
        ),
        *("--out", tmp_path / "a"),
    )
    assert said.returncode == 2
    assert not (tmp_path / "a").exists()


def test_labels_that_cannot_be_told_apart_are_refused(tmp_path, monkeypatch, capsys):
    from flows.cli import main

    monkeypatch.chdir(tmp_path)
    network = nn.Sequential(nn.Conv3d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    torch.jit.trace(network.eval(), torch.rand(1, 1, 9, 9, 9)).save("v.pt")
    data = np.random.default_rng(0).normal(size=(9, 9, 9)).astype(np.float32)
    labels = np.zeros(data.shape, np.int64)
    labels[:3], labels[0, 0, 0] = 3, 2**40
    nib.save(nib.Nifti1Image(data, np.eye(4)), "v.nii.gz")
    nib.save(nib.Nifti1Image(labels, np.eye(4), dtype=np.int64), "labels.nii.gz")
    words = "explain --model v.pt --image v.nii.gz --method region_occlusion --target 1 --out o"
    assert main([*words.split(), "--regions", "labels.nii.gz"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "labels.nii.gz: label 1099511627776 is above" in line
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    "words",
    [
        "explain --model m.pt --image i.png --method gradient --target 1 --out file/deeper",
        "demo --out file --cases 2",
        "run protocol.yaml --out file",
    ],
)
def test_a_file_where_a_folder_is_expected_is_refused_before_anything_is_made(
    tmp_path, monkeypatch, capsys, words
):
    from flows.cli import main

    if words.startswith("run"):
        write_inputs(tmp_path, 1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    assert main(words.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "file" in line
    assert "unexpected" not in line
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("words", ["demo --out o --cases 0", "demo --out o --cases many", "", "run", "dance"])
def test_words_that_are_no_command_are_one_line(tmp_path, monkeypatch, capsys, words):
    from flows.cli import main

    monkeypatch.chdir(tmp_path)
    try:
        code = main(words.split())
    except SystemExit as end:
        code = end.code
    assert code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_what_the_system_refuses_is_one_line_with_the_file(monkeypatch, capsys):
    import flows.cli

    def full(_options):
        raise OSError(28, "No space left on device", "out/maps/a.tif")

    monkeypatch.setitem(flows.cli._COMMANDS, "methods", full)
    assert flows.cli.main(["methods"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "out/maps/a.tif: No space left on device" in line
    assert "defect" not in line


GONE = "/data/Hans Example/x.nii"


@pytest.mark.parametrize("error", [FileNotFoundError(2, "gone", GONE), ValueError(f"bad {GONE!r} at 3/4")])
def test_what_no_step_foresaw_is_recorded_without_folders(error):
    from flows.audit import _unexpected

    line = _unexpected(error)
    assert "x.nii" in line
    assert "Hans" not in line


@pytest.mark.parametrize(
    ("addition", "words"),
    [
        ("nulls: [average]", "needs a null map"),
        ("cues: [{name: label, image: PHOTO, place: [0.5, 0.5], width: 0.1}]", "cue label: the standard"),
        ("cues: [{name: own, image: gone.png, place: [0.5, 0.5], width: 0.1}]", "cue own: gone.png"),
        ("twins: {random: 0, shuffled_labels: false}", "needs twins of gradient"),
    ],
)
def test_what_no_run_could_answer_is_refused(tmp_path, addition, words):
    from pipeline.errors import AuditError
    from pipeline.protocol import load_protocol
    from pipeline.stages.setup import set_up

    protocol = write_inputs(tmp_path, 1)
    photo = next((tmp_path / "cohort" / "images").iterdir())
    text = protocol.read_text().replace(
        "criteria:", "criteria:\n  - {name: lift_over_twins, method: gradient, at_least: 0}"
    )
    protocol.write_text(text + addition.replace("PHOTO", str(photo)) + "\n")
    with pytest.raises(AuditError, match=words):
        set_up(load_protocol(protocol), tmp_path / "out")


def test_check_names_a_bound_that_any_model_meets(tmp_path):
    from flows.checking import check_protocol

    protocol = write_inputs(tmp_path, 1)
    protocol.write_text(protocol.read_text().replace("at_least: 0.7", "at_least: 0.1"))
    (line,) = check_protocol(protocol)
    assert line == "criterion skill_auc says nothing of a model: a bound has to be 0.5 or more and below 1"
