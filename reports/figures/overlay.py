"""Signed relevance over a grey image, so that its sign survives a grey printer.

Colour: warm and light speaks for the class, cold and dark against it. Lines say the same without colour:
solid around what speaks for, dashed around what speaks against.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from reports.figures.canvas import LINES

Array = npt.NDArray[Any]
PERCENTILE = 99.5
MARK_COLOURS = ("#00e5a8", "#ff5fd2", "#ffe14d", "#7fd4ff", "#ffffff", "#ff9e80")
_STOPS = (
    (0.0, (0.00, 0.05, 0.40)),
    (0.5, (0.25, 0.45, 0.85)),
    (0.5, (0.85, 0.35, 0.05)),
    (1.0, (1.00, 0.93, 0.25)),
)


def scale_of(relevance: Array, field: Array) -> float:
    """Return the value at full colour: the 99.5th percentile of |R| in the field (1 for an empty map)."""
    size = np.abs(relevance[field]) if field.any() else np.abs(relevance)
    value = float(np.percentile(size, PERCENTILE)) if size.size else 0.0
    if not value > 0:
        value = float(np.abs(relevance).max(initial=0.0))
    return value if value > 0 and np.isfinite(value) else 1.0


def grey(image: Array, field: Array) -> Array:
    """Turn an image into a grey one between 0 and 1, its range taken inside the field.

    Parameters
    ----------
    image : ndarray, shape spatial or [H, W, 3]
    field : ndarray of bool, shape spatial
    """
    if image.ndim == field.ndim + 1:
        image = image @ np.asarray([0.3, 0.6, 0.1], dtype=image.dtype)
    inside = image[field] if field.any() else image.ravel()
    low, high = (float(v) for v in np.percentile(inside, (1, 99.5))) if inside.size else (0.0, 1.0)
    low = min(low, 0.0) if inside.size and low < 0.25 * high else low
    return np.clip((image - low) / max(high - low, 1e-12), 0, 1)


def colours(share: Array) -> Array:
    """Colour relevance given as a share of its scale.

    Parameters
    ----------
    share : ndarray, shape [H, W]
        Relevance over its scale; clipped to −1 … 1.

    Returns
    -------
    ndarray, shape [H, W, 4]
        RGBA; what is near zero is transparent.
    """
    share = np.clip(np.nan_to_num(share), -1, 1)
    position = 0.5 + 0.5 * share
    out = np.empty((*share.shape, 4))
    negative = share < 0
    for channel in range(3):
        dark = np.interp(
            position, [_STOPS[0][0], _STOPS[1][0]], [_STOPS[0][1][channel], _STOPS[1][1][channel]]
        )
        warm = np.interp(
            position, [_STOPS[2][0], _STOPS[3][0]], [_STOPS[2][1][channel], _STOPS[3][1][channel]]
        )
        out[..., channel] = np.where(negative, dark, warm)
    out[..., 3] = np.abs(share) ** 0.8 * 0.9
    return out


def smooth(relevance: Array) -> Array:
    """Blur a map by 1.5 % of its longest side, so that lines go round areas and not round points."""
    from scipy import ndimage

    return np.asarray(ndimage.gaussian_filter(np.nan_to_num(relevance), 0.015 * max(relevance.shape)))


def draw_map(axes: Any, image: Array, share: Array, soft: Array, level: float) -> None:
    """Draw relevance over an image.

    Parameters
    ----------
    axes : matplotlib Axes
    image : ndarray, shape [H, W]
        Grey, 0–1.
    share : ndarray, shape [H, W]
        Relevance over its scale.
    soft : ndarray, shape [H, W]
        The smoothed relevance, around which lines are drawn.
    level : float
        Half of the largest |smoothed relevance|; no lines if 0.
    """
    axes.imshow(0.05 + 0.75 * image, cmap="gray", vmin=0, vmax=1, aspect="auto")
    axes.imshow(colours(share), aspect="auto")
    if level > 0:
        for sign, style in ((1, "solid"), (-1, (0, (2.2, 1.6)))):
            outline(axes, sign * soft, level, "black", 1.5, "solid" if sign > 0 else style)
            outline(axes, sign * soft, level, "white", 0.7, style)


def draw_marks(axes: Any, marks: Mapping[str, Array], width: float = 0.8) -> None:
    """Draw expert marks as contours, a colour and a line style for each type."""
    for index, mask in enumerate(marks.values()):
        outline(axes, mask.astype(float), 0.5, *mark_style(index, width))


def mark_style(index: int, width: float = 0.8) -> tuple[str, float, Any]:
    """Colour, width and line style of the n-th type of marks."""
    return MARK_COLOURS[index % len(MARK_COLOURS)], width, LINES[index % len(LINES)]


def outline(axes: Any, values: Array, level: float, colour: str, width: float, style: Any) -> None:
    """Draw one contour, if the values cross its level."""
    if not values.min() < level < values.max():
        return
    axes.contour(values, [level], colors=[colour], linewidths=[width], linestyles=[style])


def colour_bar(axes: Any, for_name: str) -> None:
    """Draw the scale that all maps share: −1 to 1 of each map's own scale."""
    ramp = np.linspace(-1, 1, 201)[None]
    background = np.full(ramp.shape, 0.45)
    extent = (-1, 1, 0, 1)
    axes.imshow(background, cmap="gray", vmin=0, vmax=1, extent=extent, aspect="auto")
    axes.imshow(colours(ramp), extent=extent, aspect="auto")
    axes.set_yticks([])
    axes.set_xticks([-1, 0, 1], ["against\n−scale", "0", f"for {for_name}\n+scale".replace(" \n", "\n")])
    for spine in axes.spines.values():
        spine.set_visible(True)


def legend_handles(names: Sequence[str]) -> list[Any]:
    """Line samples: expert marks, then what the lines around relevance mean."""
    from matplotlib.lines import Line2D

    handles = []
    for index, name in enumerate(names):
        colour, _, style = mark_style(index)
        handles.append(Line2D([], [], color=colour, linestyle=style, linewidth=1.3, label=f"expert: {name}"))
    handles.append(Line2D([], [], color="white", linewidth=1.3, label="relevance for"))
    handles.append(
        Line2D([], [], color="white", linewidth=1.3, linestyle=(0, (2.2, 1.6)), label="relevance against")
    )
    return handles
