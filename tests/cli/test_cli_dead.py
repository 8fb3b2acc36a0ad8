"""`pgqueue dead`: the commands, on a real database."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest
from kit.command_line import Cli
from kit.dead import count, fail_jobs
from typer.testing import CliRunner

from pgqueue import JobStatus, PgQueue
from pgqueue.cli import app

if TYPE_CHECKING:
    from conftest import Connection

pytestmark = pytest.mark.contract("P5.4", "P5.5")


@pytest.fixture
def cli(dsn: str) -> Cli:
    return Cli(dsn, "dead")


@pytest.fixture
async def broken(pgq: PgQueue) -> UUID:
    """A job that has failed in a worker."""

    @pgq.task(max_retries=0)
    async def charge(card: str) -> None:
        raise ValueError(f"[bold]{card} is refused[/bold]")

    job = await charge.enqueue("1234")
    async with pgq.worker(name="worker-1"):
        await pgq.wait(job.id)
    return job.id


async def test_list_shows_what_has_failed(cli: Cli, broken: UUID, db: Connection) -> None:
    await fail_jobs(db, 3, task="other")

    code, stdout, _ = await cli("list", "--task=charge")
    document = await cli.json("list", "--limit=3")
    rest = await cli.json("list", f"--cursor={document['cursor']}")

    assert code == 0
    assert str(broken) in stdout
    # What a job says is shown as it is.
    assert "ValueError: [bold]1234 is refused[/bold]" in stdout
    assert "other" not in stdout
    assert [letter["task"] for letter in document["dead_letters"]] == ["other"] * 3
    assert [letter["job_id"] for letter in rest["dead_letters"]] == [str(broken)]
    assert rest["cursor"] is None


async def test_groups_show_each_error_and_how_often_it_occurred(
    cli: Cli, broken: UUID, db: Connection
) -> None:
    await fail_jobs(db, 3, task="other")

    code, stdout, _ = await cli("groups")
    document = await cli.json("groups", "--task=other")

    assert code == 0
    assert "charge" in stdout
    assert [(group["count"], group["latest"]["task"]) for group in document["groups"]] == [(3, "other")]


async def test_show_shows_everything_about_one(cli: Cli, broken: UUID) -> None:
    code, stdout, _ = await cli("show", broken, "--show-arguments")
    document = await cli.json("show", broken, "--show-arguments")

    assert code == 0
    for text in (str(broken), '{"card":"1234"}', "worker-1", "exception", "raise ValueError"):
        assert text in stdout
    assert document["job"]["arguments"] == {"card": "1234"}
    assert document["job"]["error"]["type"] == "ValueError"
    assert [past["attempt"] for past in document["job"]["attempts"]] == [1]


async def test_redrive_makes_jobs_pending_again(cli: Cli, broken: UUID, pgq: PgQueue) -> None:
    code, stdout, _ = await cli(
        "redrive",
        broken,
        "--to-queue=repairs",
        '--arguments={"card": "5678"}',
        "--note=mended",
        "--actor=ada",
    )

    job = await pgq.get(broken)
    [action] = await pgq.actions(broken)
    assert (code, stdout) == (0, "redriven: 1\n")
    assert (job.status, job.queue, job.arguments) == (JobStatus.PENDING, "repairs", {"card": "5678"})
    assert (action.reason, action.actor) == ("mended", "ada")


async def test_a_mass_redrive_is_started_watched_and_stopped(cli: Cli, pgq: PgQueue, db: Connection) -> None:
    @pgq.task
    async def work(number: int) -> None: ...

    await fail_jobs(db, 5)
    async with pgq.worker():
        over = await cli.json("redrive", "--task=work", "--yes", "--rate=5000", "--watch")
    await fail_jobs(db, 5, task="other")
    begun = await cli.json("redrive", "--all", "--yes", "--rate=1")
    stopped = await cli.json("stop", begun["redrive_id"])
    code, stdout, _ = await cli("progress", begun["redrive_id"])

    assert (over["state"], over["done"], over["total"]) == ("done", 5, 5)
    assert (begun["state"], begun["total"]) == ("running", 5)
    assert stopped["state"] == "cancelled"
    assert (code, stdout) == (0, f"redrive {begun['redrive_id']}: cancelled, 0 of 5, 1 jobs/s\n")


async def test_discard_takes_jobs_out(cli: Cli, broken: UUID, db: Connection) -> None:
    await fail_jobs(db, 3, task="other")

    one = await cli("discard", broken, "--note=gone")
    many = await cli.json("discard", "--task=other", "--yes")

    assert one[:2] == (0, "discarded: 1\n")
    assert many == {"discarded": 3}
    assert await count(db, "dead_letter") == 0


@pytest.mark.parametrize("command", ["redrive", "discard"])
async def test_many_jobs_are_changed_only_after_a_yes(cli: Cli, db: Connection, command: str) -> None:
    await fail_jobs(db, 2)

    refused = await cli(command, "--all", answer="n\n")
    asked = await cli(command, "--task=work", answer="n\n")

    assert (refused[0], asked[0]) == (1, 1)
    # It says how many they are.
    assert f"{command} every dead letter (2)?" in refused[2]
    assert f"{command} the 2 dead letters that match" in asked[2]
    assert '"task": "work"' in asked[2]
    assert await count(db, "dead_letter") == 2
    assert await count(db, "mass_redrive") == 0


@pytest.mark.parametrize("command", ["redrive", "discard"])
async def test_jobs_must_be_selected_in_exactly_one_way(cli: Cli, db: Connection, command: str) -> None:
    await fail_jobs(db, 2)

    for arguments in ([], ["--all", "--task=work"], [uuid4(), "--all"], [uuid4(), "--task=work"]):
        code, _, stderr = await cli(command, *arguments, "--yes")
        assert code == 2
        assert "select jobs in exactly one way" in stderr
    assert await count(db, "dead_letter") == 2


async def test_errors_are_one_line(cli: Cli, pgq: PgQueue, broken: UUID) -> None:
    waiting = await pgq.enqueue_by_name("work")
    unknown = uuid4()

    assert (await cli("show", unknown))[::2] == (1, f"pgqueue: there is no job {unknown}\n")
    code, _, stderr = await cli("redrive", waiting.id)
    assert (code, stderr) == (
        1,
        f"pgqueue: job {waiting.id} is not a dead letter: its status is pending, not failed\n",
    )
    assert "invalid cursor 'x'" in (await cli("list", "--cursor=x"))[2]
    assert "rate must be from 0.0001" in (await cli("redrive", "--all", "--yes", "--rate=0"))[2]
    for wrong in ("7", "{"):
        assert (await cli("redrive", broken, f"--arguments={wrong}"))[0] == 2
    assert (await cli("redrive", "--all", "--yes", "--arguments={}"))[0] == 2


async def test_without_a_database_it_says_what_to_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGQUEUE_DSN", raising=False)

    result = await asyncio.to_thread(CliRunner().invoke, app, ["dead", "list"])

    assert result.exit_code == 2
    assert "--dsn" in result.stderr
