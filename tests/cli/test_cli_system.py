"""`pgqueue queues`, `pause`, `resume`, `workers` and `top`, on a real database."""

from __future__ import annotations

import asyncio
import fcntl
import io
import math
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.command_line import Cli
from kit.job_records import NOON
from kit.waiting import eventually
from rich.console import Console

from pgqueue import JobHandle, JobStatus, PgQueue
from pgqueue.cli.commands.queues import describe_setting
from pgqueue.cli.commands.top import Snapshot, share, view
from pgqueue.model.measures import Count, Drain, QueueMeasure, RunningJob, WorkerMeasure
from pgqueue.model.setting import Setting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HOSTILE = "\x1b[2J[bold]\u202eno\r"


@pytest.fixture
def cli(dsn: str) -> Cli:
    return Cli(dsn)


@asynccontextmanager
async def running_job(pgq: PgQueue) -> AsyncIterator[JobHandle[None]]:
    """A job that a worker runs, in a queue of its own."""
    until = anyio.Event()

    @pgq.task(queue="exports")
    async def export() -> None:
        await until.wait()

    job = await export.enqueue()
    async with pgq.worker(name="worker-1", queues=["exports"]):
        await eventually(lambda: is_running(job))
        yield job
        until.set()
        await pgq.wait(job.id)


async def is_running(job: JobHandle[None]) -> bool:
    return await job.status() is JobStatus.RUNNING


# Queues


async def test_queues_shows_what_each_holds(cli: Cli, pgq: PgQueue) -> None:
    await pgq.enqueue_many([pgq.signature("work") for _ in range(3)])
    await pgq.enqueue_by_name("work", options={"delay": 60})
    await pgq.enqueue_by_name("work", options={"queue": "[mail]"})
    await pgq.pause(queue="[mail]", actor="ann", reason=HOSTILE)

    code, stdout, _ = await cli("queues")
    document = await cli.json("queues", "default")
    unknown = await cli("queues", "mial")

    assert code == 0
    assert "[mail]" in stdout
    assert "queue '[mail]': paused since" in stdout
    assert "by ann: \\x1b[2J[bold]\\u202eno\\r" in stdout
    [queue] = document["queues"]
    assert (queue["queue"], queue["is_paused"]) == ("default", False)
    assert (queue["pending"]["value"], queue["scheduled"]["value"]) == (3, 1)
    assert unknown == (1, "", "pgqueue: unknown queue 'mial' (known: '[mail]', 'default')\n")


async def test_a_queue_is_paused_and_resumed(cli: Cli, pgq: PgQueue) -> None:
    await pgq.enqueue_by_name("work", options={"queue": "mail"})

    paused = await cli("pause", "mail", "--reason=the relay is down", "--actor=ann")
    [setting] = await pgq.settings()
    again = await cli.json("pause", "mail")
    resumed = await cli("resume", "mail")
    resumed_again = await cli.json("resume", "mail")

    assert paused == (0, "paused: queue 'mail'\n", "")
    assert (setting.kind, setting.name, setting.actor, setting.reason) == (
        "queue",
        "mail",
        "ann",
        "the relay is down",
    )
    assert again == {"queue": "mail", "changed": False}
    assert resumed == (0, "resumed: queue 'mail'\n", "")
    assert resumed_again == {"queue": "mail", "changed": False}
    assert [each.paused_at for each in await pgq.settings()] in ([], [None])


@pytest.mark.contract("W13")
async def test_a_queue_without_live_jobs_is_removed(cli: Cli, pgq: PgQueue) -> None:
    job = await pgq.enqueue_by_name("work", options={"queue": "mail"})

    refused = await cli("queues", "remove", "mail")
    await pgq.cancel(job.id)
    removed = await cli("queues", "remove", "mail")
    again = await cli.json("queues", "remove", "mail")
    listed = await cli.json("queues")

    assert refused[:2] == (1, "")
    assert "queue 'mail' has jobs that have not ended (1)" in refused[2]
    assert removed == (0, "removed: queue 'mail'\n", "")
    assert again == {"queue": "mail", "changed": False}
    assert listed == await cli.json("queues", "list")
    assert [each["queue"] for each in listed["queues"]] == ["default"]


async def test_a_task_is_paused_and_resumed(cli: Cli, pgq: PgQueue) -> None:
    await pgq.enqueue_by_name("send_email")
    paused = await cli.json("pause", "--task=send_email")
    [setting] = await pgq.settings()
    resumed = await cli.json("resume", "--task=send_email")

    assert (setting.kind, setting.name) == ("task", "send_email")
    assert paused == resumed == {"task": "send_email", "changed": True}


async def test_an_unknown_queue_is_paused_only_by_force(cli: Cli, pgq: PgQueue) -> None:
    typo = await cli("pause", "mial")
    resumed = await cli("resume", "mial")
    settings_after = await pgq.settings()
    forced = await cli("pause", "mial", "--force")

    assert typo == (
        1,
        "",
        "pgqueue: unknown queue 'mial' (known: 'default'); use --force to pause it anyway\n",
    )
    assert (resumed[0], resumed[2]) == (1, "pgqueue: unknown queue 'mial' (known: 'default')\n")
    assert settings_after == []
    assert forced[0] == 0
    for wrong in (["pause"], ["pause", "mail", "--task=work"], ["resume"]):
        assert (await cli(wrong[0], *wrong[1:]))[0] == 2


def test_what_an_operator_changed_is_said_in_words() -> None:
    setting = Setting("task", "work", None, {"timeout": 10.0}, "ann", None, NOON)

    assert describe_setting(setting) == "task 'work': timeout = 10.0 by ann"


# Workers


async def test_workers_shows_which_jobs_each_is_running(cli: Cli, pgq: PgQueue) -> None:
    async with running_job(pgq) as job:
        code, stdout, _ = await cli("workers", "--jobs")
        [worker] = (await cli.json("workers", "--jobs"))["workers"]
        [without_jobs] = (await cli.json("workers"))["workers"]

    assert code == 0
    for text in ("worker-1", "exports", str(job.id), "export"):
        assert text in stdout
    assert (worker["name"], worker["running"], worker["is_alive"]) == ("worker-1", 1, True)
    assert [each["job_id"] for each in worker["jobs"]] == [str(job.id)]
    assert without_jobs["jobs"] == []


# Top


async def test_top_prints_once_without_a_terminal(cli: Cli, pgq: PgQueue) -> None:
    async with running_job(pgq) as job:
        code, stdout, _ = await cli("top")
        document = await cli.json("top")

    assert code == 0
    assert str(job.id) in stdout
    assert "\x1b" not in stdout
    assert {each["queue"]: each["running"]["value"] for each in document["queues"]}["exports"] == 1
    assert [worker["jobs"][0]["job_id"] for worker in document["workers"]] == [str(job.id)]


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        self.screen, device = pty.openpty()
        fcntl.ioctl(device, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self.device = device
        self.modes = termios.tcgetattr(device)
        environment = {**os.environ, "TERM": "xterm-256color"}
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            environment.pop(name, None)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pgqueue", *arguments],
            stdin=device,
            stdout=device,
            stderr=device,
            env=environment,
            start_new_session=True,
        )
        self.shown = ""

    async def shows(self, text: str) -> None:
        """Wait until *text* has been on the screen."""
        with anyio.fail_after(60):
            while text not in self.shown:
                await anyio.wait_readable(self.screen)
                self.shown += os.read(self.screen, 65536).decode(errors="replace")

    def press(self, keys: bytes) -> None:
        os.write(self.screen, keys)

    async def ended(self) -> int:
        """Wait for the program, reading on: a full terminal would hold it up."""
        await self.shows("\x1b[?1049l")
        return await asyncio.to_thread(self.process.wait, 60)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.device)
        os.close(self.screen)


@pytest.mark.parametrize("way", ["q", "SIGINT", "SIGTERM"])
async def test_top_shows_a_running_job_until_it_is_stopped(pgq: PgQueue, dsn: str, way: str) -> None:
    terminal = Terminal("top", f"--dsn={dsn}", "--interval=0.2")
    try:
        await terminal.shows("\x1b[?1049h")
        # The screen refreshes by itself.
        async with running_job(pgq) as job:
            await terminal.shows(str(job.id))
            if way == "q":
                terminal.press(b"xq")
            else:
                terminal.process.send_signal(signal.Signals[way])
            code = await terminal.ended()
        modes = termios.tcgetattr(terminal.device)
    finally:
        terminal.close()

    assert code == 0
    assert "worker-1" in terminal.shown
    assert modes == terminal.modes


def a_queue(name: str, pending: int) -> QueueMeasure:
    none = Count(0)
    return QueueMeasure(
        queue=name,
        is_paused=False,
        pending=Count(pending),
        scheduled=none,
        retrying=none,
        blocked=none,
        running=none,
        failed=none,
        oldest_age=None,
        enqueued_rate=0.0,
        finished_rate=0.0,
        wait=None,
        run=None,
        drain=Drain(1, math.inf, math.inf),
    )


def a_worker(name: str, jobs: int) -> WorkerMeasure:
    running = [
        RunningJob(UUID(int=number), HOSTILE, "default", 1, NOON, 1.0 * number, None)
        for number in range(jobs)
    ]
    return WorkerMeasure(UUID(int=1), name, None, (HOSTILE,), NOON, 1.0, 10.0, None, None, jobs, 0, running)


def lines_of(snapshot: Snapshot, *, height: int, width: int = 100) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height)
    console.print(view(snapshot, height))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@settings(max_examples=25)
@given(
    queues=st.integers(0, 40),
    workers=st.integers(0, 40),
    jobs=st.integers(0, 40),
    height=st.integers(10, 60),
    width=st.integers(20, 200),
)
def test_a_screen_is_never_overfull(queues: int, workers: int, jobs: int, height: int, width: int) -> None:
    snapshot = Snapshot(
        NOON,
        [a_queue(f"{HOSTILE}-{number}" * 10, number) for number in range(queues)],
        [a_worker(f"{HOSTILE}-{number}", jobs) for number in range(workers)],
        problem=HOSTILE,
    )

    lines = lines_of(snapshot, height=height, width=width)

    assert len(lines) <= height
    assert all(each.isprintable() for line in lines for each in line)


def test_what_does_not_fit_is_counted_and_the_busiest_queues_are_shown() -> None:
    many = [a_queue(f"queue-{number}", pending=number) for number in range(50)]

    lines = lines_of(Snapshot(NOON, many), height=20)

    shown = [line.split()[0] for line in lines if line.startswith("queue-")]
    assert shown == [f"queue-{number}" for number in range(40, 50)]
    assert "and 40 more queues" in lines


def test_a_narrow_screen_cuts_names_and_no_figures() -> None:
    queue = replace(a_queue("invoices-of-last-year", 20_000), oldest_age=75.0, drain=Drain(200, 200, 200))

    [row] = [line for line in lines_of(Snapshot(NOON, [queue]), height=20, width=80) if "inv" in line]

    assert row.split()[1:5] == ["20,000", "0", "0", "0"]
    assert row.endswith("~3.3 min")
    assert "1 min 15 s" in row


def test_a_screen_says_why_it_was_not_updated() -> None:
    lines = lines_of(Snapshot(NOON, problem="the database is unavailable"), height=20)

    assert "not updated: the database is unavailable" in lines


@given(st.integers(-5, 100), st.lists(st.integers(0, 100), max_size=5))
def test_lines_are_shared_out(lines: int, wanted: list[int]) -> None:
    given_lines = share(lines, wanted)

    assert all(0 <= got <= want for got, want in zip(given_lines, wanted, strict=True))
    assert sum(given_lines) == min(max(lines, 0), sum(wanted))


def test_small_parts_are_shown_whole() -> None:
    assert share(30, [100, 2, 50]) == [14, 2, 14]


async def test_an_impossible_interval_is_wrong_usage(cli: Cli) -> None:
    for wrong in (["top", "--interval=0"], ["top", "--interval=nan"]):
        code, _, stderr = await cli(wrong[0], *wrong[1:])
        assert (code, "Traceback" in stderr) == (2, False)
