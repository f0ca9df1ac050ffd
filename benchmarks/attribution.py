"""Time of attribution methods, ours beside those of captum, zennit, MONAI and torchcam, in one run.

    python benchmarks/attribution.py [--rounds 5] [--only rieke3d resnet18_2d] [--threads 2] [--write]

Every figure is a ratio of CPU seconds within one round: F, one inference-mode forward pass of the same
model and image; FB, forward and backward to the image by plain autograd, parameters frozen. All sides are
measured in turn in every round, and the median over rounds is shown, so that a busy machine disturbs all
alike. All sides run under the allocator setting of the `relevance-audit` commands (freed memory is kept),
or under the system's with `--allocator system`. `--write` puts the table into benchmarks/attribution.md.

Why EfficientNet misses its LRP target: what enters its convolutions is signed (SiLU, linear bottlenecks), so
that z⁺ has two parts, x⁺w⁺ and x⁻w⁻, and every convolution is passed five times against two of FB. Without
gain were 1×1 convolutions as matrix products (equal times) and ε in the bias; ½(x·w + |x|·|w|) in place of
the two parts would save one pass of five and lose digits where little is positive.
"""

from __future__ import annotations

import argparse
import copy
import gc
import os
import statistics
import sys
import time
import types
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import nn

from pipeline.allocator import allocator, keep_freed_memory
from pipeline.attribution import attribute

Contestants = dict[str, Callable[[], object]]


class Rieke(nn.Module):
    """Four blocks of convolution, BatchNorm, ReLU and max-pool, then three linear layers (Rieke 2018)."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, size = 1, list(shape)
        for features, pool in zip((8, 16, 32, 64), (2, 3, 2, 3), strict=True):
            layers += [nn.Conv3d(channels, features, 3), nn.BatchNorm3d(features)]
            layers += [nn.ReLU(), nn.MaxPool3d(pool)]
            channels, size = features, [(s - 2) // pool for s in size]
        flat = channels * size[0] * size[1] * size[2]
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(flat, 128), nn.ReLU(), nn.Linear(128, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the logits."""
        return self.head(self.features(x))


def networks() -> dict[str, Callable[[], tuple[nn.Module, torch.Tensor]]]:
    from monai.networks.nets import DenseNet121, EfficientNetBN, resnet18

    def rieke(*shape: int) -> tuple[nn.Module, torch.Tensor]:
        return Rieke(shape), torch.randn(1, 1, *shape)

    def resnet3d() -> tuple[nn.Module, torch.Tensor]:
        return resnet18(spatial_dims=3, n_input_channels=1, num_classes=2), torch.randn(1, 1, 64, 64, 64)

    def densenet3d() -> tuple[nn.Module, torch.Tensor]:
        return DenseNet121(spatial_dims=3, in_channels=1, out_channels=2), torch.randn(1, 1, 64, 64, 64)

    def resnet2d() -> tuple[nn.Module, torch.Tensor]:
        model = resnet18(spatial_dims=2, n_input_channels=3, num_classes=5, conv1_t_stride=2)
        return model, torch.randn(1, 3, 384, 384)

    def efficientnet2d() -> tuple[nn.Module, torch.Tensor]:
        kind = "efficientnet-b0"
        model = EfficientNetBN(kind, spatial_dims=2, in_channels=3, num_classes=5, pretrained=False)
        return model, torch.randn(1, 3, 384, 384)

    def vgg2d() -> tuple[nn.Module, torch.Tensor]:
        layers: list[nn.Module] = []
        channels = 3
        for features in (32, 64, 128, 256):
            layers += [nn.Conv2d(channels, features, 3, padding=1), nn.ReLU()]
            layers += [nn.Conv2d(features, features, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            channels = features
        head = [nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(256 * 16, 128), nn.ReLU(), nn.Linear(128, 5)]
        return nn.Sequential(*layers, *head), torch.randn(1, 3, 256, 256)

    return {
        "rieke3d_182": lambda: rieke(182, 218, 182),
        "rieke3d": lambda: rieke(91, 109, 91),
        "resnet18_3d": resnet3d,
        "densenet121_3d": densenet3d,
        "vgg_2d": vgg2d,
        "resnet18_2d": resnet2d,
        "efficientnet_b0_2d": efficientnet2d,
    }


def prepared(name: str) -> tuple[nn.Module, torch.Tensor]:
    """Build a model with BatchNorm statistics of its own image: activations of a trained network's scale."""
    torch.manual_seed(0)
    model, image = networks()[name]()
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = 1.0
        nn.init.uniform_(norm.weight, 0.7, 1.3)
        nn.init.uniform_(norm.bias, -0.1, 0.3)
    with torch.no_grad():
        model.train()(torch.cat([image, image.flip(-1)]))
    model.eval().requires_grad_(requires_grad=False)
    for module in model.modules():  # peers' hooks break on in-place ReLU
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return model, image


def forward(model: nn.Module, image: torch.Tensor) -> Callable[[], object]:
    def run() -> torch.Tensor:
        with torch.inference_mode():
            return model(image)

    return run


def forward_backward(model: nn.Module, image: torch.Tensor) -> Callable[[], object]:
    def run() -> torch.Tensor:
        point = image.clone().requires_grad_(requires_grad=True)
        return torch.autograd.grad(model(point)[:, 1].sum(), point)[0]

    return run


def ours(model: nn.Module, image: torch.Tensor) -> Contestants:
    def call(method: str, **options: object) -> Callable[[], object]:
        return lambda: attribute(model, image, 1, method, **options)

    return {
        "gradient": call("gradient"),
        "guided_backprop": call("guided_backprop"),
        "lrp ε⁺-flat": call("lrp"),
        "lrp ε": call("lrp", composite="epsilon"),
        "lrp ε-γ-box": call("lrp", composite="epsilon_gamma_box"),
        "lrp ε-α2β1": call("lrp", composite="epsilon_alpha2_beta1"),
        "sglrp": call("sglrp"),
        "grad_cam": call("grad_cam"),
    }


def last_activation(model: nn.Module) -> tuple[str, nn.Module]:
    named = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Conv3d)]
    return [(n, m) for n, m in named if "downsample" not in n][-1]


def captum(model: nn.Module, image: torch.Tensor) -> Contestants:
    from captum.attr import LRP, GuidedBackprop, LayerGradCam, Saliency

    def point() -> torch.Tensor:
        return image.clone().requires_grad_()

    layer = last_activation(model)[1]
    return {
        "captum gradient": lambda: Saliency(model).attribute(point(), target=1),
        "captum guided_backprop": lambda: GuidedBackprop(model).attribute(point(), target=1),
        "captum grad_cam": lambda: LayerGradCam(model, layer).attribute(image, target=1),
        "captum lrp": lambda: LRP(model).attribute(point(), target=1),
    }


def zennit(model: nn.Module, image: torch.Tensor) -> Contestants:
    stub_torchvision()
    from zennit.attribution import Gradient
    from zennit.composites import EpsilonPlusFlat

    def run() -> object:
        seed = torch.eye(classes)[[1]]
        with Gradient(model=model, composite=EpsilonPlusFlat()) as attributor:
            return attributor(image.clone().requires_grad_(), seed)

    with torch.no_grad():
        classes = model(image).shape[1]
    return {"zennit lrp ε⁺-flat": run}


def monai(model: nn.Module, image: torch.Tensor) -> Contestants:
    from monai.visualize import GradCAM, GuidedBackpropGrad, VanillaGrad

    layer = last_activation(model)[0]

    def point() -> torch.Tensor:  # its hooks need a gradient somewhere, and the parameters are frozen
        return image.clone().requires_grad_()

    return {
        "MONAI gradient": lambda: VanillaGrad(model)(image.clone(), index=1),
        "MONAI guided_backprop": lambda: GuidedBackpropGrad(model)(image.clone(), index=1),
        "MONAI grad_cam": lambda: GradCAM(nn_module=model, target_layers=layer)(x=point(), class_idx=1),
    }


def torchcam(model: nn.Module, image: torch.Tensor) -> Contestants:
    stub_torchvision()
    from torchcam.methods import GradCAM

    layer = last_activation(model)[0]

    def run() -> object:
        with GradCAM(model, layer) as extractor:
            scores = model(image.clone().requires_grad_())
            return extractor(1, scores)

    return {"torchcam grad_cam": run}


def stub_torchvision() -> None:
    """Peers import torchvision for names that are not used here; the CPU build of torch has none."""
    if "torchvision" in sys.modules:
        return
    for name in ("", ".models", ".models.resnet", ".models.vgg", ".transforms", ".transforms.functional"):
        sys.modules[f"torchvision{name}"] = types.ModuleType(f"torchvision{name}")
    for name in ("Bottleneck", "BasicBlock", "ResNet"):
        setattr(sys.modules["torchvision.models.resnet"], name, type(name, (nn.Module,), {}))
    setattr(sys.modules["torchvision.models.vgg"], "VGG", type("VGG", (nn.Module,), {}))  # noqa: B010
    setattr(sys.modules["torchvision.transforms.functional"], "to_pil_image", None)  # noqa: B010
    setattr(sys.modules["torchvision.transforms.functional"], "normalize", None)  # noqa: B010
    setattr(sys.modules["torchvision.transforms.functional"], "resize", None)  # noqa: B010


def measure(name: str, rounds: int) -> list[tuple[str, float, float, float, str]]:
    """Rows of (who, seconds of the first call, median ratio to F, median ratio to FB, remark)."""
    model, image = prepared(name)
    contestants: Contestants = {"F": forward(model, image), "FB": forward_backward(model, image)}
    contestants |= ours(model, image)
    remarks: dict[str, str] = {}
    for peer in (captum, zennit, monai, torchcam):
        try:
            contestants |= peer(copy.deepcopy(model), image)  # what one leaves on a model disturbs no other
        except (ImportError, AttributeError) as error:
            remarks[peer.__name__] = f"not installed: {error}"
    first: dict[str, float] = {}
    for who, run in list(contestants.items()):
        start = time.process_time()
        try:
            run()
        except Exception as error:  # noqa: BLE001  (a peer that fails is a row of the table)
            remarks[who] = f"fails: {type(error).__name__}: {str(error).splitlines()[0][:90]}"
            del contestants[who]
        first[who] = time.process_time() - start
    seconds: dict[str, list[float]] = {who: [] for who in contestants}
    for _ in range(rounds):
        for who, run in contestants.items():
            gc.collect()
            start = time.process_time()
            run()
            seconds[who].append(time.process_time() - start)
    rows = []
    for who in contestants:
        to_f = statistics.median(a / f for a, f in zip(seconds[who], seconds["F"], strict=True))
        to_fb = statistics.median(a / f for a, f in zip(seconds[who], seconds["FB"], strict=True))
        rows.append((who, first[who], to_f, to_fb, ""))
    rows += [(who, float("nan"), float("nan"), float("nan"), why) for who, why in remarks.items()]
    return rows


def judged(image: torch.Tensor, rows: list[tuple[str, float, float, float, str]]) -> list[str]:
    """One line a target: met or missed."""
    to_f = {who: f for who, _, f, _, remark in rows if not remark}
    to_fb = {who: fb for who, _, _, fb, remark in rows if not remark}
    lrp, zennits = "lrp ε⁺-flat", "zennit lrp ε⁺-flat"
    limit = 1.0 if image.ndim == 5 else 1.2
    checks = [(f"{lrp} ≤ {limit} FB", to_fb[lrp], to_fb[lrp] <= limit)]
    checks += [
        (f"{who} ≤ 1.05 FB", to_fb[who], to_fb[who] <= 1.05) for who in ("gradient", "guided_backprop")
    ]
    checks += [("grad_cam ≤ 1.1 F", to_f["grad_cam"], to_f["grad_cam"] <= 1.1)]
    if zennits in to_f:
        times = to_f[zennits] / to_f[lrp]
        checks += [(f"{lrp} at least twice as fast as zennit", times, times >= 2)]
    return [f"- {what}: {found:.2f}, {'met' if met else '**missed**'}" for what, found, met in checks]


def versions() -> str:
    found = []
    for package in ("torch", "monai", "captum", "zennit", "torchcam"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} absent")
    return ", ".join(found)


def main() -> None:
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=list(networks()))
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--allocator", choices=("kept", "system"), default="kept")
    chosen = parser.parse_args()
    if chosen.allocator == "kept":
        keep_freed_memory()
    torch.set_num_threads(chosen.threads)
    path = Path(__file__).with_suffix(".md")
    for name in chosen.only:
        _, image = networks()[name]()
        load = ", ".join(f"{v:.1f}" for v in os.getloadavg())
        out = [f"## {name}, image {tuple(image.shape)}", ""]
        out += [
            f"{versions()}; {chosen.threads} thread(s) of {os.cpu_count()} cores; allocator: {allocator()};"
        ]
        out += [f"median of {chosen.rounds} rounds; load at the start {load} (other work ran beside it).", ""]
        out += ["| who | first call, s | ÷ F | ÷ FB | |", "|---|---|---|---|---|"]
        rows = measure(name, chosen.rounds)
        for who, first, to_f, to_fb, remark in rows:
            cells = ("–", "–", "–") if remark else (f"{first:.2f}", f"{to_f:.2f}", f"{to_fb:.2f}")
            out.append(f"| {who} | {' | '.join(cells)} | {remark} |")
        text = "\n".join([*out, "", *judged(image, rows), ""])
        print(text, flush=True)
        if chosen.write:
            write_section(path, name, text)


def write_section(path: Path, name: str, text: str) -> None:
    """Put one network's section into the report, in place of an older one."""
    old = path.read_text(encoding="utf-8").split("\n## ")[1:] if path.is_file() else []
    sections = {s.partition(",")[0]: f"## {s.strip()}\n" for s in old}
    sections[name] = text
    head = "# Attribution: time\n\n" + (__doc__ or "").split("\n\n", 2)[2].strip() + "\n"
    path.write_text("\n".join([head, *(sections[n] for n in networks() if n in sections)]), encoding="utf-8")


if __name__ == "__main__":
    main()
