"""Both reference models, audited on phantoms they were not trained on."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from flows.audit import run_audit
from flows.checking import refuse_no_folder
from pipeline.errors import AuditError
from pipeline.files import write_text

# far from the seeds of training and of the held-out phantoms in the model cards
FIRST_SEED = 5_000_000
COHORTS = ("brain", "retina")


def run_demo(out: Path, cases: int) -> Iterator[Path]:
    """Draw both cohorts and audit them.

    Parameters
    ----------
    out : Path
        Gets `phantoms/` (inputs), `brain/` and `retina/` (audit directories). Run again, it goes on.
    cases : int
        Phantoms in each cohort.

    Yields
    ------
    Path
        The report of each audit.

    Raises
    ------
    pipeline.errors.AuditError
        If there is nothing to draw, or no place for it.
    """
    if cases < 1:
        raise AuditError(f"{cases} phantoms are no cohort", "give --cases 1 or more")
    refuse_no_folder(out / "phantoms")
    for name in COHORTS:
        folder = out / name
        _draw(name, out / "phantoms" / name, cases)
        protocol = out / "phantoms" / name / "protocol.yaml"
        text = (resources.files("flows") / "protocols" / f"{name}.yaml").read_text(encoding="utf-8")
        write_text(protocol, text)
        run_audit(protocol, folder, home=out / ".prefect")
        yield folder / "report.pdf"


def _draw(name: str, folder: Path, cases: int) -> None:
    """Draw a cohort unless it is there; the table is written last, so that half a cohort is drawn again."""
    from rich.console import Console
    from rich.progress import Progress

    from pipeline.phantoms.cohorts import write_brain_cohort, write_retina_cohort

    if (folder / "cohort.csv").is_file():
        return
    shutil.rmtree(folder, ignore_errors=True)
    write = {"brain": write_brain_cohort, "retina": write_retina_cohort}[name]
    with Progress(console=Console(file=sys.stderr)) as bar:
        task = bar.add_task(f"drawing {name} phantoms", total=cases)
        write(folder, cases, FIRST_SEED, lambda: bar.advance(task))
