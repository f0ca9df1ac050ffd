"""Everything a run would refuse, before it runs."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import RecordError
from pipeline.protocol import load_protocol


def check_protocol(path: Path) -> list[str]:
    """Check a protocol, its model, its atlas and every file of its cohort.

    Parameters
    ----------
    path : Path
        The protocol file.

    Returns
    -------
    list of str
        One line for each bound that says nothing, and for each problem of a case: the audit would leave
        these cases out and list them.

    Raises
    ------
    pipeline.errors.AuditError
        If the protocol could not run at all.
    """
    from pipeline.stages.setup import check_cases, set_up
    from pipeline.verdict import idle_bound

    audit, cohort = set_up(load_protocol(path), Path())
    idle = [(c.name, idle_bound(c)) for c in audit.protocol.criteria]
    lines = [f"criterion {name} says nothing of a model: {why}" for name, why in idle if why]
    return lines + [str(problem) for problem in check_cases(audit, cohort)]


def refuse_no_folder(path: Path) -> None:
    """Refuse a place where no folder can be made, before anything is computed for it.

    Raises
    ------
    pipeline.errors.RecordError
        If `path`, or what would hold it, is a file.
    """
    for place in (path, *path.absolute().parents):
        if place.is_dir():
            return
        if place.exists():
            raise RecordError(f"{place}: is a file, not a folder", "name another directory")
