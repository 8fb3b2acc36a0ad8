"""`pgqueue queues`, `pause`, `resume`, `workers` and `top`, on a real database."""

from __future__ import annotations

import signal
import termios
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest
from kit.command_line import Cli
from kit.job_records import NOON
from kit.terminal import on_terminal
from kit.waiting import eventually

from pgqueue import JobHandle, JobStatus, PgQueue
from pgqueue.cli.commands.queues import describe_setting
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
    assert unknown == (1, "", "pgqueue: unknown queue 'mial'; did you mean '[mail]'?\n")


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
    assert (again["queue"], again["changed"], again["is_paused"]) == ("mail", False, True)
    assert (again["changed_by"], again["change_reason"]) == ("ann", "the relay is down")
    assert resumed == (0, "resumed: queue 'mail'\n", "")
    assert (resumed_again["changed"], resumed_again["is_paused"]) == (False, False)
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
    assert [(each["task"], each["changed"], each["is_paused"]) for each in (paused, resumed)] == [
        ("send_email", True, True),
        ("send_email", True, False),
    ]


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


@pytest.mark.parametrize("way", ["q", "Ctrl-C", "SIGTERM"])
async def test_top_shows_a_running_job_until_it_is_stopped(pgq: PgQueue, dsn: str, way: str) -> None:
    async with on_terminal("top", f"--dsn={dsn}", "--interval=0.2") as terminal:
        await terminal.shows("\x1b[?1049h")
        # The screen refreshes by itself.
        async with running_job(pgq) as job:
            await terminal.shows(str(job.id))
            if way == "SIGTERM":
                terminal.process.send_signal(signal.SIGTERM)
            else:
                terminal.press({"q": b"xq", "Ctrl-C": b"\x03"}[way])
            code = await terminal.ended()
        modes = termios.tcgetattr(terminal.device)

    assert code == 0
    assert "worker-1" in terminal.shown
    assert modes == terminal.modes


async def test_an_impossible_interval_is_wrong_usage(cli: Cli) -> None:
    for wrong in (["top", "--interval=0"], ["top", "--interval=nan"]):
        code, _, stderr = await cli(wrong[0], *wrong[1:])
        assert (code, "Traceback" in stderr) == (2, False)
