"""What a section may look at: the record, the cases' arrays, and where to put figures."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.record.schema import AuditRecord, read_arrays

if TYPE_CHECKING:
    import pandas as pd

Arrays = Mapping[str, np.ndarray[Any, Any]]
COLUMNS = frozenset({"case", "patient", "method", "target", "lesion", "metric", "value"})


@dataclass
class Context:
    """One audit, while its report is made.

    Attributes
    ----------
    folder : Path
        The audit directory: only read.
    record : AuditRecord
    scratch : Path
        Figures go to its `figures/`.
    """

    folder: Path
    record: AuditRecord
    scratch: Path
    _names: set[str] = field(default_factory=set)

    @cached_property
    def measurements(self) -> pd.DataFrame | None:
        """Single measurements, for plots; None where there are none."""
        import pandas as pd

        path = self.folder / "measurements.parquet"
        if not path.is_file():
            return None
        try:
            table = pd.read_parquet(path)
        except (OSError, ValueError):
            return None
        return table if set(table.columns) >= COLUMNS else None

    def arrays(self, case: str) -> Arrays | None:
        """Image and maps of one case; None where they are missing or unreadable."""
        path = self.folder / "cases" / f"{case}.npz"
        if path.parent != self.folder / "cases" or "/" in case or "\\" in case or not path.is_file():
            return None
        if not zipfile.is_zipfile(path):
            return None
        try:
            return read_arrays(path)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def figure_path(self, name: str) -> tuple[Path, str]:
        """Reserve a file for a figure.

        Returns
        -------
        path : Path
            Where to write it.
        relative : str
            What `Picture.path` says.
        """
        if name in self._names:
            msg = f"figure {name} is made twice"
            raise ValueError(msg)
        self._names.add(name)
        folder = self.scratch / "figures"
        folder.mkdir(exist_ok=True)
        return folder / name, f"figures/{name}"
