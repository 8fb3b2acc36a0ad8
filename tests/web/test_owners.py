"""Where jobs have owners, a user learns nothing of the jobs of others, and changes none."""

from __future__ import annotations

import base64
from typing import Any
from uuid import UUID

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.web_client import client_of
from kit.web_routes import routes_of
from starlette.applications import Starlette
from starlette.requests import Request

from pgqueue import FROM_ARGUMENTS, ConfigurationError, Job, PgQueue
from pgqueue.model.ids import new_id
from pgqueue.options.declared import CallOptions
from pgqueue.web import own_lists, status_app
from pgqueue.web.own_lists import own_page
from pgqueue.web.security.sealing import seal, unseal

pytestmark = pytest.mark.contract("W25")

PUBLIC = {"/livez", "/readyz", "/", "/dashboard/login", "/dashboard/logout"}
"""What tells nothing of jobs. The login is for those who have the token."""
OWN = {
    ("GET", "/jobs"),
    ("POST", "/jobs"),
    ("GET", "/dead-letters"),
    ("GET", "/dashboard/jobs"),
    # The form of what they may submit anyway.
    ("GET", "/dashboard/enqueue"),
    ("POST", "/dashboard/enqueue"),
    ("GET", "/openapi.json"),
}
"""What a user has besides single jobs. Everything else that is not about one job spans all owners."""


def user_of(request: Request) -> str:
    return request.headers.get("x-user", "")


def owned_app(pgq: PgQueue, rule: str = "hook", **options: Any) -> Starlette:
    """The app as the documentation has it; *rule*: how it says whose a job is."""
    by_rule: dict[str, Any] = {
        "job_headers": lambda request: {"user": user_of(request)},
        "owns": lambda request, job: job.headers.get("user") == user_of(request),
    }
    return status_app(
        pgq,
        authorize=lambda request, _action, _resource: bool(user_of(request)),
        actor=user_of,
        allow_unknown_tasks=True,
        **(by_rule if rule == "hook" else {"owner_header": True}),
        **options,
    )


@pytest.fixture(params=["hook", "index"])
async def rule(request: pytest.FixtureRequest, pgq: PgQueue) -> str:
    """How the app says whose a job is. "index": by a header that has an index."""
    if request.param == "index":
        await pgq.index_owners()
    return str(request.param)


def as_user(app: Starlette, user: str) -> httpx.AsyncClient:
    return client_of(app, headers={"X-User": user, "Sec-Fetch-Site": "same-origin"})


@pytest.fixture
async def failed(pgq: PgQueue) -> UUID:
    """A dead letter of alice's: every route about a job is about it."""

    @pgq.task(name="fail", queue="mail", max_retries=0)
    async def fail() -> None:
        raise ValueError("her secret")

    job = await fail.options(headers={"user": "alice", "owner": "alice"}).enqueue()
    async with pgq.worker():
        with anyio.fail_after(60):
            await pgq.wait(job.id)
    return job.id


def spans(path: str) -> bool:
    """Whether what *path* names by an id is of jobs of several owners."""
    return any(f"/{each}/" in path for each in ("redrives", "workflows", "bulk", "workers"))


async def answers(app: Starlette, user: str, job: UUID) -> dict[tuple[str, str], tuple[int, str, Any]]:
    """Return what *user* gets of every route: status, body and headers, without the id."""
    names = {
        "id": job,
        "queue": "mail",
        "task": "fail",
        "fingerprint": "abc",
        "schedule": "nightly",
        "limit": "tenant",
    }
    found = {}
    async with as_user(app, user) as client:
        for method, path in routes_of(app, names):
            form = {"data": {"queue": "mail"}} if path.startswith("/dashboard") else {"json": {}}
            content: dict[str, Any] = form if method in ("POST", "PUT", "PATCH") else {}
            response = await client.request(method, path, **content)
            text = response.text.replace(str(job), "ID")
            headers = {key: value.replace(str(job), "ID") for key, value in response.headers.items()}
            headers.pop("content-length", None)
            found[method, path.replace(str(job), "ID")] = (response.status_code, text, headers)
    return found


async def test_to_others_each_route_is_as_if_the_job_were_not_there(
    pgq: PgQueue, failed: UUID, rule: str
) -> None:
    app = owned_app(pgq, rule)

    theirs = await answers(app, "mallory", failed)
    nothing = await answers(app, "mallory", new_id())

    about_one = {route for route in theirs if "ID" in route[1] and not spans(route[1])}
    assert len(about_one) > 20
    for route in about_one:
        assert theirs[route] == nothing[route], route
        assert theirs[route][0] == 404, route
    assert "her secret" not in str(theirs)
    assert (await pgq.get(failed)).status == "failed"


@pytest.mark.parametrize("user", ["alice", "mallory"])
async def test_what_spans_all_owners_is_for_none_of_them(pgq: PgQueue, failed: UUID, user: str) -> None:
    found = await answers(owned_app(pgq), user, failed)

    spanning = {
        (method, path): status
        for (method, path), (status, _, _) in found.items()
        if ("ID" not in path or spans(path))
        and path not in PUBLIC
        and not path.startswith("/dashboard/static/")
        and (("GET" if method == "HEAD" else method), path) not in OWN
    }
    assert len(spanning) > 30
    assert set(spanning.values()) == {403}, {key: status for key, status in spanning.items() if status != 403}


async def test_nobody_gets_anything(pgq: PgQueue, failed: UUID) -> None:
    found = await answers(owned_app(pgq), "", failed)

    readable = {path for (_, path), (status, _, _) in found.items() if 200 <= status < 300}
    assert {path for path in readable if not path.startswith("/dashboard/static/")} <= PUBLIC


async def test_an_owner_sees_and_does_what_there_is_to_one_job(pgq: PgQueue, failed: UUID, rule: str) -> None:
    async with as_user(owned_app(pgq, rule), "alice") as client:
        shown = [
            await client.get(f"{path}/{failed}") for path in ("/jobs", "/dead-letters", "/dashboard/jobs")
        ]
        listed = [(await client.get("/jobs")).json()["jobs"], (await client.get("/dead-letters")).json()]
        redriven = await client.post(f"/dead-letters/{failed}/redrive", json={})
        cancelled = await client.post(f"/jobs/{failed}/cancel", json={})

    assert [each.status_code for each in shown] == [200] * 3
    assert [job["job_id"] for job in listed[0]] == [str(failed)]
    assert [letter["job_id"] for letter in listed[1]["dead_letters"]] == [str(failed)]
    assert (redriven.status_code, cancelled.status_code) == (200, 200)


async def test_a_hook_of_its_own_allows_what_spans_all_owners(pgq: PgQueue, failed: UUID) -> None:
    asked: list[tuple[str, str]] = []

    def operators(request: Request, action: str, resource: str) -> bool:
        asked.append((action, resource))
        return user_of(request) == "ada"

    app = owned_app(pgq, authorize_shared=operators)
    async with as_user(app, "ada") as ada, as_user(app, "mallory") as mallory:
        allowed = [
            (await ada.get("/queues")).status_code,
            (await ada.get("/dashboard/workers")).status_code,
            (await ada.post("/jobs/cancel", json={"all": True})).status_code,
            (await ada.post("/queues/mail/pause", json={})).status_code,
        ]
        refused = (await mallory.post("/queues/mail/resume", json={})).status_code

    assert (allowed, refused) == ([200] * 4, 403)
    assert asked == [
        ("read", "queues"),
        ("read", "workers"),
        ("cancel", "jobs"),
        ("pause", "queue:mail"),
        ("resume", "queue:mail"),
    ]


# Lists


async def of_others(pgq: PgQueue, count: int) -> None:
    options: CallOptions = {
        "headers": {"user": "alice", "owner": "alice"},
        "key": "payroll-alice",
        "tags": ["merger"],
    }
    for _ in range(count):
        await pgq.enqueue_by_name("send", options=options)


async def test_a_filter_does_not_test_the_jobs_of_others(pgq: PgQueue, rule: str) -> None:
    await of_others(pgq, 3)
    async with as_user(owned_app(pgq, rule), "mallory") as client:
        pages = [
            (await client.get(f"/jobs?limit=1&{query}")).text
            for query in (
                "key=payroll-alice",
                "key=payroll-bob",
                "tag=merger",
                "tag=none",
                "task=send",
                "task=no",
            )
        ]
        (await client.post("/jobs", json={"task": "mine"})).raise_for_status()
        mine = (await client.get("/jobs?limit=1")).json()

    assert set(pages) == {pages[0]}
    assert (len(mine["jobs"]), mine["cursor"]) == (1, None)


@pytest.mark.parametrize("rule", ["hook", "header", "index"], indirect=True)
async def test_pages_go_on_to_the_end_and_their_cursors_say_nothing(
    pgq: PgQueue, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_lists, "PART", 3)
    ids: list[str] = []
    async with (
        as_user(owned_app(pgq, rule), "bob") as bob,
        as_user(owned_app(pgq, rule), "mallory") as mallory,
    ):
        for _ in range(5):
            ids.append((await bob.post("/jobs", json={"task": "mine"})).json()["job_id"])
            await of_others(pgq, 4)
        seen: list[str] = []
        cursors: list[str] = []
        cursor = ""
        while True:
            page = (await bob.get(f"/jobs?limit=2{cursor}")).json()
            seen += [job["job_id"] for job in page["jobs"]]
            if page["cursor"] is None:
                break
            cursors.append(page["cursor"])
            cursor = f"&cursor={page['cursor']}"
        taken = await mallory.get(f"/jobs?cursor={cursors[0]}")
        forged = await bob.get(
            "/jobs?cursor=" + base64.urlsafe_b64encode(UUID(ids[0]).bytes).decode().rstrip("=")
        )
        page = await bob.get(f"/dashboard/jobs?cursor={cursors[0]}")

    assert seen == ids[::-1]
    raw = b"".join(base64.urlsafe_b64decode(each + "==") for each in cursors)
    for job in (await pgq.jobs()).jobs:
        assert job.id.bytes[:8] not in raw
    assert (taken.status_code, forged.status_code, page.status_code) == (422, 422, 200)


@given(st.text(), st.binary(min_size=1), st.text(max_size=50), st.text(max_size=50), st.integers(0, 500))
def test_a_seal_is_opened_by_its_secret_in_its_context_and_unchanged(
    text: str, secret: bytes, context: str, other: str, place: int
) -> None:
    text = text.encode("utf-8", "replace").decode()
    sealed = seal(secret, text, context=context)
    changed = sealed[: place % len(sealed)] + ("A" if sealed[place % len(sealed)] != "A" else "B")
    changed += sealed[place % len(sealed) + 1 :]

    assert unseal(secret, sealed, context=context) == text
    assert unseal(secret + b"x", sealed, context=context) is None
    assert other == context or unseal(secret, sealed, context=other) is None
    # The last letter may have bits that mean nothing.
    assert unseal(secret, changed, context=context) in (None, text)


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 5), st.integers(1, 5))
async def test_own_pages_are_the_own_rows_in_order_each_full_but_the_last(
    owners: list[bool], limit: int, part: int
) -> None:
    async def read(most: int, cursor: str | None) -> tuple[list[int], str | None]:
        start = 0 if cursor is None else int(cursor)
        end = min(start + most, len(owners))
        return list(range(start, end)), None if end == len(owners) else str(end)

    async def owned(rows: Any) -> list[bool]:
        return [owners[row] for row in rows]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(own_lists, "PART", part)
        patch.setattr(own_lists, "MAX_PARTS", 100)
        pages: list[list[int]] = []
        cursor = None
        while True:
            page, cursor = await own_page(read, owned, limit, cursor)
            pages.append(page)
            if cursor is None:
                break

    assert [row for page in pages for row in page] == [row for row, is_own in enumerate(owners) if is_own]
    assert all(len(page) == limit for page in pages[:-1])
    # There is no empty last page: whether there is a next one tells of no others.
    assert pages[-1] or len(pages) == 1


# Submissions


async def test_a_key_of_a_task_is_kept_apart_by_owner(pgq: PgQueue, rule: str) -> None:
    @pgq.task(idempotency_key="report", on_conflict="replace", idempotency_fingerprint=False)
    async def report(to: str) -> None: ...

    @pgq.task(idempotency_key="report", on_conflict="coalesce", idempotency_fingerprint=False)
    async def rebuild(to: str) -> None: ...

    @pgq.task(idempotency_key=FROM_ARGUMENTS)
    async def once(to: str) -> None: ...

    app = owned_app(pgq, rule)
    for task in ("report", "rebuild", "once"):
        body = {"task": task, "arguments": {"to": "x"}, "delay": 3600}
        async with as_user(app, "alice") as alice, as_user(app, "mallory") as mallory:
            hers = await alice.post("/jobs", json=body)
            his = await mallory.post("/jobs", json=body)
            again = await mallory.post("/jobs", json=body)

        assert [each.status_code for each in (hers, his, again)] == [202] * 3
        job = await pgq.get(UUID(hers.json()["job_id"]))
        assert (job.status, job.headers["user" if rule == "hook" else "owner"]) == ("scheduled", "alice")
        assert hers.json()["job_id"] != his.json()["job_id"] == again.json()["job_id"]


@pytest.mark.contract("W28")
async def test_actors_that_are_alike_at_first_do_not_share_keys(pgq: PgQueue) -> None:
    users = ["u" * 200 + "-a", "u" * 200 + "-b", "a\tb", "ab"]
    app = status_app(
        pgq,
        authorize=lambda *_: True,
        allow_unknown_tasks=True,
        actor=lambda request: users[int(request.headers["x-user"])],
    )
    ids = []
    for user in range(len(users)):
        async with as_user(app, str(user)) as client:
            answer = await client.post("/jobs", json={"task": "t"}, headers={"Idempotency-Key": "k"})
        ids.append(answer.json()["job_id"])

    assert len(set(ids)) == len(users)


async def test_whether_an_id_is_taken_is_not_told(pgq: PgQueue, failed: UUID) -> None:
    async with as_user(owned_app(pgq), "mallory") as client:
        told = [
            await client.post("/jobs", json={"task": "fail", "id": str(each)}) for each in (failed, new_id())
        ]

    assert told[0].status_code == told[1].status_code == 403
    assert told[0].text == told[1].text


async def test_the_hook_is_asked_for_the_queue_and_the_priority_that_a_submission_names(pgq: PgQueue) -> None:
    asked: list[tuple[str, str]] = []

    def authorize(_: Request, action: str, resource: str) -> bool:
        asked.append((action, resource))
        return resource not in ("queue:urgent", "priority:9")

    app = status_app(pgq, authorize=authorize, allow_unknown_tasks=True)
    async with as_user(app, "bob") as client:
        named = await client.post("/jobs", json={"task": "t", "queue": "mail", "priority": 1})
        job = named.json()["job_id"]
        refused = [
            await client.post("/jobs", json={"task": "t", "queue": "urgent"}),
            await client.post("/jobs", json={"task": "t", "priority": 9}),
            await client.post(f"/jobs/{job}/reprioritise", json={"priority": 9}),
            await client.post(f"/dead-letters/{job}/redrive", json={"queue": "urgent"}),
        ]

    assert asked[:4] == [("enqueue", each) for each in ("jobs", "task:t", "queue:mail", "priority:1")]
    assert (named.status_code, [each.status_code for each in refused]) == (202, [403] * 4)


@pytest.mark.contract("W28")
def test_owners_need_an_actor(pgq: PgQueue) -> None:
    def owns(_: Request, __: Job) -> bool:
        return True

    with pytest.raises(ConfigurationError, match="no actor="):
        status_app(pgq, owns=owns)
