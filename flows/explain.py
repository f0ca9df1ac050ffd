"""One relevance map of one image, without a cohort."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from flows.checking import refuse_no_folder
from pipeline.errors import AuditError, MethodError
from pipeline.files import sha256_of, write_text

if TYPE_CHECKING:
    from pipeline.anatomy.brain import Regions
    from pipeline.attribution import Relevance
    from pipeline.images import Photograph, Volume
    from pipeline.models.opening import OpenedModel
    from pipeline.models.prepared import Prepared

_POWER = re.compile(r"[+-]?[0-9]+[eE][+-]?[0-9]+")  # 1e-6: a number to everyone but YAML 1.1
_LARGEST_LABEL = 2**24  # a volume's values are read as float32, which keeps whole numbers apart up to here


def explain(
    *,
    model: str,
    image: Path,
    method: str,
    target: str,
    regions: Path | None,
    atlas: str | None,
    options: Sequence[str],
    out: Path,
) -> list[str]:
    """Write `out/maps/<method>_class-<t>.*` and `out/explain.json`.

    Parameters
    ----------
    model : str
        Bundle folder, TorchScript file or reference model.
    image : Path
        NIfTI or photograph.
    method : str
        A name of `pipeline.attribution.METHODS`.
    target : str
        Class index, class name or `top-3`.
    regions : Path, optional
        Label image on the image's own grid.
    atlas : str, optional
        Parcellation that is carried to the image; of photographs `ETDRS`.
    options : sequence of str
        `KEY=VALUE`, values as YAML.
    out : Path

    Returns
    -------
    list of str
        Lines for the reader.

    Raises
    ------
    pipeline.errors.AuditError
        If anything does not fit; nothing is written then.
    """
    from pipeline.attribution import METHODS, attribute, check_options
    from pipeline.images.maps import write_map
    from pipeline.models.opening import open_model

    if method not in METHODS:
        raise MethodError(f"unknown method {method!r}", f"use one of {', '.join(METHODS)}")
    chosen = _options(options)
    check_options(METHODS[method], chosen)
    refuse_no_folder(out / "maps")
    opened = open_model(model)
    picture = _read(image)
    prepared = opened.prepare(picture)
    labels, names, remarks = _labels(prepared, picture, regions, atlas)
    relevance = attribute(
        opened.module,
        prepared.tensor,
        _target(target, opened),
        method=method,
        regions=labels,
        **chosen,
    )
    if not bool(relevance.values.isfinite().all() and relevance.scores.isfinite().all()):
        raise MethodError(
            f"{image.name}: the map or the logits are not finite", "check the weights and the options"
        )
    notes = [*opened.notes, *remarks, *_faithful(relevance)]
    if "estimate" in relevance.details:
        notes.append(f"Occlusion: {relevance.details['estimate']}.")
    scores = relevance.scores[0]
    classes = opened.card.classes if opened.card else [f"class {i}" for i in range(len(scores))]
    files = {}
    for n, index in enumerate(relevance.target):
        values = relevance.values[n]
        one = values.sum(0) if METHODS[method].signed else values.abs().sum(0)
        path = write_map(
            out / "maps",
            f"{method}_class-{index}",
            one.float().numpy(),
            affine=prepared.affine,
            native_from_model=prepared.native_from_model,
            native_shape=prepared.native_shape,
        )
        files[path.relative_to(out).as_posix()] = {
            "class": classes[index],
            "target": index,
            "sum": float(one.double().sum()),
            "conservation_error": _number(relevance.conservation_error, n),
            "bias_share": _number(relevance.bias_share, n),
            "region_scores": _regions(relevance, n),
            **_groups(relevance, n),
            "segments": _segments(one, prepared),
        }
    content = {
        "schema": "relevance-audit-explain/1",
        "model": {"name": opened.card.name if opened.card else Path(model).name, "sha256": opened.sha256},
        "image": {"name": image.name, "sha256": sha256_of(image)},
        "method": method,
        "options": chosen,
        "classes": list(classes),
        "logits": scores.tolist(),
        "regions": {str(index): name for index, name in names.items()},
        "maps": files,
        "sign": "positive speaks for the class",
        "notes": notes,
    }
    write_text(out / "explain.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
    return [*notes, *(f"Map: {out / name}" for name in files), f"Numbers: {out / 'explain.json'}"]


def _options(pairs: Sequence[str]) -> dict[str, Any]:
    options = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise MethodError(f"option {pair!r} is not KEY=VALUE", "write e.g. --option patch=16")
        try:
            read = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise MethodError(
                f"option {pair!r} cannot be read", "write numbers, words or [1, 2, 3]"
            ) from error
        options[key] = float(value) if isinstance(read, str) and _POWER.fullmatch(read) else read
    return options


def _read(path: Path) -> Volume | Photograph:
    from pipeline.images import read_photograph, read_volume
    from pipeline.images.volumes import is_nifti

    return read_volume(path) if is_nifti(path) else read_photograph(path)


def _target(text: str, model: OpenedModel) -> int | str:
    if text.startswith("top-"):
        return text
    if model.card and text in model.card.classes:
        return model.card.classes.index(text)
    try:
        return int(text)
    except ValueError as error:
        names = (
            f", or one of {', '.join(model.card.classes)}"
            if model.card
            else " (the model has no card with names)"
        )
        raise MethodError(f"target {text!r} is not a class", f"use an index or top-3{names}") from error


def _labels(
    prepared: Prepared, picture: Volume | Photograph, regions: Path | None, atlas: str | None
) -> tuple[Any, Mapping[int, str], tuple[str, ...]]:
    """Labels on the model's grid (None without), their names where an atlas gives them, and notes."""
    import numpy as np
    import torch

    from pipeline.comparison import to_native

    if regions is not None:
        labels = _read_labels(regions, picture)
        inverse = np.linalg.inv(prepared.native_from_model)
        carried = to_native(labels, inverse, prepared.field.shape)
        return torch.from_numpy(np.ascontiguousarray(carried, np.int64)), {}, ()
    if atlas is None:
        return None, {}, ()
    found = _atlas_regions(prepared, picture, atlas)
    if not found.registered:
        raise AuditError(
            f"the brain is not registered to the atlas: {found.reason}", "register it, or give --regions FILE"
        )
    return torch.from_numpy(np.ascontiguousarray(found.labels, np.int64)), found.table, found.notes


def _atlas_regions(prepared: Prepared, picture: Volume | Photograph, atlas: str) -> Regions:
    from pipeline.images import Photograph, Volume

    if isinstance(picture, Photograph):
        if atlas != "ETDRS":
            raise AuditError("photographs have the fields of ETDRS only", "write --atlas ETDRS")
        from pipeline.anatomy.retina_regions import retina_regions_on

        rows, columns = prepared.field.shape
        return retina_regions_on(picture, prepared.native_from_model, (rows, columns))
    from atlases import load_atlas
    from pipeline.anatomy.brain import regions_of

    assert prepared.affine is not None
    return regions_of(Volume(prepared.tensor[0, 0].numpy(), prepared.affine, "image"), load_atlas(atlas))


def _read_labels(path: Path, picture: Volume | Photograph) -> Any:
    import numpy as np

    from pipeline.errors import ImageError
    from pipeline.images import Volume, read_volume
    from pipeline.images.photographs import open_picture

    if isinstance(picture, Volume):
        volume = read_volume(path)
        labels = volume.data
        if not np.allclose(volume.affine, picture.affine, atol=1e-2):
            raise ImageError(
                f"{path.name}: lies on another grid than the image", "resample it with nearest neighbour"
            )
    else:
        with open_picture(path) as opened:
            labels = np.asarray(opened)
    if labels.shape != picture.shape:
        raise ImageError(
            f"{path.name}: has shape {labels.shape}, the image {picture.shape}",
            "resample it with nearest neighbour",
        )
    if not np.array_equal(labels, np.rint(labels)) or labels.min() < 0:
        raise ImageError(f"{path.name}: labels are not whole numbers from 0", "store integer labels")
    if labels.max() > _LARGEST_LABEL:
        raise ImageError(
            f"{path.name}: label {labels.max():.0f} is above {_LARGEST_LABEL}", "number the regions anew"
        )
    return labels.astype(np.int32)


def _faithful(relevance: Relevance) -> list[str]:
    """Tell how faithful the concepts of MACE are; refuse to show others."""
    if relevance.method != "mace":
        return []
    fidelity = relevance.details["fidelity"]
    said = f"on {fidelity.agreement:.0%} of {fidelity.images} held-out images" if fidelity else "nowhere"
    if not relevance.details["faithful"]:
        raise MethodError(
            f"the concepts decide as the model does {said}: too seldom to be shown",
            "train on a larger cohort, or use another method",
        )
    return [f"The concepts decide as the model does {said}."]


def _groups(relevance: Relevance, n: int) -> dict[str, Any]:
    """Scores of regions covered together, where there are such."""
    if "group_scores" not in relevance.details:
        return {}
    scores = relevance.details["group_scores"][n].tolist()
    together = zip(relevance.details["groups"], scores, strict=True)
    found = [{"regions": list(group), "score": s} for group, s in together if not math.isnan(s)]
    return {"group_scores": found}


def _segments(values: Any, prepared: Prepared) -> dict[str, Any]:
    """Threshold the map in two ways: share of the field that is segmented, and box in native pixels."""
    import numpy as np

    from pipeline.attribution.localisation import localise

    found: dict[str, Any] = {}
    for way in ("simonyan", "otsu"):
        try:
            segment = localise(values.numpy(), prepared.tensor[0].numpy(), method=way, field=prepared.field)
        except MethodError:  # nothing speaks for the class
            continue
        corners = np.array(list(product(*((low - 0.5, high - 0.5) for low, high in segment.box))))
        native = corners @ prepared.native_from_model[:-1, :-1].T + prepared.native_from_model[:-1, -1]
        found[way] = {
            "share_of_field": float(segment.mask.sum() / prepared.field.sum()),
            "box": np.stack([native.min(0), native.max(0)], 1).round(2).tolist(),
        }
    return found


def _number(values: Any, n: int) -> float | None:
    return None if values is None else float(values.reshape(-1)[n])


def _regions(relevance: Relevance, n: int) -> dict[int, float] | None:
    if relevance.region_scores is None:
        return None
    scores = relevance.region_scores[n].tolist()  # not a number: the image lacks the region
    return {k: s for k, s in zip(relevance.region_labels, scores, strict=True) if not math.isnan(s)}
