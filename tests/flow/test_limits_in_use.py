"""What operators see of limits, and what they change."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from kit.scene import allow
from kit.web_client import client_of
from pydantic import SecretStr

from pgqueue import InvalidFilterError, InvalidOptionError, LimitNotFoundError, PgQueue
from pgqueue.store import limits as statements
from pgqueue.web import status_app

if TYPE_CHECKING:
    from conftest import Connection

pytestmark = pytest.mark.contract("P3.13")


@pytest.fixture
async def tenants(pgq: PgQueue) -> dict[str, list[str]]:
    """Jobs of three tenants, two of whom wait behind one slot each."""
    tenant = pgq.limit("tenant", slots=1)

    @pgq.task(limits=[tenant.by("name")])
    async def work(name: str) -> None: ...

    return {
        name: [str((await work.enqueue(name)).id) for _ in range(many)]
        for name, many in (("a", 3), ("b", 1), ("c", 2))
    }


async def test_a_limit_shows_what_is_in_use_what_waits_and_since_when(
    pgq: PgQueue, tenants: dict[str, list[str]]
) -> None:
    [found] = await pgq.limits()
    assert (found.name, found.slots, found.declared, found.in_use, found.waiting) == ("tenant", 1, 1, 3, 3)
    assert found.is_exact
    assert found.waits_since is not None
    assert found.edited_at is None
    assert await pgq.get_limit("tenant") == found
    assert await pgq.limits(after="tenant") == []

    busy = await pgq.busy_limit_keys("tenant")
    assert [(each.key, each.in_use, each.waiting) for each in busy] == [("a", 1, 2), ("c", 1, 1)]
    assert busy[0].waits_since == found.waits_since
    at = await pgq.limit_jobs("tenant", "a")
    assert [[str(each)] for each in at.holders] == [tenants["a"][:1]]
    assert [str(each) for each in at.waiting] == tenants["a"][1:]


async def test_the_keys_of_a_limit_are_read_by_page_each_once(pgq: PgQueue, tenants: object) -> None:
    cursor, pages = None, []
    while True:
        page = await pgq.limit_keys("tenant", limit=2, cursor=cursor)
        pages.append({each.key: each.waiting for each in page.keys})
        cursor = page.cursor
        if cursor is None:
            break
    assert [len(each) for each in pages] == [2, 1]
    assert pages[0] | pages[1] == {"a": 2, "b": 0, "c": 1}
    [one] = (await pgq.limit_keys("tenant", key="c")).keys
    assert (one.key, one.waiting) == ("c", 1)
    assert (await pgq.limit_keys("tenant", key="none")).keys == []
    assert (await pgq.limit_keys("other")).keys == []
    with pytest.raises(InvalidFilterError):
        await pgq.limit_keys("tenant", cursor="no")


async def test_jobs_in_a_paused_queue_are_not_held_back_by_their_limit(pgq: PgQueue, tenants: object) -> None:
    await pgq.pause(queue="default")
    [found] = await pgq.limits()
    assert found.waiting >= 3
    assert found.waits_since is None


async def test_what_is_too_much_to_count_is_estimated(pgq: PgQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements, "MOST_KEYS", 1)
    tenant = pgq.limit("tenant", slots=1)

    @pgq.task(limits=[tenant.by("name")])
    async def work(name: str) -> None: ...

    @pgq.task(name="line", ordered_by="name")
    async def line(name: str) -> None: ...

    # Of a limit, 20 keys are looked at in any case.
    await pgq.enqueue_many([work.s(str(number % 30)) for number in range(90)])
    [found] = await pgq.limits()
    assert (found.is_exact, found.in_use, found.waiting) == (False, 30, 60)
    assert found.waits_since is not None

    await pgq.enqueue_many([line.s(str(number % 30)) for number in range(60)])
    [group] = await pgq.ordered_groups()
    assert (group.name, group.is_exact, group.waiting, group.stopped) == ("line", False, 30, 0)


async def test_an_operator_changes_a_limit_and_returns_it_to_what_code_declared(
    pgq: PgQueue, tenants: dict[str, list[str]]
) -> None:
    await pgq.set_limit("tenant", slots=None, actor="ann", reason="a hurry")
    changed = await pgq.get_limit("tenant")
    assert (changed.slots, changed.declared, changed.actor, changed.reason) == (None, 1, "ann", "a hurry")
    assert changed.edited_at is not None

    assert await pgq.reset_limit("tenant", actor="bob") is True
    again = await pgq.get_limit("tenant")
    assert (again.slots, again.edited_at, again.actor, again.reason) == (1, None, "bob", None)
    assert await pgq.reset_limit("tenant") is False

    # What was set before code declared it keeps its slots, and what code says is kept beside them.
    await pgq.set_limit("early", slots=7)
    early = pgq.limit("early", slots=2)

    @pgq.task(limits=[early])
    async def later() -> None: ...

    await later.enqueue()
    found = await pgq.get_limit("early")
    assert (found.slots, found.declared) == (7, 2)
    await pgq.reset_limit("early")
    assert (await pgq.get_limit("early")).slots == 2

    # One that no code has declared goes.
    await pgq.set_limit("gone", slots=7)
    assert await pgq.reset_limit("gone") is True
    for what in (pgq.get_limit("gone"), pgq.reset_limit("gone"), pgq.get_limit(uuid4().hex)):
        with pytest.raises(LimitNotFoundError):
            await what


@pytest.mark.parametrize("name", ["", "a\0b", "\ud800", "x" * 301, None, 3])
async def test_a_limit_that_cannot_be_is_refused_at_the_call(pgq: PgQueue, name: str) -> None:
    for what in (
        pgq.get_limit(name), pgq.limit_keys(name), pgq.busy_limit_keys(name), pgq.limit_jobs(name),
        pgq.reset_limit(name), pgq.set_limit(name, slots=3), pgq.limit_jobs("one", "x" * 513),
        pgq.limits(limit=0), pgq.limit_keys("one", key="\0"),
    ):  # fmt: skip
        with pytest.raises(InvalidOptionError):
            await what


SECRET = "hunter2-hunter2"
KEYS: dict[str, str | Callable[..., object]] = {
    "an argument": "token",
    "a function of it": lambda token, **_: token,
    "a part of an argument": lambda user, **_: user["password"],
    "an argument with a part that is": "user",
    "an argument that its type says is": "typed",
    "a function that needs it as it is": lambda token, **_: token.split("-")[1],
}


@pytest.mark.contract("P3.13", "P5.10", "P8.4")
@pytest.mark.parametrize("key", KEYS.values(), ids=list(KEYS))
async def test_a_key_made_of_what_is_redacted_is_a_digest_everywhere(
    pgq: PgQueue, db: Connection, caplog: pytest.LogCaptureFixture, key: str | Callable[..., object]
) -> None:
    caplog.set_level(logging.DEBUG)
    pgq.queue("shared", fair_by=key)

    @pgq.task(
        queue="shared",
        redact=["token", "user.password"],
        limits=[pgq.limit("one", slots=1).by(key), pgq.limit("tenant", slots=9).by("tenant")],
        ordered_by=key,
    )
    async def work(token: str, user: dict[str, str], typed: SecretStr, tenant: str) -> None: ...

    def call(secret: str) -> tuple[str, dict[str, str], SecretStr, str]:
        return secret, {"password": secret}, SecretStr(secret), "plain"

    for secret in (SECRET, SECRET, "other-other"):
        await work.enqueue(*call(secret))
    await pgq.schedules.create("nightly", work.s(*call(SECRET)), every=3600)

    keys = {
        each.name: sorted(each.key for each in (await pgq.limit_keys(each.name)).keys)
        for each in await pgq.limits()
    }
    assert len(keys["one"]) == len(keys["fair/shared"]) == 2
    assert all(each.startswith("redacted-") for each in (*keys["one"], *keys["fair/shared"]))
    assert keys["tenant"] == ["plain"]
    assert not set(keys["one"]) & set(keys["fair/shared"])
    [line, _] = (await pgq.limit_keys("order/work")).keys
    assert line.key.startswith("redacted-")
    for table in ("gate", "blocked", "gate_pass", "limit_rule", "note", "window_lane"):
        assert SECRET not in str(await db.fetch(f"select * from pgqueue.{table}"))
    assert SECRET not in await db.fetchval("select template::text from pgqueue.schedule")
    async with client_of(status_app(pgq, authorize=allow)) as client:
        for path in ("/limits/one", "/limits/order/work", "/dashboard/limits/show?name=one", "/jobs"):
            response = await client.get(path)
            assert (response.status_code, SECRET in response.text) == (200, False)
    assert SECRET not in caplog.text
