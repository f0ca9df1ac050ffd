"""Numbers and names as a report prints them."""

from __future__ import annotations

import datetime as dt
import math
import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from pipeline.record.schema import Figure

NONE = "–"
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
MINUS = "\N{MINUS SIGN}"
BREAK = "\N{ZERO WIDTH SPACE}"
ROUNDING = 1e-12
"""Below this a number is what double precision leaves of zero."""
_PATH = re.compile(r"(?<![\w.:/\\])(?:/|[A-Za-z]:\\|\\\\|~/|file:///?)(?:[^\s/\\'\",;:()]+[/\\])+")
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def fonts_folder() -> Path:
    """Return the folder of the DejaVu fonts that come with matplotlib."""
    import matplotlib as mpl

    return Path(mpl.get_data_path()) / "fonts" / "ttf"


@cache
def _drawable() -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    charmaps = [
        FT2Font(str(fonts_folder() / name)).get_charmap()
        for name in ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf")
    ]
    return frozenset(set(charmaps[0]) & set(charmaps[1]))


def clean(text: str) -> str:
    """Make a text safe to print: no control or direction marks, no unknown glyph, no folder names.

    Characters that the report's font lacks become �; of a path only the last part is kept.
    """
    text = _PATH.sub("", unicodedata.normalize("NFC", text))
    drawable = _drawable()
    out = []
    for character in text:
        if unicodedata.category(character) in ("Cf", "Co", "Cs", "Cn"):
            out.append("" if unicodedata.category(character) == "Cf" else REPLACEMENT)
        elif unicodedata.category(character) in ("Cc", "Zl", "Zp"):
            out.append(" ")
        else:
            out.append(character if ord(character) in drawable else REPLACEMENT)
    return "".join(out)


def breakable(text: str, longest: int) -> str:
    """Let words longer than `longest` break: after punctuation, and wherever else nothing allows it."""

    def split(match: re.Match[str]) -> str:
        pieces = re.findall(r"[^_\-/.:\\]*[_\-/.:\\]+|[^_\-/.:\\]+", match.group())
        parts = [p[i : i + longest] for p in pieces for i in range(0, len(p), longest)]
        return BREAK.join(parts)

    return re.sub(rf"\S{{{longest + 1},}}", split, text)


def number(value: float | None) -> str:
    """Print a number with about three digits and a true minus sign; `–` where there is none.

    What rounding leaves of a zero is printed as zero.

    >>> number(0.9241), number(-12.34), number(1234.5), number(0.00002), number(-7e-17), number(None)
    ('0.924', '−12.3', '1234', '2.0 × 10⁻⁵', '0.000', '–')
    """
    if value is None or not math.isfinite(value):
        return NONE
    size = abs(value)
    if size < ROUNDING:
        return "0.000"
    if size and (size < 5e-4 or size >= 1e7):
        mantissa, exponent = f"{value:.1e}".split("e")
        text = f"{mantissa} × 10{str(int(exponent)).translate(_SUPERSCRIPTS)}"
    else:
        text = f"{value:.{0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3}f}"
    return text.replace("-", MINUS)


def whole(value: float | None) -> str:
    """Print a count."""
    return NONE if value is None else f"{value:.0f}"


def p_value(value: float | None) -> str:
    """Print a p-value."""
    if value is None or not math.isfinite(value):
        return NONE
    return "<\N{NO-BREAK SPACE}0.001" if value < 0.001 else f"{value:.3f}"


def interval(low: float | None, high: float | None) -> str:
    """Print an interval as `[0.859, 0.974]`."""
    return NONE if low is None or high is None else f"[{number(low)}, {number(high)}]"


def figure(value: Figure) -> str:
    """Print a value with its 95 % interval: `0.924 [0.859, 0.974]`."""
    if value.value is None:
        return NONE
    if value.low is None or value.high is None:
        return f"{number(value.value)} (no interval)"
    return f"{number(value.value)} {interval(value.low, value.high)}"


def compact(value: Figure) -> str:
    """Print a value and its interval with two decimals, for tables of many: `1.37 [0.85, 2.03]`.

    Values that two decimals would hide are printed as `figure` does.
    """
    parts = (value.value, value.low, value.high)
    if any(p is None or not math.isfinite(p) or abs(p) >= 1000 for p in parts):
        return figure(value)
    if all(abs(p or 0.0) < 0.095 for p in parts):
        return figure(value)
    texts = [f"{p:.2f}".replace("-", MINUS).replace(f"{MINUS}0.00", "0.00") for p in parts]
    return f"{texts[0]} [{texts[1]}, {texts[2]}]"


def percent(value: Figure) -> str:
    """Print a share with its interval: `1.8 % [1.0, 4.0]`."""
    if value.value is None:
        return NONE
    text = f"{100 * value.value:.{0 if value.value >= 0.095 else 1}f}\N{NO-BREAK SPACE}%"
    if value.low is None or value.high is None:
        return text
    low, high = (f"{100 * x:.{0 if x >= 0.095 else 1}f}" for x in (value.low, value.high))
    return f"{text} [{low}, {high}]".replace("-", MINUS)


def counted(value: Figure) -> str:
    """Print how many patients were counted and how many cases were left out."""
    return f"{value.n}" if not value.excluded else f"{value.n} ({value.excluded} left out)"


def plain(name: str) -> str:
    """Read an identifier aloud: `hard_exudates` → `hard exudates`."""
    return name.replace("_", " ").strip()


def shorten(text: str, longest: int = 34) -> str:
    """Cut the middle out of a long name, for axes; tables print it in full."""
    if len(text) <= longest:
        return text
    tail = longest // 3
    return f"{text[: longest - tail - 1]}…{text[-tail:]}"


def cut(text: str, longest: int) -> str:
    """End a long text early; the record has it in full."""
    return text if len(text) <= longest else f"{text[: longest - 1].rstrip()}…"


def duration(seconds: float | None) -> str:
    """Print a time span."""
    if seconds is None:
        return NONE
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 90:
        return f"{number(seconds)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def moment(text: str) -> str:
    """Print an ISO time to the minute; anything else as it is.

    >>> moment("2026-11-23T01:07:41+00:00")
    '2026-11-23 01:07 UTC'
    """
    try:
        when = dt.datetime.fromisoformat(text)
    except ValueError:
        return text
    zone = "" if when.tzinfo is None else " UTC"
    return f"{when.astimezone(dt.UTC) if zone else when:%Y-%m-%d %H:%M}{zone}"


def class_name(index: int | None, classes: Sequence[str]) -> str:
    """Name a class; an index outside the list is printed as such."""
    if index is None:
        return "not given"
    return classes[index] if 0 <= index < len(classes) else f"class {index}"


def plural(count: int, one: str, many: str = "") -> str:
    """Count things: `1 case`, `2 cases`."""
    return f"{count} {one if count == 1 else many or one + 's'}"
