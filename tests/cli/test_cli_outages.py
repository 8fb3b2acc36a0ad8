"""Each command, while the database is away, or goes away at a message: a sentence, and exit code 1."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from typing import Final
from uuid import uuid4

import pytest
from kit.command_line import Cli
from kit.cutting import CuttingProxy, cutting_proxy
from kit.generated import load_generator

from pgqueue import PgQueue, group
from pgqueue.cli import app

pytestmark = pytest.mark.contract("F6")

COMMANDS: Final = [
    name.removeprefix("pgqueue ") for name, _ in load_generator("cli").commands(app, "pgqueue")
]
OTHERS: Final = {"version", "roles", "worker", "web", "demo", "monitoring alerts", "monitoring dashboard"}
"""Commands that ask no database, or that go on while it is away."""
ARGUMENTS: Final[Mapping[str, str]] = {
    "enqueue": "work",
    "job": "{job}",
    "cancel": "{job}",
    "requeue": "--all --yes",
    "run-now": "{job}",
    "signal": "{job} paid",
    "queues purge": "none --yes",
    "pause": "default",
    "resume": "default",
    "top": "--once",
    "queues remove": "none",
    "dead show": "{job}",
    "dead redrive": "--task=none --yes",
    "dead progress": "{unknown}",
    "dead stop": "{unknown}",
    "dead discard": "--task=none --yes",
    "workflow show": "{workflow}",
    "workflow graph": "{workflow}",
    "workflow cancel": "{workflow}",
    "workflow retry": "{workflow}",
    "workflow pause": "{workflow}",
    "workflow resume": "{workflow}",
    "schedules show": "tick",
    "schedules create": "other work --every=60",
    "schedules edit": "tick --every=30",
    "schedules pause": "tick",
    "schedules resume": "tick",
    "schedules run": "tick",
    "schedules delete": "tick --yes",
    "limits show": "mail",
    "limits set": "mail 3",
    "limits reset": "mail",
    "limits weight": "mail key 2",
    "ordered resume": "lines key",
    "ordered set": "lines skip",
}
"""What a command has to be told, where it has to."""
AWAY: Final = re.compile(r"pgqueue: the database (?:is unavailable|did not answer).+; check that .+\n")


@pytest.fixture
async def proxy(pgq: PgQueue, dsn: str) -> AsyncIterator[CuttingProxy]:
    async with cutting_proxy(dsn) as away:
        yield away


@pytest.fixture
async def known(pgq: PgQueue) -> dict[str, object]:
    """Names of what there is."""
    job = await pgq.enqueue_by_name("work")
    flow = await pgq.enqueue_workflow(group(pgq.signature("work"), pgq.signature("work")))
    await pgq.schedules.create("tick", pgq.signature("work"), every=3600)
    await pgq.set_limit("mail", slots=2)
    return {"job": job.id, "workflow": flow.workflow_id, "unknown": uuid4()}


async def test_every_command_that_asks_the_database_is_tried() -> None:
    assert {*COMMANDS} >= ARGUMENTS.keys() | OTHERS


async def test_a_command_says_that_the_database_is_away_wherever_it_goes(
    proxy: CuttingProxy, known: Mapping[str, object]
) -> None:
    wrong: dict[str, object] = {}

    async def is_told(command: str, *, within: float) -> bool:
        """Run a command that waits so long; return whether it says that the database is away."""
        *groups, name = command.split()
        given = ARGUMENTS.get(command, "").format_map(known).split()
        code, stdout, stderr = await Cli(f"{proxy.dsn}&connect_timeout={within}", *groups)(name, *given)
        if stderr and not (code and re.fullmatch(r"pgqueue: .+\n", stderr)):
            wrong[command] = (code, stdout, stderr)
        assert code != 2, stderr
        return code == 1 and stdout == "" and AWAY.fullmatch(stderr) is not None

    for command in sorted({*COMMANDS} - OTHERS):
        before = proxy.seen
        assert not await is_told(command, within=30), command
        messages = proxy.seen - before
        proxy.go_away(3, is_sent=False)
        # So long that three messages come by on any machine.
        assert await is_told(command, within=2), command
        assert proxy.come_back()
        # At the statement itself, perhaps, or at what is said after it: then it is done.
        proxy.go_away(messages // 2 + len(command) % (messages // 2), is_sent=True)
        await is_told(command, within=0.5)
        proxy.is_away = True
        assert await is_told(command, within=0.2), command
        proxy.come_back()

    assert wrong == {}
