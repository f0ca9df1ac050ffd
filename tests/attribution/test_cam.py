"""Class activation maps: hand formulas, laws, captum, and any network."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional

from pipeline.attribution import METHODS, attribute
from pipeline.errors import MethodError

FAMILY = ("cam", "grad_cam", "grad_cam++")


class Pooled(nn.Module):
    """Two convolutions at two grids, pooling, one linear layer."""

    def __init__(self, dims: int = 2, classes: int = 3, *, rectified: bool = True) -> None:
        super().__init__()
        conv, pool = (nn.Conv2d, nn.MaxPool2d) if dims == 2 else (nn.Conv3d, nn.MaxPool3d)
        self.first, self.shrink, self.second = conv(2, 5, 3, padding=1), pool(2), conv(5, 6, 3, padding=1)
        self.classifier = nn.Linear(6, classes)
        self.rectified = rectified

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.second(self.shrink(self.first(x).relu()))
        y = y.relu() if self.rectified else functional.silu(y)
        return self.classifier(y.mean(tuple(range(2, x.ndim))))


class Flattened(Pooled):
    """The same without pooling, and two linear layers."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(6 * 36, 7), nn.ReLU(), nn.Linear(7, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.second(self.shrink(self.first(x).relu())).relu())


def double(model: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    model = model.double().eval()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=p.dtype) / max(p[0].numel(), 4) ** 0.5)
    return model


def images(dims: int = 2, n: int = 2, size: int = 12) -> torch.Tensor:
    return torch.randn(n, 2, *[size] * dims, generator=torch.Generator().manual_seed(7)).double()


def on_image(coarse: torch.Tensor, size: int = 12) -> torch.Tensor:
    dims = coarse.ndim - 2
    mode = "bilinear" if dims == 2 else "trilinear"
    return functional.interpolate(coarse, size=[size] * dims, mode=mode, align_corners=False)


def last_activation(model: Pooled, x: torch.Tensor) -> torch.Tensor:
    return model.second(model.shrink(model.first(x).relu())).relu()


@pytest.mark.parametrize("dims", [2, 3])
def test_cam_is_its_formula(dims: int) -> None:
    model, x = double(Pooled(dims)), images(dims)
    result = attribute(model, x, [2, 0], "cam")
    weights = model.classifier.weight[[2, 0]]
    by_hand = torch.einsum("nk,nk...->n...", weights, last_activation(model, x))[:, None].detach()
    torch.testing.assert_close(result.details["coarse"], by_hand)
    torch.testing.assert_close(result.values, on_image(by_hand))
    mean = by_hand.flatten(1).mean(1) + model.classifier.bias[[2, 0]]
    torch.testing.assert_close(mean, model(x)[[0, 1], [2, 0]])


@pytest.mark.parametrize("dims", [2, 3])
def test_grad_cam_is_cam_divided_by_the_cells(dims: int) -> None:
    model, x = double(Pooled(dims, rectified=False)), images(dims)
    cells = 6**dims
    for output in ("logit", "probability"):
        cam = attribute(model, x, 1, "cam", output=output)
        gradient = attribute(model, x, 1, "grad_cam", output=output)
        torch.testing.assert_close(cam.values / cells, gradient.values)
        assert gradient.details["cells"] == cells


def test_grad_cam_equals_captum() -> None:
    captum = pytest.importorskip("captum.attr")
    x = images()
    for model in (double(Pooled()), double(Flattened(), seed=1)):

        class Named(nn.Module):
            def __init__(self, inner: nn.Module) -> None:
                super().__init__()
                self.below = nn.Sequential(inner.first, nn.ReLU(), inner.shrink, inner.second, nn.ReLU())
                self.pooled, self.classifier = isinstance(inner, Flattened), inner.classifier

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                y = self.below(x)
                return self.classifier(y if self.pooled else y.mean((2, 3)))

        hooked = Named(model)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            peer = captum.LayerGradCam(hooked, hooked.below).attribute(x, target=1)
        torch.testing.assert_close(
            attribute(model, x, 1, "grad_cam").details["coarse"], peer.detach(), atol=1e-5, rtol=1e-5
        )


def test_grad_cam_plus_plus_is_its_formula() -> None:
    model, x = double(Flattened()), images()
    a = last_activation(model, x).detach().requires_grad_()
    g = torch.autograd.grad(model.classifier(a)[:, 2].sum(), a)[0]
    by_hand = torch.zeros(2, 1, 6, 6).double()
    for n in range(2):
        for k in range(6):
            total, weight = float(a[n, k].detach().sum()), 0.0
            for value in g[n, k].flatten().tolist():
                if value != 0:
                    weight += value**2 / (2 * value**2 + total * value**3) * max(value, 0)
            by_hand[n, 0] += weight * a[n, k].detach()
    torch.testing.assert_close(attribute(model, x, 2, "grad_cam++").details["coarse"], by_hand)


def test_grad_cam_plus_plus_stays_finite_where_activations_are_negative() -> None:
    model, x = double(Pooled(rectified=False)), images()
    with torch.no_grad():
        model.second.bias.fill_(-0.7)  # a sum of activations that would make the denominator vanish somewhere
    x = torch.cat([x * s for s in torch.linspace(0.1, 3, 40).tolist()])
    found = attribute(model, x, 1, "grad_cam++").details["coarse"]
    slope = attribute(model, x, 1, "grad_cam").details["coarse"]
    assert torch.isfinite(found).all()
    assert found.abs().max() < 100 * slope.abs().max()


def test_relu_keeps_the_raw_map() -> None:
    model, x = double(Pooled()), images()
    raw, positive = (attribute(model, x, 0, "grad_cam", relu=r) for r in (False, True))
    assert (raw.values < 0).any()
    assert (positive.values >= 0).all()
    assert torch.equal(raw.details["coarse"], positive.details["coarse"])
    torch.testing.assert_close(positive.values, on_image(raw.details["coarse"].clamp(min=0)))


def test_a_finer_stage_is_the_activation_before_the_pool() -> None:
    model, x = double(Flattened()), images()
    result = attribute(model, x, 1, "grad_cam", stage=1)
    a = model.first(x).relu().detach().requires_grad_()
    rest = model.classifier(model.second(model.shrink(a)).relu())
    g = torch.autograd.grad(rest[:, 1].sum(), a)[0]
    by_hand = (g.mean((2, 3), keepdim=True) * a).sum(1, keepdim=True).detach()
    torch.testing.assert_close(result.values, by_hand)
    assert result.details["grid"] == (12, 12)
    assert result.details["stride"] == (1, 1)
    assert result.details["upsampling"] == "bilinear, align_corners=False"
    with pytest.raises(MethodError, match="stages finer"):
        attribute(model, x, 1, "grad_cam", stage=2)
    for wrong in (-1, True, 0.5, "1"):
        with pytest.raises(MethodError, match="stage"):
            attribute(model, x, 1, "grad_cam", stage=wrong)


class Branches(nn.Module):
    """A coarse and a fine branch pooled apart: the last activation is not all the logits see."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 5, 3, padding=1, stride=2)
        self.classifier = nn.Linear(9, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        fine = self.first(x).relu()
        coarse = self.second(fine).relu()
        return self.classifier(torch.cat([fine.mean((2, 3)), coarse.mean((2, 3))], 1))


def test_an_activation_that_is_passed_by() -> None:
    model, x = double(Branches()), images()
    result = attribute(model, x, 1, "grad_cam")
    torch.testing.assert_close(result.scores, model(x).detach())
    coarse = model.second(model.first(x).relu()).relu()
    by_hand = torch.einsum("k,nkij->nij", model.classifier.weight[1, 4:], coarse)[:, None] / 36
    torch.testing.assert_close(result.details["coarse"], by_hand.detach())
    with pytest.raises(MethodError, match="global average pooling"):
        attribute(model, x, 1, "cam")


def test_refusals() -> None:
    model = double(Flattened())
    with pytest.raises(MethodError, match="global average pooling"):
        attribute(model, images(), 0, "cam")
    single = nn.Sequential(
        nn.Conv2d(2, 4, 12), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    for name in (*FAMILY, "guided_grad_cam"):
        with pytest.raises(MethodError, match="map of 1×1"):
            attribute(single.double(), images(), 0, name)


@pytest.mark.skipif("guided_backprop" not in METHODS, reason="guided backprop is not built")
def test_guided_grad_cam_is_the_product_and_refuses_an_empty_one() -> None:
    model, x = double(Pooled()), images()
    target = attribute(model, x, 0, "grad_cam").details["coarse"].flatten(1).amax(1)
    assert (target > 0).all()
    result = attribute(model, x, 0, "guided_grad_cam")
    coarse = attribute(model, x, 0, "grad_cam", relu=True).values
    torch.testing.assert_close(result.values, coarse * attribute(model, x, 0, "guided_backprop").values)
    with torch.no_grad():
        model.classifier.weight[1] = -1
    with pytest.raises(MethodError, match=r"rectified Grad-CAM is zero for image 0 \(target 1\)"):
        attribute(model, x, 1, "guided_grad_cam")


def vgg() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(8 * 256, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 3)),
    )


def built(name: str, dims: int) -> nn.Module:
    from pipeline.models.architectures import build
    from pipeline.models.architectures.rieke import RiekeGAP

    if name in {"vgg", "rieke"}:
        return vgg() if name == "vgg" else RiekeGAP(3, widths=(2, 4, 4, 8))
    plain: dict[str, object] = {"spatial_dims": dims, "in_channels": 1}
    if "resnet" in name and "se" not in name:
        plain = {"spatial_dims": dims, "n_input_channels": 1}
    if name == "monai_densenet121":
        return build(name, {**plain, "out_channels": 3})
    extra = {"shortcut_type": "A"} if name == "monai_resnet50" else {}
    extra |= {"model_name": "efficientnet-b0"} if name == "monai_efficientnet" else {}
    return build(name, {**plain, **extra, "num_classes": 3})


QUICK = [("vgg", 2), ("rieke", 3)]
SLOW = [
    *(("monai_resnet18", 3), ("monai_densenet121", 2), ("monai_efficientnet", 2)),
    *(("monai_resnet18", 2), ("monai_resnet50", 2), ("monai_resnet50", 3), ("monai_densenet121", 3)),
    *(("monai_seresnet50", 2), ("monai_seresnet50", 3), ("monai_efficientnet", 3)),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "dims"), [*QUICK, *(pytest.param(*slow, marks=pytest.mark.long) for slow in SLOW)]
)
def test_every_network(name: str, dims: int) -> None:
    torch.manual_seed(0)
    model = built(name, dims).eval()
    x = torch.randn(1, 1, *[64 if dims == 2 else 34] * dims, generator=torch.Generator().manual_seed(3))
    result = attribute(model, x, 1, "grad_cam", stage=1)  # the last map of some is 1×1 on so small an image
    torch.testing.assert_close(result.scores, model(x).detach(), rtol=1e-3, atol=1e-4)
    assert result.values.shape == (1, 1, *x.shape[2:])
    assert result.values.std() > 0
    if name == "vgg":
        with pytest.raises(MethodError, match="global average pooling"):
            attribute(model, x, 1, "cam")


@pytest.mark.parametrize("how", ["trace", "script"])
def test_torchscript(how: str) -> None:
    model, x = double(Flattened()), images()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.trace(model, x) if how == "trace" else torch.jit.script(nn.Sequential(
            model.first, nn.ReLU(), model.shrink, model.second, nn.ReLU(), *model.classifier))  # fmt: skip
    for name in ("grad_cam", "grad_cam++"):
        ours = attribute(model, x, 1, name)
        torch.testing.assert_close(attribute(scripted, x, 1, name).values, ours.values)


def test_cards_are_complete() -> None:
    for name in (*FAMILY, "guided_grad_cam", "mace"):
        card = METHODS[name]
        assert all((card.family, card.needs, card.cost, card.source))
        assert card.class_discriminative
        assert "arXiv" in card.source
