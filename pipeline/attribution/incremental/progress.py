"""A bar with the time left, only where one was asked for."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Self

__all__ = ["Progress"]


class Progress:
    """Count what is done; show it on standard error.

    Parameters
    ----------
    total : int
    shown : bool
    """

    def __init__(self, total: int, *, shown: bool) -> None:
        self.total = total
        self.shown = shown
        self.done = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if self.shown:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (TextColumn("occlusions"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = self._stack.enter_context(Bar(*columns, console=Console(stderr=True)))
            self._task = self._bar.add_task("occlusions", total=self.total)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def say(self, text: str) -> None:
        """Show a line above the bar."""
        if self.shown:
            self._bar.console.print(text, highlight=False)

    def advance(self, count: int) -> None:
        """`count` more are done."""
        self.done += count
        if self.shown:
            self._bar.advance(self._task, count)
