"""The measured method card: what each attribution method is worth on the audited model."""

from __future__ import annotations

from pipeline.record.parts import Part


class CardRow(Part):
    """One method, measured.

    Attributes
    ----------
    method : str
    """

    method: str
