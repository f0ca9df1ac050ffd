"""What a section is made of: plain values that the template typesets, never markup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, ClassVar, Literal

from reports.words import breakable, clean, cut

Align = Literal["left", "right", "center"]
CELL = 400
Tone = Literal["plain", "warning", "sound", "flagged", "inconclusive"]


@dataclass(frozen=True)
class Block:
    """One thing on a page. `kind` names the template's function for it."""

    kind: ClassVar[str] = ""


@dataclass(frozen=True)
class Text(Block):
    """A paragraph.

    Attributes
    ----------
    small : bool
        Set smaller and grey, for notes.
    """

    kind: ClassVar[str] = "text"
    text: str
    small: bool = False


@dataclass(frozen=True)
class Bullets(Block):
    """A list of short sentences."""

    kind: ClassVar[str] = "bullets"
    items: Sequence[str]


@dataclass(frozen=True)
class Verdict(Block):
    """The answer of the audit, big.

    Attributes
    ----------
    answer : {"sound", "flagged", "inconclusive"}
    headline : str
        The answer in one or two words.
    sentence : str
        What it means.
    lead : str
        What the list of factors is.
    factors : sequence of str
    """

    kind: ClassVar[str] = "verdict"
    answer: Literal["sound", "flagged", "inconclusive"]
    headline: str
    sentence: str
    lead: str = ""
    factors: Sequence[str] = ()


@dataclass(frozen=True)
class Callout(Block):
    """A boxed message that must not be overlooked."""

    kind: ClassVar[str] = "callout"
    title: str
    items: Sequence[str]
    tone: Tone = "warning"


@dataclass(frozen=True)
class Numbers(Block):
    """A row of large numbers: (number, what it counts)."""

    kind: ClassVar[str] = "numbers"
    items: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Facts(Block):
    """Names and values, one a line.

    Attributes
    ----------
    rows : sequence of (name, value)
    mono : bool
        Values are hashes or versions, set in a fixed width.
    """

    kind: ClassVar[str] = "facts"
    rows: Sequence[tuple[str, str]]
    mono: bool = False


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes
    ----------
    title : str
    width : float
        Share of the free width; 0 takes what its content needs.
    align : {"left", "right", "center"}
    """

    title: str
    width: float = 1.0
    align: Align = "left"


@dataclass(frozen=True)
class Table(Block):
    """Rows under a header that is repeated on every page.

    Attributes
    ----------
    caption : str
    columns : sequence of Column
    rows : sequence of sequences of str
    note : str
        Set below the table.
    """

    kind: ClassVar[str] = "table"
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True)
class Picture(Block):
    """A figure from `figures/`.

    Attributes
    ----------
    path : str
        Relative to the audit directory.
    alt : str
        What a reader who cannot see it has to know.
    caption : str
    width : float
        Share of the text width.
    """

    kind: ClassVar[str] = "picture"
    path: str
    alt: str
    caption: str
    width: float = 1.0


@dataclass(frozen=True)
class Bar:
    """One bar of `Scores`: a share between 0 and 1."""

    name: str
    share: float
    text: str
    remark: str = ""


@dataclass(frozen=True)
class Scores(Block):
    """Class scores of a case as bars with their numbers."""

    kind: ClassVar[str] = "scores"
    bars: Sequence[Bar]


@dataclass(frozen=True)
class Questions(Block):
    """Questions with boxes to tick.

    Attributes
    ----------
    title : str
    questions : sequence of str
    answers : sequence of str
        One box each.
    """

    kind: ClassVar[str] = "questions"
    title: str
    questions: Sequence[str]
    answers: Sequence[str]


@dataclass(frozen=True)
class Lines(Block):
    """Empty lines to write on.

    Attributes
    ----------
    title : str
    count : int
    """

    kind: ClassVar[str] = "lines"
    title: str
    count: int


@dataclass(frozen=True)
class Signature(Block):
    """Fields to fill in by hand."""

    kind: ClassVar[str] = "signature"
    fields: Sequence[str]


@dataclass(frozen=True)
class Part(Block):
    """A titled part of a section, with its own bookmark.

    Attributes
    ----------
    title : str
    blocks : sequence of Block
    new_page : bool
    """

    kind: ClassVar[str] = "part"
    title: str
    blocks: Sequence[Block]
    new_page: bool = False


@dataclass(frozen=True)
class Section:
    """One question of the report.

    Attributes
    ----------
    key : str
        Stable name.
    title : str
        Heading and bookmark.
    question : str
        What the section answers, in the reader's words.
    blocks : sequence of Block
        A section without any is left out.
    new_page : bool
        Start on a new page.
    """

    key: str
    title: str
    question: str = ""
    blocks: Sequence[Block] = field(default_factory=tuple)
    new_page: bool = False


def as_data(value: Any) -> Any:
    """Turn sections and blocks into JSON values; every text is cleaned on its way.

    Long words in tables, facts and bars may break anywhere, so that no name runs out of its column;
    their texts end after 400 characters.
    """
    return _as_data(value, narrow=False)


def _as_data(value: Any, *, narrow: bool) -> Any:
    if isinstance(value, str):
        return breakable(cut(clean(value), CELL), 14) if narrow else breakable(clean(value), 40)
    if is_dataclass(value):
        narrow = narrow or isinstance(value, Table | Scores | Facts)
        content = {
            f.name: value.path
            if isinstance(value, Picture) and f.name == "path"
            else _as_data(getattr(value, f.name), narrow=narrow)
            for f in fields(value)
        }
        return {"kind": value.kind, **content} if isinstance(value, Block) else content
    if isinstance(value, list | tuple):
        return [_as_data(item, narrow=narrow) for item in value]
    return value
