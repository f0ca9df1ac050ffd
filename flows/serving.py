"""A protocol on a schedule, by Prefect's own scheduler on the embedded server."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from flows.checking import refuse_no_folder
from flows.prefect_home import end_orphaned_servers, scheduling_server, use_prefect_home
from pipeline.errors import ProtocolError
from pipeline.protocol import load_protocol


def serve_protocol(protocol: Path, cron: str, root: Path) -> None:
    """Audit a protocol whenever `cron` says, each time into a directory of its own, until stopped.

    Parameters
    ----------
    protocol : Path
    cron : str
        Five fields, in the machine's time zone.
    root : Path
        Each run makes `root/<start, UTC>/`; Prefect's database lies in `root/.prefect`.

    Raises
    ------
    pipeline.errors.AuditError
        If the protocol could not run or `cron` is no schedule.
    """
    from pydantic import ValidationError

    from pipeline.stages.setup import set_up

    refuse_no_folder(root)
    set_up(load_protocol(protocol), root)
    use_prefect_home(root / ".prefect")
    from prefect.client.schemas.schedules import CronSchedule

    try:
        CronSchedule(cron=cron)
    except ValidationError as error:
        for folder in (root / ".prefect", root):
            with suppress(OSError):  # what was not empty before stays
                folder.rmdir()
        raise ProtocolError(
            f"{cron!r} is not a cron schedule", "write five fields, e.g. '0 2 * * 1' for Mondays at two"
        ) from error
    end_orphaned_servers(root / ".prefect")
    with scheduling_server():
        from prefect.types.entrypoint import EntrypointType

        from flows.flow import scheduled_flow

        scheduled_flow.serve(
            name=protocol.stem,
            cron=cron,
            parameters={"protocol": str(protocol.resolve()), "root": str(root.resolve())},
            limit=1,
            entrypoint_type=EntrypointType.MODULE_PATH,
            print_starting_message=False,
        )
