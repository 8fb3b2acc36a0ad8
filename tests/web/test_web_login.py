"""Logging in to the dashboard with the app's token, and out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import inside
from kit.web_server import serving
from starlette.applications import Starlette
from starlette.routing import Mount

from pgqueue import PgQueue
from pgqueue.web import status_app
from pgqueue.web.pages import login
from pgqueue.web.pages.login import MAX_WAITING, Gate, page_within
from pgqueue.web.security import sessions

TOKEN = "correct-horse-battery"
PAGE = {"Sec-Fetch-Site": "same-origin"}
STRANGER = ("192.0.2.7", 40000)


def browser_of(app: Any, base_url: str = "http://jobs.example") -> httpx.AsyncClient:
    """A browser on another machine; it keeps cookies."""
    transport = httpx.ASGITransport(app, client=STRANGER)
    return httpx.AsyncClient(transport=transport, base_url=base_url, headers=PAGE)


@pytest.fixture
async def browser(pgq: PgQueue, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    monkeypatch.setattr(login, "PAUSE", 0.0)
    async with browser_of(status_app(pgq, token=TOKEN)) as browser:
        yield browser


async def log_in(browser: httpx.AsyncClient, base: str = "", **fields: str) -> httpx.Response:
    return await browser.post(f"{base}/dashboard/login", data={"token": TOKEN, **fields})


async def test_a_page_leads_to_the_login_and_the_login_back_to_the_page(browser: httpx.AsyncClient) -> None:
    asked = await browser.get("/dashboard/jobs?status=failed")
    shown = await browser.get(asked.headers["location"])
    logged_in = await log_in(browser, next="/dashboard/jobs?status=failed")
    page = await browser.get(logged_in.headers["location"])

    assert asked.status_code == 303
    assert asked.headers["location"] == "/dashboard/login?next=%2Fdashboard%2Fjobs%3Fstatus%3Dfailed"
    assert (shown.status_code, 'value="/dashboard/jobs?status=failed"' in shown.text) == (200, True)
    assert (logged_in.status_code, logged_in.headers["location"]) == (303, "/dashboard/jobs?status=failed")
    assert page.status_code == 200
    assert "Log out" in page.text


async def test_the_cookie_is_kept_from_scripts_other_sites_and_other_apps(pgq: PgQueue) -> None:
    outer = Starlette(routes=[Mount("/queue", app=status_app(pgq, token=TOKEN))])

    async with browser_of(outer, "https://jobs.example") as browser:
        logged_in = await log_in(browser, "/queue")
        page = await browser.get("/queue/dashboard/jobs")
        api = await browser.get("/queue/jobs")

    [cookie] = logged_in.headers.get_list("set-cookie")
    attributes = {each.strip().lower() for each in cookie.split(";")[1:]}
    assert {"httponly", "secure", "samesite=strict", "path=/queue", f"max-age={sessions.LASTS}"} <= attributes
    assert TOKEN not in cookie
    assert (page.status_code, api.status_code) == (200, 200)


async def test_behind_a_proxy_that_ends_tls_the_cookie_is_for_https_alone(browser: httpx.AsyncClient) -> None:
    plain = await log_in(browser)
    behind = await browser.post(
        "/dashboard/login", data={"token": TOKEN}, headers={"X-Forwarded-Proto": "https"}
    )

    assert "secure" not in plain.headers["set-cookie"].lower()
    assert "secure" in behind.headers["set-cookie"].lower()


@pytest.mark.parametrize("wrong", ["", "wrong", TOKEN[:-1], f"{TOKEN}x", "\u202e\ud7ff", "x" * 2000])
async def test_a_wrong_token_does_not_log_in(browser: httpx.AsyncClient, wrong: str) -> None:
    response = await log_in(browser, token=wrong)
    after = await browser.get("/dashboard/")

    assert (response.status_code, "set-cookie" in response.headers) == (403, False)
    assert "Wrong token." in response.text
    assert after.status_code == 303


async def test_a_form_of_a_page_is_done_after_the_login_and_not_before(
    pgq: PgQueue, browser: httpx.AsyncClient
) -> None:
    await pgq.enqueue_by_name("send", {})
    form = {"queue": "default"}

    before = await browser.post("/dashboard/queues/pause", data=form)
    was_paused = [each.name for each in await pgq.settings()]
    await log_in(browser)
    from_elsewhere = await browser.post(
        "/dashboard/queues/pause", data=form, headers={"Sec-Fetch-Site": "cross-site"}
    )
    of_nowhere = await httpx.AsyncClient(
        transport=inside.transport_of(browser), base_url="http://jobs.example", cookies=browser.cookies
    ).post("/dashboard/queues/pause", data=form)
    still_not = [each.name for each in await pgq.settings()]
    done = await browser.post("/dashboard/queues/pause", data=form)

    assert (before.status_code, before.headers["location"]) == (303, "/dashboard/login")
    assert (from_elsewhere.status_code, of_nowhere.status_code) == (403, 403)
    assert (was_paused, still_not) == ([], [])
    assert done.status_code == 303
    [setting] = await pgq.settings()
    assert (setting.name, setting.actor) == ("default", "dashboard")


async def test_another_site_can_neither_log_a_browser_in_nor_out(browser: httpx.AsyncClient) -> None:
    elsewhere = {"Sec-Fetch-Site": "cross-site"}

    logged_in = await browser.post("/dashboard/login", data={"token": TOKEN}, headers=elsewhere)
    await log_in(browser)
    logged_out = await browser.post("/dashboard/logout", headers=elsewhere)
    page = await browser.get("/dashboard/jobs")

    assert (logged_in.status_code, logged_out.status_code, page.status_code) == (403, 403, 200)


async def test_logging_out_ends_the_session(browser: httpx.AsyncClient) -> None:
    await log_in(browser)

    out = await browser.post("/dashboard/logout")
    page = await browser.get("/dashboard/")

    assert (out.status_code, out.headers["location"]) == (303, "/dashboard/login")
    assert page.status_code == 303


async def test_the_api_says_401_and_leads_nowhere(browser: httpx.AsyncClient) -> None:
    response = await browser.get("/jobs")

    assert (response.status_code, response.headers["content-type"]) == (401, "application/problem+json")


async def test_an_app_without_a_token_has_no_login(pgq: PgQueue) -> None:
    async with browser_of(status_app(pgq, local_reading=True)) as browser:
        shown, posted = await browser.get("/dashboard/login"), await log_in(browser)
        out = await browser.post("/dashboard/logout")

    assert (shown.status_code, posted.status_code, out.status_code) == (404, 404, 404)


async def test_the_login_names_no_job_and_carries_the_headers(browser: httpx.AsyncClient) -> None:
    response = await browser.get("/dashboard/login", params={"next": '"><script>alert(1)</script>'})

    assert "<script>alert" not in response.text
    assert response.headers["content-security-policy"].startswith("default-src 'none'; ")


# Guessing


async def test_wrong_tokens_take_turns_and_are_not_answered_when_too_many_wait(
    pgq: PgQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, waiting = anyio.Event(), 0
    refused: list[httpx.Response] = []

    async def hold(gate: Gate) -> None:
        nonlocal waiting
        inside.add_waiting(gate, 1)
        waiting += 1
        await go_on.wait()
        inside.add_waiting(gate, -1)

    monkeypatch.setattr(Gate, "wait", hold)
    async with browser_of(status_app(pgq, token=TOKEN)) as browser, anyio.create_task_group() as group:
        for _ in range(MAX_WAITING):
            group.start_soon(lambda: log_in(browser, token="wrong"))
        with anyio.fail_after(60):
            while waiting < MAX_WAITING:  # noqa: ASYNC110  # the tries tell nobody
                await anyio.sleep(0.01)
        with anyio.move_on_after(60):
            refused = [await log_in(browser), await log_in(browser, token="wrong")]
        go_on.set()
    async with browser_of(status_app(pgq, token=TOKEN)) as browser:
        later = await log_in(browser)

    # Those who guess take no place from the one who knows.
    assert [each.status_code for each in refused] == [303, 429]
    assert refused[1].headers["retry-after"] == "10"
    assert later.status_code == 303


async def test_the_gate_lets_one_through_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = 0
    most = 0

    async def pause(seconds: float) -> None:
        nonlocal pauses, most
        pauses += 1
        most = max(most, pauses)
        await anyio.lowlevel.checkpoint()
        pauses -= 1

    gate = Gate()
    monkeypatch.setattr(anyio, "sleep", pause)
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(gate.wait)

    assert most == 1
    assert not gate.is_full


# Where the login leads


@pytest.mark.parametrize(
    "wanted",
    [
        "",
        "/",
        "https://evil.example/queue/dashboard/",
        "//evil.example/queue/dashboard/",
        "/queue/dashboard",
        "/queue/dashboard/../../admin",
        "/queue/dashboard/\\evil.example",
        "/queue/dashboard/\r\nSet-Cookie: a=b",
        "/queue/dashboardx/",
        "javascript:alert(1)",
    ],
)
def test_the_login_leads_nowhere_else(wanted: str) -> None:
    assert page_within("/queue/dashboard", wanted) == "/queue/dashboard/"


@given(st.text())
def test_wherever_it_leads_is_a_page(wanted: str) -> None:
    assert page_within("/dashboard", wanted).startswith("/dashboard/")
    assert page_within("/dashboard", f"/dashboard/{wanted}").isascii()


# Logging out


@pytest.mark.contract("W28")
async def test_a_logout_ends_the_session_and_its_streams_for_all_processes(
    pgq: PgQueue, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgqueue.web.live.event_source.SESSION_LOOK", 0.1)
    job = await pgq.enqueue_by_name("wait")
    async with (
        PgQueue(dsn) as other_pgq,
        serving(status_app(other_pgq, token=TOKEN)) as other,
        browser_of(status_app(pgq, token=TOKEN)) as browser,
    ):
        await log_in(browser)
        cookie = {"Cookie": "; ".join(f"{name}={value}" for name, value in browser.cookies.items())}
        async with httpx.AsyncClient(base_url=other, headers=cookie, timeout=60) as copy:
            before = await copy.get("/jobs")
            async with copy.stream("GET", f"/jobs/{job.id}/events") as stream:
                lines = stream.aiter_lines()
                first = await anext(lines)
                out = await browser.post("/dashboard/logout")
                # It ends, and not because the job does.
                with anyio.fail_after(60):
                    rest = [line async for line in lines]
            after = [await copy.get("/jobs"), await copy.get("/dashboard/jobs")]
        await log_in(browser)
        again = await browser.get("/jobs")

    assert (before.status_code, out.status_code) == (200, 303)
    assert first
    assert "cancelled" not in "".join(rest)
    assert [each.status_code for each in after] == [401, 303]
    assert again.status_code == 200


@pytest.mark.contract("W28")
@pytest.mark.parametrize(
    "path", ["/jobs/", "/queues/", "/dashboard", "/dashboard/jobs/", "//evil.example/jobs/"]
)
async def test_a_redirect_does_not_repeat_the_host_that_a_client_named(
    browser: httpx.AsyncClient, path: str
) -> None:
    for host in ("evil.example", "jobs.example:8080"):
        response = await browser.get(f"http://jobs.example{path}", headers={"Host": host})

        location = response.headers.get("location", "/none")
        assert location.startswith("/"), location
        assert not location.startswith("//"), location
        assert "evil.example" not in location.removeprefix(path)
