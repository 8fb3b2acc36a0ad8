"""`pgqueue schedules`: what it lists and shows, and what it changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from kit.command_line import Cli

from pgqueue import PgQueue

if TYPE_CHECKING:
    from conftest import Connection

pytestmark = pytest.mark.contract("P8.10")

HOSTILE = "\x1b[2J[bold]\u202eno\r"


@pytest.fixture
def cli(dsn: str) -> Cli:
    return Cli(dsn, "schedules")


async def test_a_schedule_is_made_changed_paused_run_and_deleted(pgq: PgQueue, cli: Cli) -> None:
    made = await cli.json("create", "bill", "send", '{"to": 7}', "--every=3600", "--queue=mail")
    edited = await cli.json("edit", "bill", "--cron=0 9 * * 1-5", "--timezone=Europe/Paris", "--reason=early")
    paused = [await cli.json("pause", "bill") for _ in range(2)]
    ran = await cli.json("run", "bill")
    shown = await cli.json("show", "bill")
    resumed = await cli.json("resume", "bill")

    assert (made["every"], made["queue"], made["cron"]) == (3600.0, "mail", None)
    assert (edited["every"], edited["cron"], edited["reason"]) == (None, "0 9 * * 1-5", "early")
    assert edited["words"] == "At 09:00 on Monday through Friday (Europe/Paris)"
    assert [each["changed"] for each in paused] == [True, False]
    assert (resumed["schedule"], resumed["changed"], resumed["paused_at"]) == ("bill", True, None)
    assert shown["paused_at"] is not None
    assert [each["job_id"] for each in shown["ticks"]] == [ran["job_id"]]
    assert (await pgq.get(ran["job_id"])).arguments == {"to": 7}
    assert "arguments" not in shown
    code, text, _ = await cli("show", "bill")
    assert code == 0
    assert "Europe/Paris" in text
    replaced = await cli.json(
        "edit", "bill", "--task=pay", '--arguments={"by": 8}', "--priority=3", "--tick-argument=at"
    )
    assert (replaced["task"], replaced["queue"], replaced["tick_argument"]) == ("pay", "default", "at")
    kept = await cli.json("edit", "bill", "--jitter=0.5", "--task=pay", "--arguments=[9]", "--tick-argument=")
    assert (kept["priority"], kept["tick_argument"], kept["cron"]) == (0, None, "0 9 * * 1-5")
    ran = await cli.json("run", "bill")
    assert (await pgq.get(ran["job_id"])).task == "pay"
    assert (await cli.json("delete", "bill", "--yes"))["changed"] is True
    assert (await cli.json("list"))["schedules"] == []


async def test_what_cannot_be_done_is_said_in_one_line(cli: Cli) -> None:
    for arguments, status in [
        (["show", "none"], 1),
        (["run", "none"], 1),
        (["create", "x", "send", "--every=0"], 1),
        (["create", "x", "send", "--cron=0 0 30 2 *"], 1),
        (["create", "x", "send", "--every=5", "--overlap=no"], 1),
        (["create", "x", "send", "7", "--every=5"], 2),
        (["edit", "none"], 2),
        *(
            (["edit", "none", "--every=5", each], 2)
            for each in ("--arguments=[]", "--queue=a", "--priority=1")
        ),
        (["edit", "none", "--tick-argument=at"], 2),
        (["edit", "none", "--task=send", "--arguments=7"], 2),
        (["edit", "none", "--task=send"], 1),
    ]:
        code, text, said = await cli(*arguments)
        assert (code, text) == (status, ""), arguments
        assert "Traceback" not in said
    assert (await cli.json("list"))["schedules"] == []


async def test_hostile_rows_are_listed_and_shown(pgq: PgQueue, db: Connection, cli: Cli) -> None:
    await pgq.schedules.create(HOSTILE, pgq.signature("work"), every=60)
    await db.execute(
        "update pgqueue.schedule set task = $1, error = $1, every = 'NaN', template = '7'", HOSTILE
    )

    for command in (["list"], ["show", HOSTILE]):
        code, text, _ = await cli(*command)
        assert code == 0
        assert not set("\x1b\u202e\r") & set(text)
    [found] = (await cli.json("list"))["schedules"]
    assert (found["name"], found["every"]) == (HOSTILE, None)
