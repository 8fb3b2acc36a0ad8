"""Schedules over HTTP: listed, shown, made, changed, paused, run and removed by those who may."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import pytest
from asyncpg import IntegrityConstraintViolationError
from kit.roles import roles_of
from kit.web_client import client_of
from pydantic import SecretStr
from starlette.requests import Request

from pgqueue import PgQueue
from pgqueue.web import status_app

if TYPE_CHECKING:
    from conftest import Connection

TOKEN = {"Authorization": "Bearer a-secret-for-tests"}
NAME = "reports/every day?\n"
PATH = f"/schedules/{quote(NAME, safe='')}"
PAGES = ("", "/show?name=n", "/edit?name=n")

pytestmark = pytest.mark.contract("P8.10")


@pytest.fixture
async def client(pgq: PgQueue) -> AsyncIterator[httpx.AsyncClient]:
    """A client that may do everything, to an app that declares one task."""

    @pgq.task(name="report", queue="reports")
    async def report(day: int, tick: datetime | None = None, password: SecretStr | None = None) -> None: ...

    app = status_app(
        pgq,
        token="a-secret-for-tests",
        actor=lambda request: request.headers.get("x-user", ""),
        job_headers=lambda _: {"via": "http"},
    )
    async with client_of(app, headers={**TOKEN, "X-User": "ann"}) as client:
        yield client


async def ask(client: httpx.AsyncClient, method: str, path: str, status: int = 200, **body: Any) -> Any:
    content: dict[str, Any] = {} if method in ("GET", "DELETE") else {"json": body}
    response = await client.request(method, path, **content)
    assert response.status_code == status, response.text
    if status >= 400:
        assert response.headers["content-type"] == "application/problem+json"
    return response.json() if response.content else None


async def test_a_schedule_is_made_shown_changed_paused_run_and_removed(
    pgq: PgQueue, client: httpx.AsyncClient
) -> None:
    made = await client.post(
        "/schedules",
        json={
            "name": NAME,
            "task": "report",
            "arguments": {"day": 7},
            "every": 3600,
            "tick_argument": "tick",
            "priority": 3,
            "reason": "asked for",
        },
    )
    assert (made.status_code, made.headers["location"]) == (201, PATH), made.text
    assert {key: made.json()[key] for key in ("name", "queue", "priority", "actor", "reason")} == {
        "name": NAME, "queue": "reports", "priority": 3, "actor": "ann", "reason": "asked for",
    }  # fmt: skip
    assert len(made.json()["next_times"]) == 5

    paused = await ask(client, "POST", f"{PATH}/pause", reason="a leak")
    assert (paused["paused_at"] is None, paused["reason"]) == (False, "a leak")
    run = await ask(client, "POST", f"{PATH}/run")
    job = await pgq.get(run["job_id"])
    assert (run["poll_url"], job.arguments["day"]) == (f"/jobs/{job.id}", 7)
    assert (job.priority, job.headers["via"]) == (3, "http")
    assert (await ask(client, "POST", f"{PATH}/resume"))["paused_at"] is None

    shown = await ask(client, "GET", PATH)
    assert [(each["job_id"], each["outcome"]) for each in shown["ticks"]] == [(str(job.id), "enqueued")]
    assert shown["last_job"] == str(job.id)
    assert "arguments" not in shown
    assert (await ask(client, "GET", f"{PATH}?ticks=0"))["ticks"] == []

    changed = await ask(client, "PATCH", PATH, at="2999-01-01T00:00:00Z", jitter=60)
    assert (changed["every"], changed["at"], changed["jitter"]) == (None, "2999-01-01T00:00:00+00:00", 60)
    assert (changed["tick_argument"], changed["priority"]) == ("tick", 3)
    changed = await ask(client, "PATCH", PATH, task="report", arguments=[8], tick_argument=None)
    assert (changed["tick_argument"], changed["priority"], changed["edited_at"] is None) == (None, 0, False)
    again = await ask(client, "POST", f"{PATH}/run")
    assert (await pgq.get(again["job_id"])).arguments["day"] == 8

    await ask(client, "DELETE", PATH, 204)
    for method, path in (
        *(("GET", PATH), ("PATCH", PATH), ("DELETE", PATH)),
        *(("POST", f"{PATH}/{each}") for each in ("pause", "resume", "run")),
    ):
        gone = await ask(client, method, path, 404)
        assert "there is no schedule" in gone["detail"], (method, path)
    assert (await pgq.get(again["job_id"])).headers["via"] == "http"


async def test_a_tick_that_the_job_before_forbids_makes_no_job(client: httpx.AsyncClient) -> None:
    body = {"name": "n", "task": "report", "arguments": [1], "every": 60, "overlap": "skip"}
    await ask(client, "POST", "/schedules", 201, **body)

    await ask(client, "POST", "/schedules/n/run", reason="a <b>late</b> file")
    [tick] = (await ask(client, "GET", "/schedules/n"))["ticks"]
    assert (tick["outcome"], tick["reason"]) == ("enqueued", "a <b>late</b> file")
    page = (await client.get("/dashboard/schedules/show?name=n")).text
    assert "a &lt;b&gt;late&lt;/b&gt; file" in page

    assert await ask(client, "POST", "/schedules/n/run") == {"job_id": None, "poll_url": None}


async def test_lists_go_by_name_and_link_to_the_next_page(client: httpx.AsyncClient) -> None:
    for name in ("c", "a b", "d&e", "b"):
        body = {"name": name, "task": "report", "arguments": [1], "cron": "0 9 * * 1-5"}
        await ask(client, "POST", "/schedules", 201, **body)

    pages: list[list[str]] = []
    following: str | None = "/schedules?limit=2"
    while following is not None:
        page = await ask(client, "GET", following)
        pages.append([each["name"] for each in page["schedules"]])
        following = page["next"]

    assert pages == [["a b", "b"], ["c", "d&e"]]


async def test_what_cannot_be_is_refused_and_changes_nothing(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    good = {"name": "n", "task": "report", "arguments": [1], "every": 60}
    await ask(client, "POST", "/schedules", 201, **good)
    before = await ask(client, "GET", "/schedules/n")

    taken = await ask(client, "POST", "/schedules", 409, **good)
    assert "exists already" in taken["detail"]
    await ask(client, "GET", "/schedules/n/pause", 404)
    await ask(client, "POST", "/schedules", 201, **{**good, "name": "n/pause"})
    assert (await ask(client, "GET", "/schedules/n/pause"))["name"] == "n/pause"
    await ask(client, "POST", "/schedules/n/pause/pause")
    await ask(client, "DELETE", "/schedules/n/pause", 204)

    new: list[dict[str, Any]] = [
        {"name": ""},
        {"name": "x" * 201},
        {"name": "a\0b"},
        {"task": "unknown"},
        {"task": None},
        {"arguments": ["no number"]},
        {"arguments": {"day": 1, "more": 2}},
        {"arguments": None},
        {"every": None},
        {"every": 0},
        {"every": 1e300},
        {"every": None, "cron": "0 0 30 2 *"},
        {"every": None, "cron": "tomorrow"},
        {"every": None, "at": "2020-01-01T00:00:00Z"},
        {"every": None, "at": "noon"},
        {"cron": "* * * * *"},
        {"timezone": "Mars/Olympus"},
        {"misfire": "never"},
        {"overlap": 7},
        {"jitter": -1},
        {"catch_up": "a day"},
        {"starts_at": "2999-01-01T00:00:00Z", "ends_at": "2998-01-01T00:00:00Z"},
        {"tick_argument": "day"},
        {"tick_argument": "nothing"},
        {"queue": ""},
        {"priority": 10**9},
        {"surplus": 1},
        {"reason": "x" * 10_000},
    ]
    for change in new:
        refused = await ask(client, "POST", "/schedules", 422, **{**good, "name": "other", **change})
        assert refused["status"] == 422, change
    edits: list[dict[str, Any]] = [
        {"arguments": [2]},
        {"queue": "mail"},
        {"priority": 1},
        {"name": "m"},
        {"task": "report"},
        {"task": "unknown", "arguments": [2]},
        {"cron": "* * * * *", "at": "2999-01-01T00:00:00Z"},
        {"every": None},
        {"tick_argument": "tick"},
        {"timezone": None},
        {"misfire": None},
    ]
    for change in edits:
        refused = await ask(client, "PATCH", "/schedules/n", 422, **change)
        assert refused["status"] == 422, change
    for path in ("?limit=0", "?limit=101", "?cursor=%00", "?after=a", "/n?ticks=101", "/n?ticks=x", "/%00"):
        await ask(client, "GET", f"/schedules{path}", 422)
    [left] = await pgq.schedules.list()
    assert await ask(client, "GET", "/schedules/n") == before
    assert left.name == "n"


async def test_a_problem_tells_no_secret_of_the_arguments(client: httpx.AsyncClient) -> None:
    body = {"name": "n", "task": "report", "arguments": {"day": "x", "hunter2": 1}, "every": 60}

    await ask(client, "POST", "/schedules", 201, **{**body, "arguments": [1]})
    for method, path in (("POST", "/schedules"), ("PATCH", "/schedules/n")):
        sent = {key: body[key] for key in body if key != "name" or method == "POST"}
        refused = await client.request(method, path, json=sent)
        assert refused.status_code == 422
        assert [each["field"] for each in refused.json()["errors"]][:1] == ["arguments.day"], refused.text
        assert "hunter2" not in refused.text


async def test_each_change_asks_about_the_schedule_and_about_the_call(pgq: PgQueue) -> None:
    asked: list[tuple[str, str]] = []

    def hook(_: Request, action: str, resource: str) -> bool:
        asked.append((action, resource))
        return True

    call = {"task": "report", "queue": "mail", "priority": 2}
    app = status_app(pgq, authorize=hook, allow_unknown_tasks=True)
    async with client_of(app, headers={"Sec-Fetch-Site": "same-origin"}) as client:
        requests: list[tuple[str, str, int, dict[str, Any]]] = [
            ("POST", "/schedules", 201, {"name": "n", "every": 60, **call}),
            ("PATCH", "/schedules/n", 200, {"every": 90}),
            ("PATCH", "/schedules/n", 200, call),
            ("POST", "/schedules/n/pause", 200, {}),
            ("POST", "/schedules/n/resume", 200, {}),
            ("POST", "/schedules/n/run", 200, {}),
            ("GET", "/schedules/n", 200, {}),
            ("GET", "/schedules", 200, {}),
            ("DELETE", "/schedules/n", 204, {}),
        ]
        for method, path, status, body in requests:
            await ask(client, method, path, status, **body)
        foreign = await client.post("/schedules/n/run", headers={"Sec-Fetch-Site": "cross-site"})

    of_call = [("enqueue", "task:report"), ("enqueue", "queue:mail"), ("enqueue", "priority:2")]
    one = "schedule:n"
    assert asked == [
        *(("configure", "schedules"), ("configure", one), *of_call),
        *(("configure", one), ("configure", one), *of_call),
        *(("pause", one), ("resume", one), ("enqueue", one), ("read", one), ("read", "schedules")),
        ("remove", one),
    ]
    assert foreign.status_code == 403


async def test_each_role_sees_and_operates_schedules_as_far_as_it_may(
    pgq: PgQueue, superuser_dsn: str
) -> None:
    await pgq.schedules.create("n", pgq.signature("add", 1, 2), every=3600)
    body = {"name": "made", "task": "add", "arguments": [1, 2], "every": 60}
    async with roles_of(superuser_dsn) as roles:
        for role, may_read, may_change in (("worker", 1, 1), ("read", 1, 0), ("enqueue", 0, 0)):
            async with (
                PgQueue(roles.dsn_of(role)) as theirs,
                client_of(
                    status_app(theirs, token="a-secret-for-tests", allow_unknown_tasks=True), headers=TOKEN
                ) as client,
            ):
                requests: list[tuple[int, int, str, str, dict[str, Any]]] = [
                    (may_read, 200, "GET", "/schedules", {}),
                    (may_read, 200, "GET", "/schedules/n", {}),
                    *((may_read, 200, "PAGE", f"/dashboard/schedules{each}", {}) for each in PAGES),
                    *(
                        (may_change, 200, "POST", f"/schedules/n/{each}", {})
                        for each in ("pause", "resume", "run")
                    ),
                    (may_change, 200, "PATCH", "/schedules/n", {"every": 7200}),
                    (may_change, 201, "POST", "/schedules", body),
                    (may_change, 204, "DELETE", "/schedules/made", {}),
                ]
                for may, done, method, path, sent in requests:
                    if method == "PAGE":
                        assert (await client.get(path)).status_code == (done if may else 403), (role, path)
                    else:
                        await ask(client, method, path, done if may else 403, **sent)


ODD = {
    "double precision": ("'nan'", "'infinity'", "'-infinity'", "-1"),
    "timestamp with time zone": ("'infinity'", "'-infinity'", "'0001-01-01 00:00:00+00'"),
    "bigint": ("-1", f"{2**63 - 1}"),
    "integer": ("-1", f"{2**31 - 1}"),
    "text": ("''", "E'<b>\\n'"),
    "json": ("'null'", "'[1]'", "'7'"),
}


async def test_what_a_row_holds_hides_neither_it_nor_the_others(
    pgq: PgQueue, client: httpx.AsyncClient, db: Connection
) -> None:
    for name in ("m", "n", "o"):
        await pgq.schedules.create(name, pgq.signature("report", 1), every=60)
    columns = await db.fetch(
        "select column_name, data_type from information_schema.columns"
        " where table_schema = 'pgqueue' and table_name = 'schedule' and column_name <> 'name'"
    )
    planted = 0
    for column, kind in columns:
        for value in ODD.get(kind, ()):
            try:
                await db.execute(f"update pgqueue.schedule set {column} = {value} where name = 'n'")
            except IntegrityConstraintViolationError:
                continue
            planted += 1
            listed = (await ask(client, "GET", "/schedules"))["schedules"]
            assert [each["name"] for each in listed] == ["m", "n", "o"], (column, value)
            await ask(client, "GET", "/schedules/n")
            for page in PAGES:
                shown = await client.get(f"/dashboard/schedules{page}")
                assert shown.status_code == 200, (column, value, page)
        await pgq.schedules.delete("n")
        await pgq.schedules.create("n", pgq.signature("report", 1), every=60)
    assert planted > 40
