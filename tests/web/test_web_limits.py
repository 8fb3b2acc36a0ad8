"""Limits over HTTP and in the dashboard: listed, shown, changed and reset by those who may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import httpx
import pytest
from kit.command_line import Cli
from kit.scene import MARKUP, allow
from kit.waiting import eventually
from kit.web_client import client_of

from pgqueue import JobFilter, PgQueue, Rate
from pgqueue.web import status_app

if TYPE_CHECKING:
    from conftest import Connection

OWN_PAGE = {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}
QUEUE = f"a/show?{MARKUP}\n"
NAME = f"queue/{QUEUE}"
PATH = f"/limits/{quote(NAME, safe='')}"

pytestmark = pytest.mark.contract("P3.13")


@pytest.fixture
async def jobs(pgq: PgQueue) -> list[str]:
    """Jobs of a queue with one slot, and of tenants with one each."""
    tenant = pgq.limit("tenant", slots=1)
    pgq.queue(QUEUE, slots=1)

    @pgq.task(queue=QUEUE)
    async def slow() -> None: ...

    @pgq.task(limits=[tenant.by("name")])
    async def work(name: str) -> None: ...

    for _ in range(3):
        await work.enqueue(MARKUP)
    return [str((await slow.enqueue()).id) for _ in range(3)]


@pytest.fixture
async def client(pgq: PgQueue) -> AsyncIterator[httpx.AsyncClient]:
    app = status_app(pgq, authorize=allow, actor=lambda _: "ann")
    async with client_of(app, headers=OWN_PAGE) as client:
        yield client


async def ask(client: httpx.AsyncClient, method: str, path: str, status: int = 200, **body: Any) -> Any:
    content: dict[str, Any] = {"json": body} if method == "PUT" else {}
    response = await client.request(method, path, **content)
    assert response.status_code == status, response.text
    return response.json() if response.content else None


async def test_limits_are_listed_shown_changed_and_reset_over_http(
    client: httpx.AsyncClient, jobs: list[str]
) -> None:
    first = await ask(client, "GET", "/limits?limit=1")
    assert [each["name"] for each in first["limits"]] == [NAME]
    second = await ask(client, "GET", first["next"])
    assert [(each["name"], each["waiting"]) for each in second["limits"]] == [("tenant", 2)]

    shown = await ask(client, "GET", PATH)
    assert (shown["slots"], shown["in_use"], shown["waiting"], shown["is_exact"]) == (1, 1, 2, True)
    assert [(each["key"], each["waiting"]) for each in shown["keys"]] == [("", 2)]
    assert (shown["busy"], shown["holders"]) == (shown["keys"], None)
    shown = await ask(client, "GET", f"{PATH}?key=")
    assert (shown["holders"], shown["first_waiting"]) == (jobs[:1], jobs[1:])

    changed = await ask(client, "PUT", PATH, slots=2, reason="a hurry")
    assert (changed["slots"], changed["declared"], changed["actor"], changed["reason"]) == (
        2,
        1,
        "ann",
        "a hurry",
    )
    assert changed["edited_at"] is not None
    assert (await ask(client, "PUT", PATH, slots=None))["slots"] is None
    paced = await ask(client, "PUT", PATH, rate={"count": 30, "per": 60, "burst": 2})
    assert (paced["kind"], paced["rate"], paced["burst"]) == ("rate", 0.5, 2)
    await ask(client, "DELETE", PATH, 204)
    assert (await ask(client, "GET", PATH))["slots"] == 1
    await ask(client, "DELETE", "/limits/none", 404)
    await ask(client, "GET", "/limits/none", 404)
    for body in (
        {},
        {"slots": 1, "rate": None},
        {"rate": {"count": 0}},
        {"slots": 0},
        {"slots": True},
        {"slots": 2**40},
        {"slots": 1, "x": 1},
    ):
        await ask(client, "PUT", PATH, 422, **body)
    for query in ("?cursor=x", "?limit=0", "?key=%00", "?x=1"):
        await ask(client, "GET", f"{PATH}{query}", 422)


@pytest.fixture
async def shared(pgq: PgQueue) -> str:
    """The name of the limit of a queue that keys share, whose key is hostile."""
    pgq.queue("shared/a", fair_by="name")

    @pgq.task(queue="shared/a")
    async def serve(name: str) -> None: ...

    await serve.enqueue(MARKUP)
    return "fair/shared/a"


@pytest.mark.contract("P8.4")
async def test_the_weights_of_a_fair_queue_are_seen_and_changed(
    pgq: PgQueue, client: httpx.AsyncClient, shared: str, jobs: list[str]
) -> None:
    path = f"/limits/{quote(shared, safe='')}"

    assert (await ask(client, "PUT", path, key=MARKUP, weight=2.5))["kind"] == "window"
    assert (await ask(client, "GET", path))["weights"] == {MARKUP: 2.5}
    assert await pgq.weights("shared/a") == {MARKUP: 2.5}
    assert "2.5" in await page_at(client, "/limits/show", name=shared)
    assert "weight 2.5" in await page_at(client, "/limits/key", name=shared, key=MARKUP)
    assert (await ask(client, "GET", "/limits/tenant"))["weights"] == {}

    form = f"/dashboard/limits/weight?{urlencode({'name': shared, 'key': MARKUP})}"
    done = await client.post(form, data={"weight": "0.5"})
    assert done.headers["location"].endswith("done=weight_changed")
    assert (await client.get(done.headers["location"])).status_code == 200
    assert await pgq.weights("shared/a") == {MARKUP: 0.5}
    await ask(client, "PUT", path, key=MARKUP, weight=None)
    assert await pgq.weights("shared/a") == {}
    await client.post(form, data={"weight": "3"})
    assert (await client.post(form, data={"default": "1", "weight": "3"})).status_code == 303
    assert await pgq.weights("shared/a") == {}

    wrong: list[dict[str, Any]] = [
        {"weight": 3},
        {"key": "a"},
        {"key": "a", "weight": 3, "slots": 1},
        {"key": "a", "weight": 3, "reason": "x"},
        *({"key": "a", "weight": each} for each in (0, -1, 1001, "3", True)),
    ]
    for body in wrong:
        await ask(client, "PUT", path, 422, **body)
    await ask(client, "PUT", "/limits/tenant", 422, key="a", weight=3)
    for given in ("", "x", "nan", "inf", "0", "-1", "1001"):
        assert (await client.post(form, data={"weight": given})).status_code == 422
    of_another = await client.post("/dashboard/limits/weight?name=tenant&key=a", data={"weight": "3"})
    assert of_another.status_code == 422
    assert await pgq.weights("shared/a") == {}


async def page_at(client: httpx.AsyncClient, path: str, **query: str) -> str:
    response = await client.get(f"/dashboard{path}", params=query)
    assert response.status_code == 200, response.text
    assert MARKUP not in response.text
    return response.text


async def test_limits_are_looked_at_and_changed_in_the_dashboard(
    pgq: PgQueue, client: httpx.AsyncClient, jobs: list[str]
) -> None:
    assert "No limits yet" not in await page_at(client, "/limits")
    page = await page_at(client, "/limits/show", name=NAME)
    assert "1 at once" in page
    assert "Reset" not in page
    page = await page_at(client, "/limits/key", name=NAME, key="")
    assert all(f"/jobs/{each}" in page for each in jobs)
    page = await page_at(client, "/limits/key", name="tenant", key=MARKUP)
    assert "2 waiting" in page
    assert "None." in await page_at(client, "/limits/key", name="tenant", key="none")

    async def send(what: str, status: int = 303, **fields: str) -> str:
        path = f"/dashboard/limits/{what}?{urlencode({'name': NAME})}"
        response = await client.post(path, data=fields)
        assert response.status_code == status, response.text
        address = response.headers.get("location", "")
        assert not address or (await client.get(address)).status_code == 200
        return str(address.rpartition("done=")[2])

    assert await send("set", slots="4", why="a hurry") == "limit_changed"
    assert (await pgq.get_limit(NAME)).slots == 4
    assert "a hurry" in await page_at(client, "/limits/show", name=NAME)
    assert await send("set", slots="", any="1") == "limit_changed"
    assert (await pgq.get_limit(NAME)).slots is None
    for fields in ({"slots": "0"}, {"slots": "x"}, {}, {"slots": "3", "why": "x" * 501}):
        await send("set", 422, **fields)
    await pgq.set_limit(NAME, rate=Rate(2))
    assert "per second" in await page_at(client, "/limits/show", name=NAME)
    assert await send("set", count="0.5", burst="3") == "limit_changed"
    assert ((await pgq.get_limit(NAME)).rate, (await pgq.get_limit(NAME)).burst) == (0.5, 3)
    for fields in ({"count": "x"}, {"count": "0"}, {"count": "nan"}, {"count": "1", "burst": "0"}):
        await send("set", 422, **fields)
    assert await send("reset") == "limit_reset"
    assert await send("reset") == "nothing"
    assert (await pgq.get_limit(NAME)).slots == 1
    await pgq.set_limit("gone", slots=1)
    response = await client.post("/dashboard/limits/reset?name=gone")
    assert response.headers["location"].endswith("/limits?done=limit_removed")
    assert (await client.get("/dashboard/limits/show?name=gone")).status_code == 404


async def test_who_may_only_read_changes_no_limit(pgq: PgQueue, jobs: object) -> None:
    asked: list[tuple[str, str]] = []

    def reads_only(_: object, action: str, resource: str) -> bool:
        asked.append((action, resource))
        return action == "read"

    async with client_of(status_app(pgq, authorize=reads_only), headers=OWN_PAGE) as client:
        await ask(client, "GET", "/limits/tenant")
        await ask(client, "PUT", "/limits/tenant", 403, slots=3)
        await ask(client, "DELETE", "/limits/tenant", 403)
        for what in ("set", "reset", "weight"):
            response = await client.post(f"/dashboard/limits/{what}?name=tenant", data={"slots": "3"})
            assert response.status_code == 403
    assert set(asked) == {("read", "limit:tenant"), ("configure", "limit:tenant")}
    assert (await pgq.get_limit("tenant")).edited_at is None


@pytest.mark.contract("P8.3")
async def test_who_holds_a_limiter_and_who_waits_is_seen_wherever_limits_are(
    pgq: PgQueue, db: Connection, dsn: str, client: httpx.AsyncClient
) -> None:
    is_open = asyncio.Event()
    assert await pgq.limiters() == []
    assert "No running job" in await page_at(client, "/limits/limiters")

    @pgq.task
    async def hold() -> None:
        async with pgq.mutex(MARKUP):
            await is_open.wait()

    @pgq.task
    async def count(number: int) -> None:
        async with pgq.window("api", limit=1, per=3600):
            await is_open.wait()

    async def are_held(held: int, waiting: int) -> bool:
        found = await pgq.limiters()
        return (sum(each.held for each in found), sum(each.waiting for each in found)) == (held, waiting)

    async with pgq.worker():
        first = await hold.enqueue()
        await eventually(lambda: are_held(1, 0))
        waits = await hold.enqueue()
        await eventually(lambda: are_held(1, 1))
        await pgq.enqueue_many([count.s(number) for number in range(3)])
        await eventually(lambda: are_held(1, 3))

        [window, mutex] = (await ask(client, "GET", "/limiters"))["limiters"]
        assert (mutex["kind"], mutex["name"], mutex["held"], mutex["waiting"]) == ("slots", MARKUP, 1, 1)
        assert (mutex["holders"], mutex["waiters"]) == ([str(first.id)], [str(waits.id)])
        assert (window["kind"], window["held"], window["waiting"], window["is_exact"]) == (
            "window",
            0,
            2,
            True,
        )
        assert len((await ask(client, "GET", "/limiters?limit=1"))["limiters"]) == 1
        await ask(client, "GET", "/limiters?limit=0", 422)
        page = await page_at(client, "/limits/limiters")
        assert f"/jobs/{first.id}" in page
        assert f"/jobs/{waits.id}" in page
        listed = await Cli(dsn, "limits").json("limiters")
        assert listed["limiters"] == [window, mutex]
        code, text, _ = await Cli(dsn, "limits")("limiters")
        assert (code, "slots" in text) == (0, True)
        metrics = (await client.get("/metrics")).text
        assert 'pgqueue_limiters_held{kind="slots"} 1.0' in metrics
        assert 'pgqueue_limiters_waiting{kind="window"} 2.0' in metrics

        # What an attempt that is over has left there holds nothing.
        await db.execute("update pgqueue.limiter_hold set claimed_at = claimed_at - interval '1 day'")
        assert await pgq.limiters() == []
        await pgq.cancel_many(JobFilter(task=count.name)).__anext__()
        is_open.set()
