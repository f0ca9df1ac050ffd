"""Files that appear whole or not at all, and their hashes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` that takes its place if the block ends well.

    Parameters
    ----------
    path : Path
        Its folder is made. Endings such as `.nii.gz` are kept, since writers look at them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".part-{os.getpid()}-{path.name}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def is_there(path: Path) -> bool:
    """Whether `path` is a file that may be looked at; a name that no file can have is not there."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, forbidden, or with a NUL in it
        return False


def why(error: Exception, path: Path) -> str:
    """Say in one line why a file could not be used, without its folders: they may name a patient."""
    if isinstance(error, OSError) and error.strerror:
        return f"{type(error).__name__}: {error.strerror}"
    text = str(error)
    for place in (str(path), str(path.absolute()), str(path.resolve())):
        text = text.replace(place, path.name)
    text = " ".join(text.split())[:120]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file, whole or not at all."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, as hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
