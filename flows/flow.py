"""The Prefect side of an audit; `flows.prefect_home.use_prefect_home` comes before importing this."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import State as AnyState
from prefect.client.schemas.objects import StateType, TaskRun
from prefect.states import Crashed
from prefect.tasks import Task

from flows.audit import audit_cohort, finish
from pipeline.allocator import keep_freed_memory
from pipeline.case import audit_case
from pipeline.cohort import Case
from pipeline.errors import AuditError
from pipeline.protocol import load_protocol
from pipeline.record.interventions import Interventions
from pipeline.record.schema import CaseResult
from pipeline.record.trust import Trust
from pipeline.stages.intervene import intervene
from pipeline.stages.setup import set_up
from pipeline.stages.trust import assess


@flow(name="relevance-audit", persist_result=False, validate_parameters=False)
def audit_flow(protocol: str, out: str) -> str:
    """Audit the cohort of a protocol into a directory; only paths travel through Prefect.

    Parameters
    ----------
    protocol : str
        Path of the protocol file.
    out : str
        Path of the audit directory.

    Returns
    -------
    str
        Path of the report.
    """
    audit, cohort = set_up(load_protocol(Path(protocol)), Path(out))
    found: dict[str, CaseResult] = {}
    finished: list[CaseResult] = []
    intervened: list[Interventions] = []
    assessed: list[Trust] = []

    @task(
        name="case", retries=1, retry_condition_fn=_worth_a_retry, cache_policy=NO_CACHE, persist_result=False
    )
    def one_case(name: str) -> None:
        found[name] = audit_case(by_name[name], audit)

    @task(
        name="interventions",
        retries=1,
        retry_condition_fn=_worth_a_retry,
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    def interventions() -> None:
        intervened.append(intervene(audit, cohort, finished))

    @task(
        name="report",
        retries=1,
        retry_condition_fn=_worth_a_retry,
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    def report() -> None:
        finish(audit.folder)

    def run_case(case: Case) -> CaseResult:
        one_case(case.case)
        return found.pop(case.case)

    @task(
        name="trust of the maps",
        retries=1,
        retry_condition_fn=_worth_a_retry,
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    def trust() -> None:
        assessed.append(assess(audit, cohort, finished))

    def run_interventions(results: list[CaseResult]) -> Interventions:
        finished[:] = results
        interventions()
        return intervened.pop()

    def run_trust(results: list[CaseResult]) -> Trust:
        finished[:] = results
        trust()
        return assessed.pop()

    by_name = {case.case: case for case in cohort.cases}
    audit_cohort(audit, cohort, run_case, run_interventions, run_trust)
    report()
    return str(audit.folder / "report.pdf")


@flow(name="relevance-audit-scheduled", persist_result=False, validate_parameters=False)
def scheduled_flow(protocol: str, root: str) -> str:
    """Audit into a directory of its own below `root`, named by the time of the start (UTC)."""
    keep_freed_memory()  # each scheduled run has a process of its own
    name = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    return audit_flow(protocol, str(Path(root) / name))


def sweep_killed_runs(out: str) -> int:
    """Mark runs of this audit directory that were killed as crashed; Prefect would show them as running.

    Returns
    -------
    int
        How many there were.
    """
    running = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING]))
    )
    with get_client(sync_client=True) as client:
        killed = [
            run for run in client.read_flow_runs(flow_run_filter=running) if run.parameters.get("out") == out
        ]
        for run in killed:
            client.set_flow_run_state(run.id, Crashed(message="the process was killed"), force=True)
    return len(killed)


def _worth_a_retry(_task: Task[..., object], _run: TaskRun, state: AnyState[object]) -> bool:
    """Retry what may go well the next time; a refusal will not."""
    try:
        state.result()
    except AuditError:
        return False
    except Exception:  # noqa: BLE001
        return True
    return False
