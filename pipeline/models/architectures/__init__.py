"""Every network a bundle may name: nothing outside this table is ever built from a model folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn


def _table() -> dict[str, Callable[..., nn.Module]]:
    from pipeline.models.architectures.efficientnet_lite import EfficientNetLite0
    from pipeline.models.architectures.rieke import RiekeGAP

    return {"rieke_gap": RiekeGAP, "efficientnet_lite0": EfficientNetLite0}


def build(name: str, arguments: dict[str, object]) -> nn.Module:
    """Build the architecture called `name`.

    Raises
    ------
    pipeline.errors.ModelError
        If no architecture has that name or it does not take those arguments.
    """
    from pipeline.errors import ModelError

    table = _table()
    if name not in table:
        raise ModelError(f"unknown architecture {name!r}", f"use one of {', '.join(sorted(table))}")
    try:
        return table[name](**arguments)
    except (TypeError, ValueError) as error:
        raise ModelError(f"architecture {name!r} cannot be built: {error}") from error
