"""Ordered groups over HTTP, on the command line and in the dashboard: stopped keys go on when told."""

from __future__ import annotations

from uuid import UUID

import anyio
import pytest
from kit.command_line import Cli
from kit.scene import MARKUP, allow
from kit.web_client import client_of

from pgqueue import PgQueue
from pgqueue.web import status_app

OWN_PAGE = {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}

pytestmark = pytest.mark.contract("P5.10")


@pytest.fixture
async def stopped(pgq: PgQueue) -> tuple[UUID, UUID]:
    """The job that has stopped a key, and one that waits behind it."""

    @pgq.task(name="book", ordered_by="account", on_dead="halt", max_retries=0)
    async def book(account: str) -> None:
        raise ValueError(account)

    first = await book.enqueue(MARKUP)
    async with pgq.worker():
        with anyio.fail_after(60):
            await pgq.wait(first.id)
    return UUID(str(first.id)), UUID(str((await book.enqueue(MARKUP)).id))


async def test_a_key_that_stands_still_is_shown_and_goes_on_over_http(
    pgq: PgQueue, stopped: tuple[UUID, UUID]
) -> None:
    failed, behind = stopped
    waits = await pgq.explain_wait(behind)
    assert waits is not None
    assert (waits.kind, waits.job_id) == ("order", failed)
    assert waits.text == (
        f"It waits for its turn in ordered group book, key {MARKUP!r}: job {failed} has stopped it. "
        "It goes on when the key is resumed."
    )
    async with client_of(status_app(pgq, authorize=allow), headers=OWN_PAGE) as client:
        [group] = (await client.get("/ordered-groups")).json()["groups"]
        assert (group["name"], group["on_dead"], group["halted"]) == ("book", "halt", 1)
        [key] = (await client.get("/ordered-groups/stopped?name=book")).json()["keys"]
        assert (key["key"], key["job_id"], key["waiting"]) == (MARKUP, str(failed), 1)
        body = {"name": "book", "key": MARKUP, "reason": "by hand"}
        assert [(await client.post("/ordered-groups/resume", json=body)).json()["changed"] for _ in "ab"] == [
            True,
            False,
        ]
        changed = await client.put("/ordered-groups", json={"name": "book", "on_dead": "skip"})
        assert changed.json()["on_dead"] == "skip"
        for bad in ({}, {"name": "book", "on_dead": "no"}, {"name": "", "on_dead": "skip"}):
            assert (await client.put("/ordered-groups", json=bad)).status_code == 422
    assert await pgq.stopped_keys() == []


async def test_a_key_that_stands_still_is_shown_and_goes_on_in_the_dashboard(
    pgq: PgQueue, stopped: tuple[UUID, UUID]
) -> None:
    async with client_of(status_app(pgq, authorize=allow), headers=OWN_PAGE) as client:
        page = (await client.get("/dashboard/limits/ordered")).text
        assert str(stopped[0]) in page
        assert MARKUP not in page
        for path in ("/limits/show?name=order/book", f"/jobs/{stopped[1]}"):
            response = await client.get(f"/dashboard{path}")
            assert response.status_code == 200
            assert MARKUP not in response.text
        params = {"name": "book", "key": MARKUP}
        done = await client.post("/dashboard/limits/ordered/resume", params=params, data={"why": "by hand"})
        assert done.headers["location"].endswith("done=key_resumed")
        assert "None." in (await client.get(done.headers["location"])).text
    assert await pgq.stopped_keys() == []


async def test_a_key_that_stands_still_is_shown_and_goes_on_on_the_command_line(
    pgq: PgQueue, dsn: str, stopped: tuple[UUID, UUID]
) -> None:
    cli = Cli(dsn, "ordered")
    [group] = (await cli.json("list"))["groups"]
    assert group["stopped"] == 1
    [key] = (await cli.json("stopped", "book"))["keys"]
    for arguments in (["list"], ["stopped"]):
        code, text, _ = await cli(*arguments)
        assert (code, "book" in text) == (0, True)
    assert (await cli.json("resume", "book", key["key"]))["changed"] is True
    assert (await cli.json("set", "book", "skip"))["on_dead"] == "skip"
    assert (await cli("set", "book", "no"))[0] == 1
    assert (await cli.json("stopped"))["keys"] == []
