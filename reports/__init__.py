"""An audit directory in, a PDF and its figures out.

>>> from reports import render_report            # doctest: +SKIP
>>> render_report(Path("out/retina"))            # doctest: +SKIP
PosixPath('out/retina/report.pdf')

A report is data: sections (`reports.sections`) made of blocks (`reports.blocks`), typeset by one template.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reports.render import render_report

__all__ = ["render_report"]


def __getattr__(name: str) -> Any:
    """Import on first use: typesetting and plotting cost nothing until a report is made."""
    if name != "render_report":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from reports.render import render_report

    return render_report
