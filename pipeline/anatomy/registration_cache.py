"""Registrations kept by the hash of their image: in memory for a few, in a folder for a whole run."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from threading import Lock

import numpy as np

from pipeline.anatomy.brain_registration import Registration
from pipeline.files import whole_file
from pipeline.images.types import Volume

VERSION = b"registration/2"  # change it with the algorithm
_KEPT = 4
_memory: OrderedDict[str, Registration] = OrderedDict()
_lock = Lock()


def image_key(volume: Volume) -> str:
    """SHA-256 of an image's voxels, shape and affine, and of the algorithm's version."""
    digest = hashlib.sha256(VERSION)
    digest.update(repr(volume.shape).encode())
    digest.update(np.ascontiguousarray(volume.affine, np.float64).tobytes())
    digest.update(np.ascontiguousarray(volume.data, np.float32).tobytes())
    return digest.hexdigest()


def cached(volume: Volume, make: Callable[[], Registration], folder: Path | None = None) -> Registration:
    """Return the registration of an image, made only once.

    Parameters
    ----------
    volume : Volume
    make : callable
        Makes it when it is neither in memory nor in the folder.
    folder : Path, optional
        Where it is kept as `<hash>.npz`.
    """
    key = image_key(volume)
    with _lock:
        if key in _memory:
            _memory.move_to_end(key)
            return _memory[key]
    path = folder / f"{key}.npz" if folder is not None else None
    found = _read(path) if path is not None else None
    if found is None:
        found = make()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as part, part.open("wb") as stream:
                np.savez_compressed(
                    stream,
                    affine=found.template_from_image,
                    displacement=found.displacement.astype(np.float16),
                    grid=found.grid,
                )
    with _lock:
        _memory[key] = found
        while len(_memory) > _KEPT:
            _memory.popitem(last=False)
    return found


def _read(path: Path) -> Registration | None:
    """Read a stored registration; one that cannot be read is made again."""
    try:
        with np.load(path, allow_pickle=False) as content:
            return Registration(
                content["affine"], content["displacement"].astype(np.float32), content["grid"]
            )
    except (OSError, ValueError, KeyError, EOFError):
        return None
