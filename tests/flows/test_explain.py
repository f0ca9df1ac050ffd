"""One map of one image: numbers as people write them, where the evidence lies, faithful concepts only."""

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import nn

from flows.explain import _options, explain
from pipeline.attribution.mace import fit_mace
from pipeline.errors import MethodError

SHAPE = (12, 14, 16)


class Bright(nn.Module):
    """Class 1 where something is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv3d(1, 2, 1), nn.Linear(2, 2)
        with torch.no_grad():
            self.first.weight.fill_(1.0)
            self.first.bias.copy_(torch.tensor([-1.0, 0.0]))
            self.last.weight.copy_(torch.tensor([[-40.0, 0.0], [40.0, 0.0]]))
            self.last.bias.copy_(torch.tensor([1.0, -1.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(x).relu().mean((2, 3, 4)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, and a volume with a bright block at known voxels, stored in another orientation than RAS."""
    folder = tmp_path_factory.mktemp("explain")
    torch.jit.trace(Bright().eval(), torch.rand(1, 1, *SHAPE)).save(folder / "model.pt")
    data = (0.1 + 0.02 * np.random.default_rng(0).random(SHAPE)).astype(np.float32)
    data[3:6, 2:6, 8:12] = 3.0
    affine = np.array([[0.0, 0, 2, -9], [-2, 0, 0, 11], [0, -2, 0, 7], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(data, affine), folder / "image.nii.gz")
    return folder


def run(folder, method, *options):
    place = {"model": str(folder / "model.pt"), "image": folder / "image.nii.gz", "out": folder / method}
    said = explain(method=method, target="1", regions=None, atlas=None, options=options, **place)
    return said, json.loads((folder / method / "explain.json").read_text())


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-6", 1e-6), ("-2E3", -2000.0), ("0.5", 0.5), ("3", 3), ("[1, 2]", [1, 2]), ("1e", "1e")],
)  # fmt: skip
def test_numbers_are_read_as_people_write_them(text, value):
    assert _options([f"key={text}"]) == {"key": value}
    assert type(_options([f"key={text}"])["key"]) is type(value)


def test_the_box_of_the_segment_is_where_the_evidence_is(folder):
    _, content = run(folder, "cam")
    (entry,) = content["maps"].values()
    for way in ("simonyan", "otsu"):
        assert entry["segments"][way]["box"] == [[2.5, 5.5], [1.5, 5.5], [7.5, 11.5]], way
        assert entry["segments"][way]["share_of_field"] == pytest.approx(48 / np.prod(SHAPE), rel=0.01)


def test_regions_covered_together_stand_beside_the_single_ones(folder):
    labels = np.zeros(SHAPE, np.uint8)
    labels[3:6, 2:4, 8:12], labels[3:6, 4:6, 8:12] = 37, 38
    image = nib.load(folder / "image.nii.gz")
    nib.save(nib.Nifti1Image(labels, image.affine), folder / "labels.nii.gz")
    out = folder / "regions"
    place = {"model": str(folder / "model.pt"), "image": folder / "image.nii.gz", "out": out}
    options = ("groups=[[37, 38]]", "pairs=true")
    said = explain(
        method="region_occlusion",
        target="1",
        regions=folder / "labels.nii.gz",
        atlas=None,
        options=options,
        **place,
    )
    (entry,) = json.loads((out / "explain.json").read_text())["maps"].values()
    (pair,) = entry["group_scores"]  # the two also touch: the pair is not asked twice
    assert pair["regions"] == [37, 38]
    assert pair["score"] == pytest.approx(
        sum(entry["region_scores"].values()), rel=1e-4
    )  # linear in the mean
    assert pair["score"] > 0
    assert any(line.startswith("Occlusion: ") and "forward passes" in line for line in said)


def test_concepts_are_shown_from_a_file_if_they_are_faithful(folder):
    generator = torch.Generator().manual_seed(0)
    images = 0.1 + 0.02 * torch.rand(24, 1, *SHAPE, generator=generator)
    images[::2, :, 3:6, 2:6, 8:12] = 3.0
    model = torch.jit.load(folder / "model.pt").eval()
    state = fit_mace(model, images, epochs=1, concepts=2)
    assert state.fidelity is not None
    for agreement, name in ((0.95, "good"), (0.6, "poor")):
        fidelity = replace(state.fidelity, agreement=agreement, majority=0.5, images=20)
        replace(state, fidelity=fidelity).save(folder / f"{name}.safetensors")
    said, content = run(folder, "mace", f"state={folder}/good.safetensors")
    assert said[-3].startswith("The concepts decide as the model does on 95% of 20 held-out images")
    assert any("95%" in note for note in content["notes"])
    before = sorted(p.name for p in folder.rglob("*"))
    with pytest.raises(MethodError, match="on 60% of 20 held-out images: too seldom"):
        run(folder, "mace", f"state={folder}/poor.safetensors")
    assert sorted(p.name for p in folder.rglob("*")) == before
