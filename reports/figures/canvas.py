"""One look for every figure, and files without dates."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MM = 1 / 25.4
TEXT_WIDTH = 170.0
INK, SOFT, ACCENT = "#1b1f24", "#525a63", "#17405f"
FOR, AGAINST = "#d9730d", "#1f4e9c"
# dark to light, so that they differ in grey; each has a marker or a line style of its own as well
SERIES = ("#17405f", "#c2570c", "#6a8f2f", "#8a4fa3", "#2a9d9d", "#b08900", "#7b858f", "#b03060")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES = ("solid", (0, (4, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1)), (0, (6, 2)), (0, (2, 2)))
_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7,
    "axes.edgecolor": SOFT,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": SOFT,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.0,
    "ytick.major.size": 0.0,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 7,
    "legend.frameon": False,
    "legend.fontsize": 6.5,
    "text.parse_math": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "relevance-audit",
    "figure.facecolor": "white",
}


@contextmanager
def canvas(path: Path, width: float, height: float, dpi: int = 180) -> Iterator[Any]:
    """Give an empty figure and write it to `path` when the block ends.

    Parameters
    ----------
    path : Path
        `.svg` for charts, `.jpg` for images.
    width, height : float
        Millimetres.
    dpi : int
        Of pixel images.

    Yields
    ------
    matplotlib.figure.Figure
        Texts in it are never read as mathematics.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context({**mpl.rcParamsDefault, **_STYLE, "backend": "agg"}):
        figure = Figure(figsize=(width * MM, height * MM), dpi=dpi)
        FigureCanvasAgg(figure)
        yield figure
        if path.suffix == ".svg":
            figure.savefig(path, metadata={"Date": None, "Creator": None})
        else:
            figure.savefig(path, dpi=dpi, pil_kwargs={"quality": 88, "subsampling": 0, "optimize": True})


def place(figure: Any, left: float, top: float, width: float, height: float) -> Any:
    """Add axes at millimetres from the upper left corner."""
    w, h = figure.get_size_inches() / MM
    return figure.add_axes((left / w, 1 - (top + height) / h, width / w, height / h))
