"""`pgqueue limits`: what it lists and shows, and what it changes."""

from __future__ import annotations

import pytest
from kit.command_line import Cli

from pgqueue import PgQueue

pytestmark = pytest.mark.contract("P3.13")

HOSTILE = "\x1b[2J[bold]\u202eno\r"


@pytest.fixture
def cli(dsn: str) -> Cli:
    return Cli(dsn, "limits")


async def test_limits_are_listed_shown_changed_and_reset(pgq: PgQueue, cli: Cli) -> None:
    tenant = pgq.limit("tenant", slots=1)

    @pgq.task(limits=[tenant.by("name")])
    async def work(name: str) -> None: ...

    jobs = [str((await work.enqueue(name)).id) for name in (HOSTILE, HOSTILE, HOSTILE, "b", "c", "c")]

    [listed] = (await cli.json("list"))["limits"]
    assert (listed["name"], listed["slots"], listed["in_use"], listed["waiting"]) == ("tenant", 1, 3, 3)
    shown = await cli.json("show", "tenant", "--limit=2")
    assert [(each["key"], each["waiting"]) for each in shown["busy"]] == [(HOSTILE, 2), ("c", 1)]
    more = await cli.json("show", "tenant", f"--cursor={shown['cursor']}")
    assert {each["key"] for each in [*shown["keys"], *more["keys"]]} == {HOSTILE, "b", "c"}
    one = await cli.json("show", "tenant", f"--key={HOSTILE}")
    assert (one["holders"], one["first_waiting"]) == (jobs[:1], jobs[1:3])
    for arguments in (["list"], ["show", "tenant"], ["show", "tenant", f"--key={HOSTILE}"]):
        code, text, _ = await cli(*arguments)
        assert code == 0
        assert "\x1b[2J" not in text
        assert "\u202e" not in text
        assert "tenant" in text

    changed = await cli.json("set", "tenant", "5", "--reason=a hurry", "--actor=ann")
    assert (changed["slots"], changed["declared"], changed["actor"]) == (5, 1, "ann")
    assert (await cli.json("set", "tenant", "any"))["slots"] is None
    paced = await cli.json("set", "tenant", "--rate=30", "--per=60", "--burst=2")
    assert (paced["kind"], paced["rate"], paced["burst"]) == ("rate", 0.5, 2)
    assert await cli.json("reset", "tenant") == {"limit": "tenant", "changed": True}
    assert await cli.json("reset", "tenant") == {"limit": "tenant", "changed": False}
    assert (await cli.json("list"))["limits"][0]["slots"] == 1


async def test_the_weights_of_a_fair_queue_are_changed_and_shown(pgq: PgQueue, cli: Cli) -> None:
    pgq.queue("mail", fair_by="name")

    @pgq.task(queue="mail")
    async def send(name: str) -> None: ...

    await send.enqueue(HOSTILE)
    weighed = {"queue": "mail", "key": HOSTILE, "weight": 3.0}
    assert (await cli.json("weight", "mail", HOSTILE, "3", "--actor=ann")).items() >= weighed.items()
    assert (await cli.json("show", "fair/mail"))["weights"] == {HOSTILE: 3.0}
    code, text, _ = await cli("show", "fair/mail")
    assert (code, "3 of key" in text, "\x1b[2J" in text) == (0, True, False)
    assert (await cli.json("weight", "mail", HOSTILE, "default"))["weight"] is None
    assert await pgq.weights("mail") == {}


async def test_what_cannot_be_done_with_a_limit_is_said_in_one_line(cli: Cli) -> None:
    for arguments, status in [
        (["show", "none"], 1),
        (["reset", "none"], 1),
        (["set", "one", "0"], 1),
        (["set", "one", "many"], 2),
        (["set", "one"], 2),
        (["set", "one", "3", "--rate=2"], 2),
        (["set", "one", "--rate=0"], 1),
        (["show", "none", "--cursor=x"], 1),
        (["list", "--limit=0"], 1),
        (["weight", "mail", "a", "0"], 1),
        (["weight", "mail", "a", "nan"], 1),
        (["weight", "mail", "a", "much"], 2),
    ]:
        code, _, error = await cli(*arguments)
        assert code == status, arguments
        assert "Traceback" not in error
    assert (await cli.json("list"))["limits"] == []
