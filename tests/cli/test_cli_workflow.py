"""`pgqueue workflow`: what it lists, shows and draws, and what it changes."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest
from kit.command_line import Cli
from typer.testing import CliRunner

from pgqueue import PgQueue, Reject, WorkflowHandle, chord
from pgqueue.cli import app

WITHIN = 180.0
HOSTILE = "\x1b[2J[bold]\u202eno\r"


@pytest.fixture
def cli(dsn: str) -> Cli:
    return Cli(dsn, "workflow")


@pytest.fixture
async def broken(pgq: PgQueue) -> WorkflowHandle[int]:
    """A chord of which two members have failed, with a text for terminals."""

    @pgq.task(max_retries=0)
    async def odd(number: int) -> int:
        if number % 2 == 0:
            raise Reject(HOSTILE)
        return number

    @pgq.task
    async def add_up(numbers: list[int]) -> int:
        return sum(numbers)

    handle = await chord([odd.s(each) for each in range(1, 5)], add_up.s()).enqueue()
    async with pgq.worker():
        await handle.join(WITHIN)
    return handle


@pytest.mark.contract("P7.16")
async def test_a_workflow_is_listed_and_shown_with_its_jobs_those_that_failed_first(
    pgq: PgQueue, cli: Cli, broken: WorkflowHandle[int]
) -> None:
    listed = await cli.json("list", "--status=cancelled")
    none = await cli.json("list", "--name=nightly")
    shown = await cli("show", broken.workflow_id)
    document = json.loads((await cli("show", broken.workflow_id, "--json"))[1])
    page = json.loads((await cli("show", broken.workflow_id, "--json", "--limit=2"))[1])

    [found] = listed["workflows"]
    assert found["workflow_id"] == str(broken.workflow_id)
    assert found["counts"]["failed"] == found["counts"]["succeeded"] == 2
    assert none["workflows"] == []
    assert [each["status"] for each in document["jobs"]] == [
        *["failed", "failed"],
        *["succeeded", "succeeded"],
        "cancelled",
    ]
    assert page["jobs"] == document["jobs"][:2]
    assert page["cursor"] is not None
    code, text, _ = shown
    assert code == 1
    assert "2 succeeded, 2 failed, 1 cancelled" in text
    assert not set("\x1b\u202e\r") & set(text)


@pytest.mark.contract("P7.22")
async def test_a_workflow_is_drawn(cli: Cli, broken: WorkflowHandle[int]) -> None:
    starts = {"mermaid": "flowchart LR", "dot": "digraph", "json": "{"}

    for form, start in starts.items():
        code, text, _ = await cli("graph", broken.workflow_id, f"--format={form}")
        assert code == 0
        assert text.startswith(start)
    assert (await cli("graph", broken.workflow_id, "--format=png"))[0] == 2


async def test_a_workflow_is_retried_paused_resumed_and_cancelled(
    pgq: PgQueue, cli: Cli, broken: WorkflowHandle[int]
) -> None:
    retried = await cli.json("retry", broken.workflow_id, "--reason=mended")
    paused = await cli("pause", broken.workflow_id, "--reason=a leak", "--actor=ann")
    was_paused = (await broken.refresh()).paused_at
    resumed = await cli("resume", broken.workflow_id)
    shown = (await cli("show", broken.workflow_id))[1]
    history = (await cli.json("show", broken.workflow_id))["actions"]
    cancelled = await cli.json("cancel", broken.workflow_id)
    again = await cli.json("cancel", broken.workflow_id)

    assert (retried["redriven"], cancelled["cancelled"], again["cancelled"]) == (2, 3, 0)
    assert retried["workflow"]["workflow_id"] == str(broken.workflow_id)
    assert (paused[:2], resumed[:2]) == ((0, "paused\n"), (0, "resumed\n"))
    assert was_paused is not None
    assert "paused by ann: a leak" in shown
    assert [(each["action"], each["reason"]) for each in history] == [("paused", "a leak"), ("resumed", None)]
    assert (await broken.refresh()).paused_at is None
    for verb in ("show", "graph", "cancel", "retry", "pause", "resume"):
        code, _, error = await cli(verb, missing := uuid4())
        assert (code, str(missing) in error) == (1, True), verb


def test_every_command_says_what_it_does() -> None:
    shown = CliRunner().invoke(app, ["workflow", "--help"])

    assert {"list", "show", "graph", "cancel", "retry", "pause", "resume"} <= set(shown.stdout.split())
