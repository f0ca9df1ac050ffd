"""Results that an audit directory keeps, so that a run that goes on does not compute them again."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from pipeline.files import write_text
from pipeline.record.parts import Part


class Kept(Part):
    """A result with what it depends on.

    Attributes
    ----------
    key : str
        Hash of everything that this depends on.
    """

    key: str = ""


K = TypeVar("K", bound=Kept)


def take_up(path: Path, kind: type[K], key: str) -> K | None:
    """Read a kept result back.

    Parameters
    ----------
    path : Path
        As `keep` wrote it.
    kind : type
    key : str
        Of everything that it depends on now.

    Returns
    -------
    Kept or None
        None if it was never made, is half written, of another version, or depends on something that has
        changed: then it has to be made again.
    """
    try:
        found = kind.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValidationError):
        return None
    return found if found.key == key else None


def keep(path: Path, result: Kept) -> None:
    """Write a result as JSON, whole or not at all; its folder is made."""
    write_text(path, result.model_dump_json(indent=1) + "\n")
