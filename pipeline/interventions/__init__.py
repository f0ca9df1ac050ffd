"""What a decision really rests on: swap, transplant and remove factors of the image, and measure the score.

Names are imported from their module on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "shapley_values": "shapley",
    "Subject": "pairs",
    "Pair": "pairs",
    "matched_pairs": "pairs",
    "Composition": "composition",
    "BrainImage": "brain_factors",
    "BrainPair": "brain_factors",
    "brain_parts": "brain_factors",
    "FactorSwap": "swapping",
    "SwappedPair": "swapping",
    "swap_pair": "swapping",
    "factor_swap": "swapping",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    """Import the module that holds `name`."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
