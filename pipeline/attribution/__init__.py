"""Where a decision comes from: attribution methods over the captured graph of a model.

>>> from pipeline.attribution import METHODS, attribute                            # doctest: +SKIP
>>> result = attribute(model, images, target=1, method="lrp")                      # doctest: +SKIP
>>> result.values, result.scores, result.conservation_error                        # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.attribution.entrance import attribute, logits
    from pipeline.attribution.registry import METHODS, MethodCard, check_options
    from pipeline.attribution.relevance import Relevance

__all__ = ["METHODS", "MethodCard", "Relevance", "attribute", "check_options", "logits"]

_HOME = {
    "attribute": "entrance",
    "logits": "entrance",
    "check_options": "registry",
    "METHODS": "registry",
    "MethodCard": "registry",
    "Relevance": "relevance",
}


def __getattr__(name: str) -> object:
    """Import torch only when a name is used."""
    from importlib import import_module

    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
