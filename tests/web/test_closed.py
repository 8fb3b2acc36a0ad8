"""Closed by default: what nobody has allowed is not readable, on whatever way a request comes."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from uuid import uuid4

import anyio
import httpx
import pytest
from kit.waiting import eventually, holds
from kit.web_client import client_of
from kit.web_routes import routes_of
from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from pgqueue import ConfigurationError, PgQueue
from pgqueue.metrics import Metrics
from pgqueue.web import status_app
from pgqueue.web.live.capacity import Capacity
from pgqueue.web.monitoring_app import monitoring_app
from pgqueue.web.pages import login
from pgqueue.web.pages.login import Gate
from pgqueue.web.settings import WebSettings

pytestmark = pytest.mark.contract("W26")

TOKEN = "correct-horse-battery"
PUBLIC = {"/livez", "/readyz"}
WAYS = {
    "this machine": {},
    "a proxy that says so": {"X-Forwarded-For": "192.0.2.7"},
    "a proxy that does not": {"Host": "jobs.example"},
}


def shows_nothing(path: str) -> bool:
    """Whether *path* has nothing about jobs, queues or workers: the login and its looks."""
    return path == "/dashboard/login" or path.startswith("/dashboard/static/")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("options", [{}, {"token": TOKEN}], ids=["nothing set", "a token"])
async def test_without_the_token_nothing_but_health_is_readable(
    pgq: PgQueue, options: dict[str, str], way: str
) -> None:
    app = status_app(pgq, **options)  # type: ignore[arg-type]  # strings
    answers: dict[tuple[str, str], int] = {}
    async with client_of(app, headers=WAYS[way]) as client:
        names = {
            "id": uuid4(),
            "queue": "mail",
            "task": "send",
            "fingerprint": "abc",
            "schedule": "nightly",
            "limit": "tenant",
        }
        for method, path in routes_of(app, names):
            response = await client.request(method, path)
            answers[method, path] = response.status_code
            if response.is_redirect:
                # The login, or the overview, which leads to it.
                assert response.headers["location"].startswith("/dashboard/")

    readable = {path for (_, path), status in answers.items() if 200 <= status < 300}
    assert {path for path in readable if not shows_nothing(path)} == PUBLIC
    assert len(answers) > 80
    assert {status for status in answers.values() if status >= 500} == set()


async def test_a_read_only_app_changes_nothing_even_with_the_token(pgq: PgQueue) -> None:
    app = status_app(pgq, token=TOKEN, read_only=True)
    job = await pgq.enqueue_by_name("send", options={"queue": "mail", "delay": 3600})
    names = {
        "id": job.id,
        "queue": "mail",
        "task": "send",
        "fingerprint": "abc",
        "schedule": "nightly",
        "limit": "tenant",
    }
    asked: dict[tuple[str, str], int] = {}
    own_page = {"Authorization": f"Bearer {TOKEN}", "Sec-Fetch-Site": "same-origin"}
    async with client_of(app, headers=own_page) as client:
        for method, path in routes_of(app, names):
            if method not in ("GET", "HEAD") and path not in ("/dashboard/login", "/dashboard/logout"):
                asked[method, path] = (await client.request(method, path)).status_code
        read = await client.get(f"/jobs/{job.id}")
        refused = await client.post(f"/jobs/{job.id}/cancel")

    assert len(asked) > 40
    assert {each: status for each, status in asked.items() if status != 403} == {}
    assert (read.status_code, read.json()["status"]) == (200, "scheduled")
    assert "read-only" in refused.json()["detail"]


async def test_this_machine_may_read_if_it_is_allowed(pgq: PgQueue) -> None:
    async with client_of(status_app(pgq, local_reading=True)) as client:
        here = await client.get("/jobs")
        passed_on = await client.get("/jobs", headers=WAYS["a proxy that says so"])
        changed = await client.post("/jobs/cancel", json={"all": True})

    assert (here.status_code, passed_on.status_code, changed.status_code) == (200, 403, 403)


@pytest.mark.parametrize("options", [{}, {"token": TOKEN}])
async def test_metrics_take_the_bearer_token(pgq: PgQueue, options: dict[str, str]) -> None:
    async with client_of(status_app(pgq, **options)) as client:  # type: ignore[arg-type]
        without = await client.get("/metrics")
        with_it = await client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})

    assert without.status_code == (401 if options else 403)
    assert with_it.status_code == (200 if options else 403)


async def test_a_port_for_metrics_takes_a_token_too(pgq: PgQueue) -> None:
    async def find_problems() -> list[str]:
        return []

    app = monitoring_app(Metrics(pgq), find_problems, token=TOKEN)
    async with client_of(app) as client:
        alive = await client.get("/livez")
        without = await client.get("/metrics")
        with_it = await client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})

    assert (alive.status_code, without.status_code, with_it.status_code) == (200, 401, 200)


@pytest.mark.parametrize("token", ["x", "fifteen-letters"])
def test_a_token_that_can_be_guessed_is_refused(token: str) -> None:
    with pytest.raises(ConfigurationError, match="the token must be at least 16 characters long"):
        WebSettings(token=token)


# The address that carries the token


async def test_an_address_with_the_token_logs_the_browser_in_and_leads_to_one_without(pgq: PgQueue) -> None:
    app = status_app(pgq, token=TOKEN)
    for path, leads_to in (
        ("/", "/dashboard/"),
        ("/dashboard/", "/dashboard/"),
        ("/dashboard/jobs?status=failed&", "/dashboard/jobs?status=failed"),
    ):
        async with client_of(app) as browser:
            entered = await browser.get(f"{path}{'' if '?' in path else '?'}token={TOKEN}")
            page = await browser.get(entered.headers["location"])

        assert (entered.status_code, entered.headers["location"]) == (303, leads_to)
        assert "SameSite=strict" in entered.headers["set-cookie"]
        assert page.status_code == 200


async def test_an_address_with_another_token_leads_to_the_login(pgq: PgQueue) -> None:
    async with client_of(status_app(pgq, token=TOKEN)) as browser:
        first = await browser.get(f"/?token={TOKEN}x")
        second = await browser.get(f"/dashboard/?token={TOKEN}x")

    assert "set-cookie" not in first.headers
    assert "set-cookie" not in second.headers
    assert second.headers["location"] == "/dashboard/login?next=%2Fdashboard%2F"


# Those who guess, and those who hold places


async def test_the_right_token_is_let_in_however_many_guess(
    pgq: PgQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gate, "is_full", True)
    monkeypatch.setattr(login, "PAUSE", 3600)
    async with client_of(status_app(pgq, token=TOKEN), headers={"Sec-Fetch-Site": "same-origin"}) as browser:
        with anyio.fail_after(60):
            guessed = await browser.post("/dashboard/login", data={"token": "a-guess"})
            right = await browser.post("/dashboard/login", data={"token": TOKEN})

    assert (guessed.status_code, right.status_code) == (429, 303)


def test_one_reader_cannot_take_all_places() -> None:
    capacity = Capacity(8, "long polls")
    taken = dict.fromkeys(("greedy", "second", "third", "fourth"), 0)
    with ExitStack() as held:

        def take_all(reader: str) -> None:
            while True:
                capacity.check(reader)
                held.enter_context(capacity.hold(reader))
                taken[reader] += 1

        for each in taken:
            with pytest.raises(HTTPException, match="too many long polls"):
                take_all(each)

    assert taken == {"greedy": 4, "second": 2, "third": 1, "fourth": 1}


async def test_a_reader_is_an_actor_or_an_address(pgq: PgQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    job = await pgq.enqueue_by_name("wait")
    held: list[str] = []
    hold = Capacity.hold

    def note(capacity: Capacity, reader: str) -> AbstractContextManager[None]:
        held.append(reader)
        return hold(capacity, reader)

    monkeypatch.setattr(Capacity, "hold", note)

    async def statuses(app: Starlette, headers: dict[str, str], address: str) -> list[int]:
        async with client_of(app, headers=headers, client=(address, 1)) as client:
            return [(await client.get(f"/jobs/{job.id}?wait=20")).status_code]

    async def while_others_wait(app: Starlette, greedy: list[tuple[str, str]], other: tuple[str, str]) -> int:
        held.clear()
        async with anyio.create_task_group() as group:
            for user, address in greedy:
                group.start_soon(statuses, app, {"X-User": user}, address)
            await eventually(lambda: holds(len(held) == 2))
            refused = await statuses(app, {"X-User": greedy[0][0]}, greedy[0][1])
            async with client_of(app, headers={"X-User": other[0]}, client=(other[1], 1)) as client:
                answer: httpx.Response = await client.get(f"/jobs/{job.id}?wait=0.01")
            group.cancel_scope.cancel()
        assert refused == [503]
        return answer.status_code

    by_address = status_app(pgq, open_reading=True, max_waiters=4)
    by_actor = status_app(
        pgq, open_reading=True, max_waiters=4, actor=lambda request: request.headers["X-User"]
    )
    one = "192.0.2.1"
    # Headers are anyone's to choose; of IPv6, so are the lower 64 bits.
    assert await while_others_wait(by_address, [("a", one), ("b", one)], ("a", "192.0.2.2")) == 200
    v6 = [("a", "2001:db8::1"), ("a", "2001:db8::2")]
    assert await while_others_wait(by_address, v6, ("a", "2001:db8:1::1")) == 200
    assert await while_others_wait(by_actor, [("a", one), ("a", "192.0.2.2")], ("b", one)) == 200
