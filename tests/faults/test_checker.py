"""The checker finds what it is there for: each violation, planted into evidence of a run without one."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.checker import RULES, check
from faults.evidence import (
    Accepted,
    Attempt,
    Call,
    Evidence,
    Run,
    Span,
    StoredJob,
    from_records,
)
from faults.losses import loss_causes
from faults.records import Notebook, read_records
from faults.reruns import kill_to_rerun, kill_to_rescue, rerun_causes, thrown_away, zombies

pytestmark = pytest.mark.contract("F11")

TASKS = ("plain", "once", "money", "stepper", "flaky", "ordered", "ordered", "limited", "limited")
ONE, OTHER = 100, 200
"""Two workers."""


def healthy() -> Evidence:
    """Return what is known of a job of each task that was enqueued, ran a second, and succeeded."""
    evidence = Evidence()
    for n, task in enumerate(TASKS):
        job, began = f"job-{n}", 10.0 + 2 * n
        evidence.jobs[job] = StoredJob(
            id=job,
            task=task,
            status="succeeded",
            n=n,
            result=n,
            key="a" if task in {"ordered", "limited"} else None,
            ends=[("succeeded", began + 1.01)],
            ledger=task == "money",
        )
        evidence.calls.append(Call(task, [n], began=n / 10, ids=[job], acknowledged=n / 10 + 0.05))
        evidence.runs.append(Run(job, task, n, 1, ONE, began, began + 1, "ok"))
        evidence.accepted.append(Accepted(job, 1, "succeeded", None, ONE, began + 1.02))
    evidence.receipts["job-3"] = {"receipt"}
    return evidence


def run_again(evidence: Evidence, n: int, *, after: float, by: int) -> Run:
    """Have a job run once more, so many seconds after its run of before began."""
    before = next(run for run in evidence.runs if run.n == n)
    began = before.began + after
    run = Run(before.job, before.task, n, 2, by, began, began + 1, "ok")
    evidence.runs.append(run)
    return run


def lose(evidence: Evidence) -> None:
    del evidence.jobs["job-0"]


def lose_half(evidence: Evidence) -> None:
    evidence.calls.append(Call("bulk", [0, 999], began=0))


def be_there_in_spite(evidence: Evidence) -> None:
    evidence.calls[0] = Call("plain", [0], began=0, error="DatabaseUnavailableError", may_have_happened=False)


def enqueue_twice(evidence: Evidence) -> None:
    evidence.jobs["copy"] = StoredJob("copy", "plain", "cancelled", n=0, ends=[("cancelled", 5.0)])


def raise_raw(evidence: Evidence) -> None:
    evidence.calls.append(Call("plain", [77], began=0, error="ConnectionDoesNotExistError"))


def tear_a_transaction(evidence: Evidence) -> None:
    evidence.calls.append(Call("transaction", [0], began=0))


def share_no_key(evidence: Evidence) -> None:
    evidence.calls += [
        Call("keyed", [n], began=1, ids=[job], acknowledged=2, key="key-1")
        for n, job in ((3, "job-0"), (4, "job-1"))
    ]


def stand_nowhere(evidence: Evidence) -> None:
    evidence.jobs["job-0"].status = "pending"


def stand_twice(evidence: Evidence) -> None:
    evidence.jobs["job-0"].places = 2


def leave_rows_behind(evidence: Evidence) -> None:
    evidence.strays = 1


def never_end(evidence: Evidence) -> None:
    evidence.jobs["job-0"].status = "running"
    evidence.jobs["job-0"].places = 1


def end_twice(evidence: Evidence) -> None:
    evidence.jobs["job-0"].ends.append(("succeeded", 12.0))


def complete_twice(evidence: Evidence) -> None:
    evidence.accepted.append(Accepted("job-0", 1, "succeeded", None, ONE, 12.0))


def accept_what_is_not_so(evidence: Evidence) -> None:
    evidence.accepted[0] = Accepted("job-0", 1, "failed", "exception", ONE, 11.02)


def accept_a_zombie(evidence: Evidence) -> None:
    # Frozen in time, and rescued: only that its outcome counts is wrong.
    evidence.spans.append(Span("frozen", 9.0, 11.0, frozenset({ONE})))
    run_again(evidence, 0, after=0.5, by=OTHER)


def charge_twice(evidence: Evidence) -> None:
    evidence.kills[ONE] = 9.0
    evidence.jobs["job-0"].attempts = [Attempt(1, "exception", None, at) for at in (11.0, 12.0)]


def start_after_the_end(evidence: Evidence) -> None:
    run_again(evidence, 0, after=50, by=ONE)


def start_early(evidence: Evidence) -> None:
    evidence.jobs["job-0"].run_at = 11.0


def succeed_without_a_run(evidence: Evidence) -> None:
    evidence.runs[0].how = "CancelledError"


def return_something_else(evidence: Evidence) -> None:
    evidence.jobs["job-0"].result = 99


def fail_for_nothing(evidence: Evidence) -> None:
    job = evidence.jobs["job-1"]
    job.status, job.reason, job.ends = "failed", "worker_lost", [("failed", 13.5)]
    evidence.accepted.pop(1)


def run_once_twice(evidence: Evidence) -> None:
    # That its worker was killed explains a rerun, of any other job.
    evidence.kills[ONE] = evidence.deaths[ONE] = 40.0
    run_again(evidence, 1, after=40, by=OTHER)


def write_twice(evidence: Evidence) -> None:
    evidence.jobs["job-2"].ledger = 2


def forget_a_step(evidence: Evidence) -> None:
    evidence.receipts["job-3"].add("another")


def hear_no_cancel(evidence: Evidence) -> None:
    evidence.cancels.append(("job-0", True, 10.5))
    job = evidence.jobs["job-0"]
    job.status, job.reason = "expired", None
    evidence.runs[0].how = "CancelledError"


def charge_a_loss_for_nothing(evidence: Evidence) -> None:
    evidence.names["one"] = ONE
    evidence.jobs["job-0"].attempts = [Attempt(1, "lost", "one", 11.0)]


def rerun_for_nothing(evidence: Evidence) -> None:
    run_again(evidence, 0, after=1.005, by=OTHER)


def rerun_beside_itself(evidence: Evidence) -> None:
    run_again(evidence, 0, after=0.5, by=ONE)


def overtake(evidence: Evidence) -> None:
    first, second = (run for run in evidence.runs if run.task == "ordered")
    first.began, second.began = second.began, first.began
    first.ended, second.ended = second.ended, first.ended
    ends = evidence.jobs[first.job], evidence.jobs[second.job]
    ends[0].ends, ends[1].ends = ends[1].ends, ends[0].ends


def start_before_the_turn(evidence: Evidence) -> None:
    first, second = (run for run in evidence.runs if run.task == "ordered")
    second.began = first.began + 0.5


def crowd(evidence: Evidence) -> None:
    for n in range(50, 52):
        run = Run(f"job-{n}", "limited", n, 1, ONE, 26.5, 27.0, "ok")
        evidence.runs.append(run)
        evidence.jobs[run.job] = StoredJob(
            run.job, "limited", "succeeded", n=n, result=n, key="a", ends=[("succeeded", 27.0)]
        )
    for run in evidence.runs:
        if run.task == "limited":
            run.began, run.ended = 26.5, 27.0
            evidence.jobs[run.job].ends = [("succeeded", 27.01)]


def get_into_trouble(evidence: Evidence) -> None:
    evidence.troubles.append("the worker 100 did not stop when it was asked to")


PLANTED: dict[Callable[[Evidence], None], str] = {
    lose: "lost: job job-0",
    lose_half: "half: of the call",
    be_there_in_spite: "there in spite of DatabaseUnavailableError",
    enqueue_twice: "two jobs of one call",
    raise_raw: "a call of kind plain raised ConnectionDoesNotExistError",
    tear_a_transaction: "torn transaction",
    share_no_key: "two jobs for the idempotency key key-1",
    stand_nowhere: "stands in 0 tables",
    stand_twice: "stands in 2 tables",
    leave_rows_behind: "1 rows are about jobs",
    never_end: "is still running",
    end_twice: "the database saw it end as",
    complete_twice: "two outcomes of job job-0 were accepted",
    accept_what_is_not_so: "its worker was told that it is failed",
    accept_a_zombie: "zombie: worker 100 ended job job-0",
    charge_twice: "attempt 1 of job job-0 failed 2 times",
    start_after_the_end: "ended as succeeded, and was started",
    start_early: "before its time",
    succeed_without_a_run: "no run of it came to its end",
    return_something_else: "has the result 99",
    fail_for_nothing: "(once) failed: worker_lost",
    run_once_twice: "is to run at most once",
    write_twice: "has written 2 rows",
    forget_a_step: "a step of job job-3 returned",
    hear_no_cancel: "was cancelled, and is expired",
    charge_a_loss_for_nothing: "counts as lost; its worker was not disturbed",
    rerun_for_nothing: "unexplained rerun of job job-0",
    rerun_beside_itself: "started job job-0 while it was running it",
    overtake: "order of key a: job job-6 was started before job-5",
    start_before_the_turn: "was started before job-5 had ended",
    crowd: "the 4th to run at once",
    get_into_trouble: "did not stop",
}


def test_where_all_was_well_nothing_is_found() -> None:
    assert check(healthy()) == []


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_what_must_never_be_is_found(plant: Callable[[Evidence], None]) -> None:
    evidence = healthy()

    plant(evidence)

    assert any(PLANTED[plant] in violation for violation in check(evidence)), check(evidence)


def test_each_rule_finds_something_that_was_planted() -> None:
    found = set()
    for plant in PLANTED:
        evidence = healthy()
        plant(evidence)
        found |= {rule for rule in RULES if list(rule(evidence))}

    assert found == set(RULES)


def kill(evidence: Evidence) -> None:
    evidence.kills[ONE] = evidence.deaths[ONE] = 10.5


def freeze(evidence: Evidence) -> None:
    evidence.spans.append(Span("frozen", 9.0, 30.0, frozenset({ONE})))


def crash(evidence: Evidence) -> None:
    evidence.spans.append(Span("crash", 10.4, 10.6))


def stop(evidence: Evidence) -> None:
    evidence.terminated[ONE] = 10.5
    evidence.runs[0].how, evidence.runs[0].ended = "CancelledError", 10.6


@pytest.mark.parametrize("disturb", [kill, freeze, crash, stop])
def test_a_rerun_that_has_a_cause_is_no_violation(disturb: Callable[[Evidence], None]) -> None:
    evidence = healthy()
    evidence.runs[0].how, evidence.runs[0].ended = None, None
    again = run_again(evidence, 0, after=5, by=OTHER)
    evidence.jobs["job-0"].ends = [("succeeded", again.began + 1.01)]
    evidence.accepted[0] = Accepted("job-0", 2, "succeeded", None, OTHER, again.began + 1.02)
    assert check(evidence)

    disturb(evidence)

    assert check(evidence) == []
    assert rerun_causes(evidence).total() == 1


def test_what_another_worker_was_disturbed_by_explains_nothing() -> None:
    evidence = healthy()
    evidence.kills[OTHER] = evidence.deaths[OTHER] = 10.5
    evidence.spans.append(Span("frozen", 9.0, 30.0, frozenset({OTHER})))

    rerun_for_nothing(evidence)

    assert any("unexplained rerun" in violation for violation in check(evidence))


def test_what_is_measured_of_kills_zombies_and_successes_thrown_away() -> None:
    evidence = healthy()
    evidence.runs[0].how, evidence.runs[0].ended = None, None
    evidence.kills[ONE] = evidence.deaths[ONE] = 10.5
    run_again(evidence, 0, after=5, by=OTHER)
    late = Run("late", "plain", 90, 1, 300, 40.0, 60.0, "ok")
    evidence.runs += [late, Run("late", "plain", 90, 2, OTHER, 50.0, 51.0, "ok")]
    evidence.jobs["late"] = StoredJob("late", "plain", "succeeded", n=90)

    assert kill_to_rerun(evidence) == [4.5]
    assert zombies(evidence) == [late]
    assert thrown_away(evidence) == 1


def test_losses_are_told_by_what_caused_them() -> None:
    evidence = healthy()
    evidence.names |= {"one": ONE, "other": OTHER}
    evidence.kills[ONE] = 10.5
    evidence.spans.append(Span("outage", 20.0, 26.0))
    evidence.jobs["job-0"].attempts = [Attempt(1, "lost", "one", 12.0), Attempt(2, "lost", "other", 9.0)]
    evidence.jobs["job-1"].attempts = [Attempt(1, "lost", "other", 30.0)]
    evidence.jobs["job-2"].attempts = [Attempt(1, "lost", "nobody knows", 30.0)]

    assert loss_causes(evidence) == {
        "killed": 1,
        "unexplained": 1,
        "cut off: outage, before it began": 1,
        "killed before it ran anything": 1,
    }


def test_jobs_that_were_lost_twice_are_measured_apart() -> None:
    evidence = healthy()
    evidence.runs[0].how, evidence.runs[0].ended = None, None
    again = run_again(evidence, 0, after=5, by=OTHER)
    again.how, again.ended = None, None
    run_again(evidence, 0, after=30, by=300)
    evidence.kills |= {ONE: 10.5, OTHER: 15.5}
    evidence.names |= {"one": ONE, "other": OTHER}
    evidence.rescues |= {"one": 14.0, "other": 20.0, "frozen": 99.0}

    assert kill_to_rerun(evidence) == [4.5, 24.5]
    assert kill_to_rerun(evidence, is_apart=False) == [4.5]
    assert kill_to_rerun(evidence, is_apart=True) == [24.5]
    assert kill_to_rescue(evidence) == [3.5, 4.5]


def test_records_become_evidence(tmp_path: Path) -> None:
    notebook = Notebook(tmp_path)
    notebook.note("intent", call="c", task="plain", ns=[1], keys=[None], key=None)
    notebook.note("acknowledged", call="c", ids=["j"], seconds=0.1)
    notebook.note("intent", call="unanswered", task="plain", ns=[2], keys=[None], key=None)
    notebook.note("start", run="r", job="j", task="plain", n=1, attempt=1, worker=ONE, name="one")
    notebook.note("frozen", pid=ONE)
    notebook.note("thawed", pid=ONE)
    notebook.note("fault_began", fault="crash", pids=[])
    notebook.note("end", run="r", how="ok")
    notebook.note("accepted", job="j", attempt=1, status="succeeded", reason=None)
    notebook.note("killed", pid=ONE)
    notebook.note("rescued", worker="one", jobs=["j"])
    notebook.note("something that nobody reads")

    evidence = from_records(read_records(tmp_path))

    assert [(call.ids, call.acknowledged is not None) for call in evidence.calls] == [
        (["j"], True),
        ((), False),
    ]
    assert [(run.job, run.how, run.worker) for run in evidence.runs] == [("j", "ok", ONE)]
    assert {span.fault: span.ended < math.inf for span in evidence.spans} == {"frozen": True, "crash": False}
    assert ONE in evidence.kills
    assert ONE in evidence.deaths
    assert evidence.names == {"one": ONE}
    assert list(evidence.rescues) == ["one"]
    assert [each.status for each in evidence.accepted] == ["succeeded"]
