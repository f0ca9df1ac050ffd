"""What peers get wrong without a word: each failure, and the right answer beside it.

The right answer comes from somewhere else: finite differences, a network written out, plain arithmetic. Where
the peer is installed its own answer is shown to differ, so that a mended peer is noticed.
"""

from __future__ import annotations

import copy
import types
import warnings

import nibabel
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from pipeline.attribution import attribute
from pipeline.images.maps import write_map

LAW = {"method": "lrp", "composite": "epsilon", "epsilon": 1e-12}


def far(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


def settled(model: nn.Module) -> nn.Module:
    """Random shifts and statistics, float64, evaluation."""
    generator = torch.Generator().manual_seed(3)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.copy_(0.3 * torch.randn(module.running_mean.shape, generator=generator))
            module.running_var.copy_(0.5 + torch.rand(module.running_var.shape, generator=generator))
    return model.double().eval()


def resnet(dims: int = 2) -> nn.Module:
    from monai.networks.nets import ResNet

    torch.manual_seed(0)
    return settled(
        ResNet("basic", [1, 1, 1, 1], [4, 6, 8, 8], spatial_dims=dims, n_input_channels=1, num_classes=3)
    )


def densenet() -> nn.Module:
    from monai.networks.nets import DenseNet

    torch.manual_seed(0)
    return settled(DenseNet(2, 1, 3, init_features=6, growth_rate=3, block_config=(2, 2), bn_size=2))


def image(dims: int = 2, side: int = 32) -> torch.Tensor:
    return torch.randn(1, 1, *(side,) * dims, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def input_times_gradient(model: nn.Module, x: torch.Tensor, target: int) -> torch.Tensor:
    """By plain autograd: right wherever the model's own code does not detach."""
    point = x.clone().requires_grad_()
    return (torch.autograd.grad(model(point)[0, target], point)[0] * x).detach()


def by_zennit(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    from zennit.attribution import Gradient
    from zennit.composites import LayerMapComposite
    from zennit.rules import Epsilon

    layers = (nn.Conv2d, nn.Linear, nn.BatchNorm2d)
    composite = LayerMapComposite([(layer, Epsilon(epsilon=1e-12)) for layer in layers])
    with torch.no_grad():
        seed = torch.zeros_like(model(x)).index_fill_(1, torch.tensor(1), float(model(x)[0, 1]))
    with Gradient(model=model, composite=composite) as attributor:
        return attributor(x.clone().requires_grad_(), seed)[1]


@pytest.mark.parametrize("make", [resnet, densenet])
def test_a_sum_and_a_concatenation_share_relevance_out(make, zennit: types.ModuleType) -> None:
    """zennit leaves `+` unsplit on MONAI's ResNet, and its DenseNet is wrong as well."""
    model, x = make(), image()
    wanted = input_times_gradient(model, x, 1)
    assert far(attribute(model, x, 1, **LAW).values, wanted) < 1e-6
    assert far(by_zennit(model, x), wanted) > 0.1


class Residual(nn.Module):
    """One block with `+`, of modules that captum has rules for."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        conv = (nn.Conv2d, nn.Conv3d)[dims - 2]
        self.first, self.second = conv(1, 3, 3, padding=1, bias=False), conv(3, 3, 3, padding=1, bias=False)
        self.one, self.two = nn.ReLU(), nn.ReLU()
        self.head = nn.Linear(3 * 6**dims, 2, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.one(self.first(x))
        return self.head((y + self.two(self.second(y))).flatten(1))


@pytest.mark.parametrize("dims", [2, 3])
def test_a_residual_block_conserves_relevance_in_3d_too(dims: int) -> None:
    """captum's LRP gains relevance at `+` without a word, and has no rule for Conv3d."""
    captum = pytest.importorskip("captum.attr", reason="captum is not installed")
    torch.manual_seed(0)
    model, x = Residual(dims).double(), image(dims, 6)
    score = float(model(x)[0, 1].detach())
    assert float(attribute(model, x, 1, **LAW).values.sum()) == pytest.approx(score, rel=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dims == 3:
            with pytest.raises(TypeError, match="no rule"):
                captum.LRP(model).attribute(x, target=1)
        else:
            theirs = captum.LRP(model).attribute(x, target=1)
            assert float(theirs.sum()) != pytest.approx(score, rel=0.05)


class GuidedReLU(nn.Module):
    """A ReLU with the guided gradient, written as a trick on two terms."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(x)
        if y.requires_grad:
            y.register_hook(lambda arrived: arrived.clamp(min=0))
        return y


@pytest.mark.filterwarnings("ignore")
def test_guided_backprop_meets_every_rectifier_whatever_its_name() -> None:
    """MONAI looks for modules called `relu`: on its own ResNet it returns the plain gradient."""
    from monai.visualize import GuidedBackpropGrad

    model, x = resnet(), image()
    plain = attribute(model, x, 1, "gradient").values
    guided = copy.deepcopy(model)
    for owner in list(guided.modules()):
        for name, module in list(owner.named_children()):
            if isinstance(module, nn.ReLU):
                setattr(owner, name, GuidedReLU())
    point = x.clone().requires_grad_()
    wanted = torch.autograd.grad(guided(point)[0, 1], point)[0]
    assert far(attribute(model, x, 1, "guided_backprop").values, wanted) < 1e-9
    assert far(wanted, plain) > 0.1
    theirs = GuidedBackpropGrad(copy.deepcopy(model))(x.clone(), 1)
    assert far(theirs.detach(), plain) < 1e-9, "mended there: leave it out here"


@pytest.mark.filterwarnings("ignore:Setting backward hooks:UserWarning")
def test_guided_backprop_meets_relu6_and_functional_rectifiers() -> None:
    """captum hooks `nn.ReLU` modules only: the rest passes as the plain gradient."""
    captum = pytest.importorskip("captum.attr", reason="captum is not installed")

    class Written(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(16, 8), nn.Linear(8, 8), nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.c(functional.relu6(self.b(functional.relu(self.a(x.flatten(1))))))

    torch.manual_seed(0)
    model, x = Written().double(), image(side=4)
    z1 = model.a(x.flatten(1))
    z2 = model.b(z1.clamp(min=0))
    back = (model.c.weight[1].clamp(min=0) * ((z2 > 0) & (z2 < 6))) @ model.b.weight
    wanted = ((back.clamp(min=0) * (z1 > 0)) @ model.a.weight).reshape(x.shape).detach()
    assert far(attribute(model, x, 1, "guided_backprop").values, wanted) < 1e-9
    plain = attribute(model, x, 1, "gradient").values
    assert far(captum.GuidedBackprop(model).attribute(x.clone().requires_grad_(), target=1), plain) < 1e-9
    assert far(wanted, plain) > 0.1


def test_occlusion_measures_the_logit_whatever_the_channels() -> None:
    """MONAI squashes the output by softmax or sigmoid, chosen by the channels of the image."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 36, 3)).double()
    x = image(side=8)
    covered = x.clone()
    covered[..., :4, 4:] = 0
    drop = float((model(x) - model(covered))[0, 2].detach())
    found = attribute(model, x, 2, "occlusion", patch=4).values
    assert float(found[0, 0, 0, 7]) == pytest.approx(drop, rel=1e-9)


def test_cam_is_high_where_the_evidence_is() -> None:
    """MONAI maps the largest activation to 0 and the smallest to 1."""
    model = nn.Sequential(
        nn.Conv2d(1, 1, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2)
    )
    with torch.no_grad():
        model[0].weight.fill_(1.0)
        model[3].weight.copy_(torch.tensor([[-1.0], [3.0]]))
    x = torch.zeros(1, 1, 8, 8)
    x[..., 2, 5] = 1.0
    for method in ("cam", "grad_cam"):
        for_it, against = (attribute(model, x, t, method).values[0, 0] for t in (1, 0))
        assert int(for_it.argmax()) == 2 * 8 + 5
        assert int(against.argmin()) == 2 * 8 + 5
        assert float(for_it.max()) > 0 > float(against.min())


def test_a_layer_used_twice_is_two_layers() -> None:
    """Hooks on modules see one: relevance is conserved there, and wrong."""
    torch.manual_seed(0)
    conv, last = nn.Conv2d(1, 1, 3, padding=1).double(), nn.Linear(64, 2).double()

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.conv = last, conv  # the order of definition is not that of the calls

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(functional.relu(self.conv(functional.relu(self.conv(x)))).flatten(1))

    unrolled = nn.Sequential(
        conv, nn.ReLU(), copy.deepcopy(conv), nn.ReLU(), nn.Flatten(), copy.deepcopy(last)
    )
    x = image(side=8)
    for composite in ("epsilon", "epsilon_plus_flat", "epsilon_gamma_box", "epsilon_alpha2_beta1"):
        both = (attribute(model, x, 1, "lrp", composite=composite).values for model in (Twice(), unrolled))
        torch.testing.assert_close(*both)


def test_a_map_lies_where_its_image_lies(tmp_path) -> None:
    """M3d-CAM, ClinicaDL and the code of Rieke et al. write the identity instead of the image's affine."""
    affine = np.array([[0.0, -2, 0.3, 40], [2, 0, 0, -71], [0.1, 0, 2.5, -33], [0, 0, 0, 1]])
    values = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    path = write_map(
        tmp_path, "lrp_class-1", values, affine=affine, native_from_model=np.eye(4), native_shape=(4, 5, 6)
    )
    stored = nibabel.load(path)
    np.testing.assert_allclose(stored.affine, affine, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(stored.dataobj), values)
    assert nibabel.aff2axcodes(stored.affine) == nibabel.aff2axcodes(affine)
