"""`pgqueue jobs`, `job`, `cancel`, `requeue` and `enqueue`, on a real database."""

from __future__ import annotations

import asyncio
import inspect
import json
import signal
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import anyio
import pytest
from kit.command_line import Cli
from kit.job_records import NOON, a_job
from kit.processes import Processes, processes_in
from kit.waiting import eventually
from typer.testing import CliRunner

from pgqueue import JobContext, JobStatus, PgQueue
from pgqueue.cli import app
from pgqueue.cli.commands.cancel_requeue import describe_count, describe_filter
from pgqueue.cli.commands.enqueue import enqueue
from pgqueue.cli.commands.jobs import describe_change
from pgqueue.client.jobs import BATCH
from pgqueue.model.filters import JobFilter
from pgqueue.model.progress import Progress
from pgqueue.options.table import AT, Level, Stored

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

HOSTILE = "\x1b[2J[bold]\u202eno\r"
WHAT_A_TERMINAL_OBEYS = "\x1b\u202e\r"


@pytest.fixture
def cli(dsn: str) -> Cli:
    return Cli(dsn)


@pytest.fixture
def processes(tmp_path: Path, dsn: str) -> Iterator[Processes]:
    with processes_in(tmp_path, dsn) as started:
        yield started


@pytest.fixture
async def broken(pgq: PgQueue) -> UUID:
    """A job that has failed in a worker, with a text for terminals."""

    @pgq.task(name="charge", max_retries=0)
    async def charge(card: str) -> None:
        raise ValueError(card)

    job = await charge.options(tags=["night"], key="k-1", queue="cards").enqueue(HOSTILE)
    async with pgq.worker(name="worker-1", queues=["cards"]):
        await pgq.wait(job.id)
    return job.id


# Looking


@pytest.mark.contract("P4.13")
async def test_jobs_lists_what_matches_the_filters_page_by_page(cli: Cli, pgq: PgQueue, broken: UUID) -> None:
    waiting = [await pgq.enqueue_by_name("work", number) for number in range(3)]

    code, table, _ = await cli("jobs")
    first = await cli.json("jobs", "--task=work", "--limit=2")
    rest = await cli.json("jobs", "--task=work", f"--cursor={first['cursor']}")
    found = [
        await cli.json("jobs", *chosen)
        for chosen in (
            ["--status=failed", "--status=cancelled"],
            ["--queue=cards"],
            ["--tag=night"],
            ["--key=k-1"],
            ["--task=charge", "--created-after=2020-01-01"],
        )
    ]
    nothing = await cli.json("jobs", "--created-before=2020-01-01")

    assert code == 0
    assert str(broken) in table
    assert not any(each in table for each in WHAT_A_TERMINAL_OBEYS)
    listed = [job["job_id"] for job in [*first["jobs"], *rest["jobs"]]]
    assert listed == [str(job.id) for job in reversed(waiting)]
    assert [[job["job_id"] for job in page["jobs"]] for page in found] == [[str(broken)]] * 5
    assert (rest["cursor"], nothing["jobs"]) == (None, [])


async def test_a_page_says_how_to_go_on(cli: Cli, pgq: PgQueue) -> None:
    await pgq.enqueue_many([pgq.signature("work") for _ in range(2)])

    _, stdout, _ = await cli("jobs", "--limit=1")
    cursor = stdout.splitlines()[-1].removeprefix("next page: --cursor ")

    assert len((await cli.json("jobs", f"--cursor={cursor}"))["jobs"]) == 1


async def test_job_shows_everything_known_about_one(cli: Cli, pgq: PgQueue, broken: UUID) -> None:
    await pgq.requeue(broken, reason="mended", actor="ada")
    await pgq.cancel(broken, reason=HOSTILE, actor="bob")

    code, stdout, _ = await cli("job", broken)
    _, printed, _ = await cli("job", broken, "--json", "--show-arguments")

    assert code == 1
    for text in (str(broken), "cancelled", "charge", "cards", "night", "k-1", "worker-1", "exception"):
        assert text in stdout
    for text in ("requeued by ada: mended", "cancelled by bob: \\x1b[2J[bold]\\u202eno\\r", "ValueError"):
        assert text in stdout
    assert not any(each in stdout for each in WHAT_A_TERMINAL_OBEYS)
    document = json.loads(printed)
    assert document["arguments"] == {"card": HOSTILE}
    assert [past["error"]["message"] for past in document["attempts"]] == [HOSTILE]
    assert "raise ValueError(card)" in document["attempts"][0]["error"]["traceback"]
    assert [action["actor"] for action in document["actions"]] == ["ada", "bob"]


async def test_a_failed_job_shows_where(cli: Cli, broken: UUID) -> None:
    code, stdout, _ = await cli("job", broken)

    assert code == 1
    assert "raise ValueError(card)\n" in stdout


async def test_the_exit_code_tells_how_a_job_ended(cli: Cli, pgq: PgQueue, broken: UUID) -> None:
    @pgq.task
    async def add(a: int, b: int) -> int:
        return a + b

    succeeded, waiting = (
        await add.enqueue(1, 2),
        await pgq.enqueue_by_name("work", options={"queue": "aside"}),
    )
    async with pgq.worker(queues=["default"]):
        await pgq.wait(succeeded.id)

    codes = [(await cli("job", job))[0] for job in (succeeded.id, waiting.id, broken)]
    _, stdout, _ = await cli("job", succeeded.id)

    assert codes == [0, 0, 1]
    assert "result:    3\n" in stdout


@pytest.mark.parametrize("options", [["--watch"], ["--watch", "--json"]])
async def test_a_watched_job_is_followed_to_its_end(cli: Cli, pgq: PgQueue, options: list[str]) -> None:
    go = anyio.Event()

    @pgq.task
    async def count(context: JobContext, until: int) -> str:
        context.progress(until // 2, until)
        await go.wait()
        return "counted"

    job = await count.enqueue(10)
    watching = asyncio.ensure_future(cli("job", job.id, *options))
    async with pgq.worker(name="worker-1"):
        await eventually(lambda: has_progress(pgq, job.id))
        go.set()
        code, stdout, _ = await watching

    assert code == 0
    if "--json" in options:
        last = json.loads(stdout.splitlines()[-1])
        assert (last["status"], last["result"]) == ("succeeded", "counted")
    else:
        assert "status:    succeeded\n" in stdout
        assert 'result:    "counted"\n' in stdout


async def test_a_watched_job_that_is_interrupted_is_left_alone(
    processes: Processes, pgq: PgQueue, dsn: str
) -> None:
    job = await pgq.enqueue_by_name("work")
    process = processes.start("job", str(job.id), "--watch", f"--dsn={dsn}")
    assert process.stdout is not None
    first = await asyncio.to_thread(process.stdout.readline)

    process.send_signal(signal.SIGINT)
    code, _, stderr = await processes.ended(process)

    assert (code, first, stderr) == (130, "pending\n", "")
    assert await job.status() is JobStatus.PENDING


@pytest.mark.contract("W24")
@pytest.mark.parametrize("options", [(), ("--json",)])
async def test_a_cancel_of_many_that_is_interrupted_says_what_is_done_and_how_to_go_on(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    async def interrupted(*_: object, **__: object) -> AsyncIterator[int]:
        yield BATCH
        yield 7
        raise KeyboardInterrupt

    monkeypatch.setattr(PgQueue, "cancel_many", interrupted)

    code, stdout, stderr = await cli("cancel", "--all", "--yes", *options)

    assert code == 130
    assert stderr == (
        "pgqueue: interrupted; cancelled or asked to stop: 507, and up to 500 more. "
        "What is done stays so; run the command again for the others\n"
    )
    assert (json.loads(stdout) if options else stdout) == (
        {"cancelled": 507, "is_complete": False} if options else ""
    )


def test_each_change_is_a_line() -> None:
    job = a_job(JobStatus.RUNNING)

    assert describe_change(job) == "running, attempt 1, on worker-1, 1 of 2"
    assert describe_change(replace(job, progress=Progress(1.5, None, {"at": "\x1b"}))) == (
        'running, attempt 1, on worker-1, 1.5 {"at": "\\u001b"}'
    )
    assert describe_change(a_job(JobStatus.FAILED)) == "failed, attempt 1, ValueError: no"
    waiting = replace(a_job(JobStatus.SCHEDULED), next_run_at=NOON)
    assert describe_change(waiting) == "scheduled, attempt 1, runs at 2026-01-02 12:00:00Z after exception"


async def has_progress(pgq: PgQueue, job_id: UUID) -> bool:
    return (await pgq.get(job_id)).progress is not None


# Changing


@pytest.mark.contract("P4.13")
async def test_cancel_cancels_the_given_jobs(cli: Cli, pgq: PgQueue, broken: UUID) -> None:
    one, two = [await pgq.enqueue_by_name("work") for _ in range(2)]

    code, stdout, _ = await cli("cancel", one.id, broken, "--reason=no need", "--actor=ada")
    document = await cli.json("cancel", one.id, two.id)

    [action] = await pgq.actions(one.id)
    assert (code, stdout) == (0, f"cancelled or asked to stop: 1\nalready ended: {broken}\n")
    ids = {name: document[name] for name in ("cancelled", "over_already", "unknown")}
    assert ids == {"cancelled": [str(two.id)], "over_already": [str(one.id)], "unknown": []}
    assert [(each["job_id"], each["status"]) for each in document["jobs"]] == [
        (str(one.id), "cancelled"),
        (str(two.id), "cancelled"),
    ]
    assert (action.action, action.reason, action.actor) == ("cancelled", "no need", "ada")
    assert await two.status() is JobStatus.CANCELLED


@pytest.mark.contract("P4.13")
async def test_cancel_by_filter_asks_and_says_how_many(cli: Cli, pgq: PgQueue) -> None:
    for task in ("work", "work", "other"):
        await pgq.enqueue_by_name(task)

    refused = await cli("cancel", "--task=work", answer="n\n")
    unanswered = await cli("cancel", "--task=work")
    before = (await pgq.jobs(status="cancelled")).jobs
    agreed = await cli("cancel", "--task=work", answer="y\n")
    rest = await cli.json("cancel", "--all", "--yes")

    assert (refused[0], unanswered[0], before) == (1, 1, [])
    assert "cancel 2 jobs: status pending or scheduled or blocked or running, task 'work'?" in refused[2]
    assert "pass --yes when not running interactively" in unanswered[2]
    assert (agreed[0], agreed[1].endswith("cancelled or asked to stop: 2\n")) == (0, True)
    assert rest == {"cancelled": 1, "is_complete": True}


@pytest.mark.contract("P4.13")
async def test_requeue_makes_jobs_pending_again(cli: Cli, pgq: PgQueue, broken: UUID) -> None:
    waiting = await pgq.enqueue_by_name("work")

    one = await cli("requeue", broken, waiting.id, "--actor=ada")
    status = (await pgq.get(broken)).status
    await pgq.cancel(broken)
    many = await cli.json("requeue", "--task=charge", "--yes", "--reason=mended")

    assert one[:2] == (0, f"requeued: 1\nhas not ended: {waiting.id}\n")
    assert (status, (await pgq.get(broken)).status) == (JobStatus.PENDING, JobStatus.PENDING)
    assert many == {"requeued": 1, "is_complete": True}
    assert [act.reason for act in await pgq.actions(broken) if act.action == "requeued"] == [None, "mended"]


@pytest.mark.contract("P8.6")
async def test_run_now_makes_scheduled_jobs_pending(cli: Cli, pgq: PgQueue, broken: UUID) -> None:
    later = await pgq.enqueue(pgq.signature("work", options={"delay": 3600}))

    first = await cli("run-now", later.id, broken, "--actor=ada", "--reason=the audit")
    second = await cli.json("run-now", later.id)

    assert first[:2] == (0, f"pending now: 1\nwas not scheduled: {broken}\n")
    ids = {name: second[name] for name in ("pending", "not_scheduled", "unknown")}
    assert ids == {"pending": [], "not_scheduled": [str(later.id)], "unknown": []}
    assert await later.status() == JobStatus.PENDING
    [action] = await pgq.actions(later.id)
    assert (action.action, action.actor, action.reason) == ("run_now", "ada", "the audit")


@pytest.mark.contract("P8.6")
async def test_purge_cancels_what_waits_in_a_queue_after_a_question(cli: Cli, pgq: PgQueue) -> None:
    mine = [
        await pgq.enqueue(pgq.signature("work", options={"queue": "old", "delay": delay}))
        for delay in (0, 60)
    ]
    other = await pgq.enqueue_by_name("work")

    asked = await cli("queues", "purge", "old")
    before = [await job.status() for job in mine]
    purged = await cli("queues", "purge", "old", "--yes", "--actor=ada")
    unknown = await cli("queues", "purge", "odl", "--yes")

    assert asked[0] == 1
    assert "cancel 2 jobs" in asked[2]
    assert before == [JobStatus.PENDING, JobStatus.SCHEDULED]
    assert purged[:2] == (0, "cancelled or asked to stop: 2\n")
    assert [await job.status() for job in (*mine, other)] == [*[JobStatus.CANCELLED] * 2, JobStatus.PENDING]
    assert unknown[0] == 1
    assert "unknown queue 'odl'" in unknown[2]


async def test_enqueue_makes_a_job_and_prints_its_id(cli: Cli, pgq: PgQueue) -> None:
    code, stdout, _ = await cli("enqueue", "work", '{"options": 1, "task": "x"}', "--queue=q", "--delay=60")
    document = await cli.json("enqueue", "work", "[1, 2]", f"--id={UUID(stdout.strip())}", "--tag=t")

    job = await pgq.get(UUID(stdout.strip()))
    assert code == 0
    assert (job.task, job.queue, job.status) == ("work", "q", JobStatus.SCHEDULED)
    assert job.arguments == {"options": 1, "task": "x"}
    assert job.next_run_at is not None
    assert job.next_run_at - job.created_at > timedelta(seconds=50)
    assert document == {"job_id": str(job.id), "status": "scheduled", "created": False}


async def test_enqueue_takes_what_a_call_can_set(cli: Cli, pgq: PgQueue) -> None:
    given = ["--run-at=2999-01-01T12:00:00", "--header=tenant=a=b", "--header=x=y", "--priority=3"]

    first = await cli.json("enqueue", "work", "[1]", *given, "--idempotency-key=once")
    second = await cli.json("enqueue", "work", "[1]", *given, "--idempotency-key=once")

    job = await pgq.get(UUID(first["job_id"]))
    assert (second["job_id"], first["created"], second["created"]) == (first["job_id"], True, False)
    assert (job.run_at, job.priority) == (datetime(2999, 1, 1, 12, tzinfo=UTC), 3)
    assert job.headers.items() >= {"tenant": "a=b", "x": "y"}.items()


# Wrong


def test_what_a_call_over_http_sets_of_its_job_can_be_set_from_the_shell() -> None:
    columns = {name for name, option in AT[Level.HTTP].items() if option.stored is Stored.COLUMN}
    called = {"tags": "tag", "headers": "header", "id": "job"}

    assert {called.get(name, name) for name in columns} <= inspect.signature(enqueue).parameters.keys()


@pytest.mark.parametrize("command", ["cancel", "requeue"])
async def test_jobs_must_be_selected_in_exactly_one_way(cli: Cli, pgq: PgQueue, command: str) -> None:
    job = await pgq.enqueue_by_name("work")

    for arguments in ([], ["--all", "--task=work"], [job.id, "--all"], [job.id, "--task=work"]):
        code, _, stderr = await cli(command, *arguments, "--yes")
        assert code == 2
        assert "select jobs in exactly one way" in stderr
    assert await job.status() is JobStatus.PENDING


async def test_errors_are_one_line(cli: Cli, pgq: PgQueue) -> None:
    unknown, known = uuid4(), await pgq.enqueue_by_name("work")
    line = f"pgqueue: there is no job {unknown}\n"

    for command in ("job", "cancel", "requeue"):
        assert (await cli(command, unknown))[::2] == (1, line)
    assert (await cli("job", unknown, "--watch"))[::2] == (1, line)
    # The other jobs are still cancelled.
    code, stdout, stderr = await cli("cancel", unknown, known.id)
    assert (code, stdout, stderr) == (1, "cancelled or asked to stop: 1\n", line)
    code, _, stderr = await cli("jobs", f"--cursor={HOSTILE}")
    assert (code, stderr.count("\n")) == (1, 1)
    assert not any(each in stderr for each in WHAT_A_TERMINAL_OBEYS)
    assert "limit must be a whole number from 1 to 1000, got 0" in (await cli("jobs", "--limit=0"))[2]
    for wrong in (
        ["job", "7"],
        ["jobs", "--status=lost"],
        ["cancel", "--status=failed", "--yes"],
        ["requeue", "--status=running", "--yes"],
        ["cancel", "7"],
        ["enqueue", "work", "7"],
        ["enqueue", "work", "{"],
        ["enqueue", "work", "--header=tenant"],
        ["enqueue", "work", "[" * 100_000],
    ):
        code, _, stderr = await cli(wrong[0], *wrong[1:])
        assert (code, "Traceback" in stderr) == (2, False)


async def test_arguments_that_are_redacted_are_not_shown(
    dsn: str, pgq: PgQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "redacting_here.py").write_text(
        f"from pgqueue import PgQueue\n\npgq = PgQueue({dsn!r}, redact=['card'])\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    @pgq.task(max_retries=0)
    async def charge(card: str, amount: int) -> None:
        raise ValueError

    job = await charge.enqueue("4000-1234", amount=7)
    async with pgq.worker():
        await pgq.wait(job.id)
    for command in (["job"], ["dead", "show"]):
        for options in ([], ["--json"]):
            # As a program would: it is imported afresh.
            monkeypatch.delitem(sys.modules, "redacting_here", raising=False)
            given = [*command, str(job.id), "--app=redacting_here:pgq", *options]
            result = await asyncio.to_thread(CliRunner().invoke, app, given)

            assert "4000-1234" not in result.stdout
            assert "[redacted]" in result.stdout
            assert "amount" in result.stdout


@pytest.mark.contract("W27")
async def test_without_the_app_no_argument_is_shown_unless_it_is_asked_for(dsn: str, pgq: PgQueue) -> None:
    @pgq.task(max_retries=0)
    async def charge(card: str, amount: int) -> None:
        raise ValueError

    named, by_position = (
        await charge.enqueue("4000-1234", 7),
        await pgq.enqueue_by_name("charge", "4000-1234", 7),
    )
    async with pgq.worker():
        for job in (named, by_position):
            await pgq.wait(job.id)
    for job in (named, by_position):
        for command in (["job"], ["dead", "show"]):
            for options in ([], ["--json"]):
                given = [*command, str(job.id), f"--dsn={dsn}", *options]
                hidden = await asyncio.to_thread(CliRunner().invoke, app, given)
                shown = await asyncio.to_thread(CliRunner().invoke, app, [*given, "--show-arguments"])

                assert "4000-1234" not in hidden.stdout
                assert "[redacted]" in hidden.stdout
                assert "4000-1234" in shown.stdout


async def test_the_commands_run_as_programs(processes: Processes, dsn: str) -> None:
    code, stdout, _ = await processes.run("enqueue", "add", '{"a": 1, "b": 2}', "--app=jobs_here:pgq")
    wrong, _, stderr = await processes.run("enqueue", "add", '{"a": "x", "b": 2}', "--app=jobs_here:pgq")
    cancelled = await processes.run("cancel", "--all", "--yes", "--app=jobs_here:pgq")
    shown, document, _ = await processes.run("job", stdout.strip(), f"--dsn={dsn}", "--json")

    assert code == 0
    assert (wrong, stderr.startswith("pgqueue: ")) == (1, True)
    assert "Traceback" not in stderr
    assert cancelled == (0, "cancelled or asked to stop: 1\n", "")
    assert (shown, json.loads(document)["status"]) == (1, "cancelled")


async def test_a_question_is_asked_of_the_declared_pgqueue_too(
    dsn: str, pgq: PgQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "asked_here.py").write_text(f"from pgqueue import PgQueue\n\npgq = PgQueue({dsn!r})\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    await pgq.enqueue_by_name("work")

    given = ["cancel", "--all", "--app=asked_here:pgq"]
    result = await asyncio.to_thread(CliRunner().invoke, app, given, input="y\n")

    assert (result.exit_code, result.stdout.endswith("cancelled or asked to stop: 1\n")) == (0, True), (
        result.exception
    )


def test_a_filter_and_a_count_are_said_in_words() -> None:
    statuses = frozenset({JobStatus.FAILED, JobStatus.PENDING})

    assert describe_filter(JobFilter(statuses, "work", queue="q'")) == (
        "status pending or failed, task 'work', queue \"q'\""
    )
    assert describe_count(1, is_whole=True) == "1 job"
    assert describe_count(0, is_whole=True) == "0 jobs"
    assert describe_count(1000, is_whole=False) == "1,000 jobs or more"


async def test_an_empty_filter_option_is_refused_and_does_not_match_everything(
    cli: Cli, pgq: PgQueue
) -> None:
    job = await pgq.enqueue_by_name("work")

    code, _, stderr = await cli("cancel", "--queue=default", "--task=", "--yes")

    assert (code, stderr) == (1, "pgqueue: filter: task must be a non-empty string, got ''\n")
    assert (await job.refresh()).status is JobStatus.PENDING


@pytest.mark.contract("P7.25")
async def test_signal_sends_an_event(cli: Cli, pgq: PgQueue) -> None:
    @pgq.task
    async def approve(ctx: JobContext) -> dict[str, str]:
        return await ctx.wait_for_event("approved", dict[str, str])

    job = await approve.enqueue()
    sent = await cli("signal", job.id, "approved", '{"by": "ann"}', "--dedup-id=mail")
    again = await cli.json("signal", job.id, "approved", "7", "--dedup-id=mail")
    async with pgq.worker():
        assert await job.result(timeout=60) == {"by": "ann"}
    late = await cli("signal", job.id, "approved")
    broken = await cli("signal", job.id, "approved", "{")

    assert (sent[0], again["is_new"]) == (0, False)
    assert (late[0], broken[0]) == (1, 2)
