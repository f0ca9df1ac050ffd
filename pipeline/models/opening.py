"""Open a model without running anything that came with it."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pipeline.errors import AnatomyError, ModelError
from pipeline.files import sha256_of
from pipeline.images.types import BoolArray, Photograph, Volume
from pipeline.models.card import ModelCard, Preprocessing
from pipeline.models.prepared import Prepared

if TYPE_CHECKING:
    import torch
    from torch import nn

AS_READ = Preprocessing(kind="as_read")
_TORCHSCRIPT_SUFFIXES = (".pt", ".ts", ".torchscript")


@dataclass(frozen=True)
class OpenedModel:
    """A model ready to be audited.

    Attributes
    ----------
    module : torch.nn.Module
        In eval mode, parameters without gradients.
    card : ModelCard or None
        None for a bare TorchScript file.
    sha256 : str
        Of the weights file.
    notes : tuple of str
        What a reader of the results must know (printed in the report).
    folder : Path
        Where it was opened.
    """

    module: nn.Module
    card: ModelCard | None
    sha256: str
    folder: Path
    notes: tuple[str, ...] = field(default=())

    @property
    def preprocessing(self) -> Preprocessing:
        """How images are brought onto the model's grid."""
        return self.card.preprocessing if self.card else AS_READ

    def prepare(self, image: Volume | Photograph) -> Prepared:
        """Bring an image onto the model's grid.

        Raises
        ------
        pipeline.errors.ImageError, pipeline.errors.ModelError
            If the image is of the other modality or does not fit.
        """
        return prepare(image, self.preprocessing)

    def twin(self, name: str) -> nn.Module:
        """Return the twin called `name`: the same network with other weights (e.g. `shuffled_labels`)."""
        if self.card is None or name not in self.card.twins:
            raise ModelError(f"the model has no twin called {name!r}", "leave that null out of the protocol")
        state = _read_weights(self.folder / self.card.weights)
        state.update(_read_weights(self.folder / self.card.twins[name]))
        return _build(self.card, state)


def reference_models() -> dict[str, Path]:
    """Bundles that come with the package, by name."""
    root = Path(str(resources.files("pipeline"))) / "phantoms" / "bundles"
    return {p.parent.parent.name: p.parent.parent for p in sorted(root.glob("*/configs/metadata.json"))}


def open_model(reference: str | Path) -> OpenedModel:
    """Open a bundle folder, a TorchScript file, or a reference model by name.

    Nothing is unpickled, and no code or `$` expression of a bundle's configuration is run: the network is
    built from a fixed table of architectures, its weights come from safetensors.

    Parameters
    ----------
    reference : str or path
        Folder of a MONAI bundle with a `relevance_audit` card, TorchScript file (`.pt`, `.ts`), or one of
        `reference_models()`.

    Raises
    ------
    pipeline.errors.ModelError
        If it is none of these, or its card, architecture and weights do not fit together.
    """
    references = reference_models()
    path = references.get(str(reference), Path(reference))
    if path.is_dir():
        return _open_bundle(path)
    if path.is_file() and path.suffix.lower() in _TORCHSCRIPT_SUFFIXES:
        return _open_torchscript(path)
    known = ", ".join(references)
    raise ModelError(
        f"{reference}: no model there", f"name a bundle folder, a TorchScript file (.pt), or one of {known}"
    )


def prepare(image: Volume | Photograph, preprocessing: Preprocessing) -> Prepared:
    """Bring an image onto a model's grid as `preprocessing` says."""
    if preprocessing.kind == "as_read":
        return _as_read(image)
    if isinstance(image, Volume):
        if preprocessing.kind != "mri_grid":
            raise ModelError(f"{image.name}: an MRI, but the model takes photographs", "use another model")
        from pipeline.models.prepare_mri import prepare_mri

        return prepare_mri(image, preprocessing)
    if preprocessing.kind != "fundus_square":
        raise ModelError(f"{image.name}: a photograph, but the model takes MRI", "use another model")
    from pipeline.models.prepare_fundus import prepare_fundus

    return prepare_fundus(image, preprocessing)


def _as_read(image: Volume | Photograph) -> Prepared:
    import numpy as np
    import torch

    if isinstance(image, Volume):
        data = torch.from_numpy(np.ascontiguousarray(image.data))[None, None]
        shown = image.data != image.data.min()
        return Prepared(data, np.eye(4), image.shape, shown, image.affine)
    data = torch.from_numpy(np.ascontiguousarray(image.data.transpose(2, 0, 1)))[None]
    return Prepared(data, np.eye(3), image.shape, _field(image))


def _field(photograph: Photograph) -> BoolArray:
    """Return the field of view, within which chance is counted; the whole picture where no circle is seen."""
    import numpy as np

    from pipeline.anatomy.retina import field_of_view

    try:
        return field_of_view(photograph).mask()
    except AnatomyError:
        return np.ones(photograph.shape, bool)


def _open_bundle(folder: Path) -> OpenedModel:
    path = folder / "configs" / "metadata.json"
    if not path.is_file():
        raise ModelError(f"{folder.name}: no configs/metadata.json", "name the folder of a MONAI bundle")
    try:
        metadata: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"{folder.name}: configs/metadata.json is not JSON", "export the bundle again"
        ) from error
    if not isinstance(metadata, dict) or "relevance_audit" not in metadata:
        raise ModelError(
            f"{folder.name}: metadata.json has no relevance_audit card",
            "add one as docs/file-formats.md shows, or give the model as TorchScript",
        )
    try:
        card = ModelCard.model_validate(metadata["relevance_audit"])
    except ValidationError as error:
        first = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ModelError(f"{folder.name}: card: {first}", "see docs/file-formats.md") from error
    weights = folder / card.weights
    for name in (card.weights, *card.twins.values()):
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise ModelError(f"{folder.name}: weights {name!r} lie outside the bundle", "move them into it")
    state = _read_weights(weights)
    notes = (f"Trained on: {card.trained_on}",) if card.trained_on else ()
    return OpenedModel(_build(card, state), card, sha256_of(weights), folder, notes)


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.suffix != ".safetensors":
        raise ModelError(
            f"{path.name}: weights are not safetensors", "export them with safetensors.torch.save_file"
        )
    if not path.is_file():
        raise ModelError(f"{path.name}: weights not found", "put them into the bundle where its card says")
    try:
        state = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path.name}: not a whole safetensors file", "export the weights again") from error
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}


def _build(card: ModelCard, state: dict[str, torch.Tensor]) -> nn.Module:
    from pipeline.models.architectures import build

    module = build(card.architecture, dict(card.arguments))
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        text = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{card.name}: weights do not fit the architecture ({text})", "export both again"
        ) from error
    return module.eval().requires_grad_(requires_grad=False)


def _open_torchscript(path: Path) -> OpenedModel:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError, OSError) as error:
        raise ModelError(
            f"{path.name}: not a TorchScript file",
            "save the model with torch.jit.trace(...).save(...); pickled modules are never opened",
        ) from error
    module.eval()
    for parameter in module.parameters():
        parameter.requires_grad_(requires_grad=False)
    notes = (
        "The model has no card: images are given as read, without resampling or scaling of intensities.",
    )
    return OpenedModel(module, None, sha256_of(path), path.parent, notes)
