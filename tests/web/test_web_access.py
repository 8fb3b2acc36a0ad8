"""Who may do what in the status app, and where requests come from."""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.web_client import HERE, client_of
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from pgqueue import ConfigurationError, PgQueue
from pgqueue.model.ids import new_id
from pgqueue.web import status_app
from pgqueue.web.http.problems import exception_handlers
from pgqueue.web.security import origins, sessions
from pgqueue.web.security.access import Access
from pgqueue.web.security.origins import Origin
from pgqueue.web.settings import WebSettings

TOKEN = "correct-horse-battery"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
STRANGER = ("192.0.2.7", 40000)


def guarded(**options: Any) -> Starlette:
    """An app with one thing to read and one to change."""
    access = Access(WebSettings(**options))

    async def read(request: Request) -> Response:
        await access.check(request, "read", "jobs")
        return JSONResponse("read")

    async def change(request: Request) -> Response:
        await access.check(request, "cancel", "jobs")
        return JSONResponse(access.actor_of(request))

    routes = [Route("/thing", read), Route("/thing", change, methods=["POST"])]
    return Starlette(routes=routes, exception_handlers=exception_handlers())


def request_of(headers: dict[str, str], client: tuple[str, int] | None = HERE) -> Request:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "headers": raw, "client": client})


def cookie_of(token: str, *, now: float | None = None) -> dict[str, str]:
    made_at = time.time() if now is None else now
    return {"Cookie": f"{sessions.cookie_name(token)}={sessions.make_cookie(token, now=made_at)}"}


@asynccontextmanager
async def no_database(**options: Any) -> AsyncIterator[Starlette]:
    """The app, over a PgQueue that nobody has opened: who is refused never gets to it."""
    yield status_app(PgQueue("postgresql://nowhere"), **options)


# Without a token and a hook


async def test_programs_on_this_machine_may_read_and_change_nothing() -> None:
    async with client_of(guarded(local_reading=True)) as client:
        read = await client.get("/thing")
        changed = await client.post("/thing")

    assert read.status_code == 200
    assert (changed.status_code, changed.headers["content-type"]) == (403, "application/problem+json")
    assert "status_app(pgq, token=...)" in changed.json()["detail"]


@pytest.mark.parametrize("client", [STRANGER, ("::ffff:192.0.2.7", 1), ("2001:db8::1", 1), ("a-name", 1)])
async def test_other_machines_may_not_even_read(client: tuple[str, int]) -> None:
    async with client_of(guarded(local_reading=True), client=client) as http:
        response = await http.get("/thing")

    assert response.status_code == 403
    assert "on its own machine" in response.json()["detail"]


@pytest.mark.parametrize("header", ["Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via"])
async def test_what_a_proxy_on_this_machine_passes_on_does_not_come_from_it(header: str) -> None:
    async with client_of(guarded(local_reading=True)) as client:
        response = await client.get("/thing", headers={header: "127.0.0.1"})

    assert response.status_code == 403


@pytest.mark.parametrize(
    ("client", "local"),
    [
        (None, True),
        (("", 0), True),
        (("127.0.0.1", 1), True),
        (("127.9.9.9", 1), True),
        (("::1", 1), True),
        (("::ffff:127.0.0.1", 1), True),
        (("10.0.0.1", 1), False),
        (("localhost", 1), False),
        (("127.0.0.1.example.com", 1), False),
    ],
)
def test_a_client_is_local_by_its_address(client: tuple[str, int] | None, local: bool) -> None:
    assert origins.is_local(request_of({}, client)) is local


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "[", "."]
)
async def test_a_name_that_a_stranger_may_have_pointed_at_this_machine_is_not_answered(host: str) -> None:
    async with client_of(guarded(local_reading=True)) as client:
        response = await client.get("/thing", headers={"Host": host})

    assert response.status_code == 403
    assert "localhost" in response.json()["detail"]


@pytest.mark.parametrize(
    "host",
    ["localhost:8080", "LOCALHOST", "app.localhost", "127.0.0.1:1", "[::1]:8080", "web", "jobs.example:80"],
)
async def test_a_name_of_this_machine_or_one_that_is_allowed_is_answered(host: str) -> None:
    async with client_of(guarded(local_reading=True, allowed_hosts=["Jobs.example"])) as client:
        response = await client.get("/thing", headers={"Host": host})

    assert response.status_code == 200


async def test_reading_can_be_left_open_and_changing_cannot() -> None:
    async with client_of(
        guarded(open_reading=True), client=STRANGER, base_url="http://evil.example"
    ) as client:
        read = await client.get("/thing")
        changed = await client.post("/thing")

    assert (read.status_code, changed.status_code) == (200, 403)


# With a token


async def test_the_token_allows_reading_and_changing_from_anywhere() -> None:
    async with client_of(guarded(token=TOKEN), client=STRANGER, base_url="http://jobs.example") as client:
        read = await client.get("/thing", headers=BEARER)
        changed = await client.post("/thing", headers=BEARER)
        lower = await client.get("/thing", headers={"Authorization": f"bearer  {TOKEN} "})

    assert (read.status_code, changed.status_code, lower.status_code) == (200, 200, 200)


@pytest.mark.parametrize(
    "given",
    [
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN.upper()}",
        f"Basic {TOKEN}",
        TOKEN,
        "Bearer \xff\xfe",
    ],
)
async def test_any_other_token_is_a_401_even_on_this_machine(given: str) -> None:
    async with client_of(guarded(token=TOKEN)) as client:
        headers = [(b"authorization", given.encode("latin-1"))] if given else []
        read = await client.get("/thing", headers=headers)
        changed = await client.post("/thing", headers=headers)

    assert (read.status_code, changed.status_code) == (401, 401)
    assert read.headers["www-authenticate"] == 'Bearer realm="pgqueue"'
    assert read.headers["content-type"] == "application/problem+json"
    assert TOKEN not in read.text


def test_the_token_and_the_cookie_are_compared_in_constant_time() -> None:
    # What a clock cannot show on a busy machine, the code shows: no secret meets `==`.
    assert "secrets.compare_digest" in inspect.getsource(Access.is_token)
    assert "hmac.compare_digest" in inspect.getsource(sessions.is_valid)
    assert not any(" == " in inspect.getsource(each) for each in (Access.is_token, sessions.is_valid))


@pytest.mark.parametrize(
    "token", ["", " ", "with space", "tab\t", "line\n", "schl\u00fcssel", "\udcff", "\0"]
)
def test_a_token_that_protects_nothing_or_cannot_be_sent_is_refused(token: str) -> None:
    with pytest.raises(ConfigurationError, match="token must be"):
        WebSettings(token=token)


@pytest.mark.parametrize("colour", ["red", "#fff", "#12345g", "#123456;}", ""])
def test_a_colour_is_a_colour(colour: str) -> None:
    with pytest.raises(ConfigurationError, match="colour"):
        WebSettings(colour=colour)


def test_hosts_are_a_list() -> None:
    with pytest.raises(ConfigurationError, match="allowed_hosts"):
        WebSettings(allowed_hosts="jobs.example")


# The cookie of a browser that has logged in


async def test_a_page_of_this_app_may_do_what_the_token_may() -> None:
    async with client_of(guarded(token=TOKEN), client=STRANGER, base_url="https://jobs.example") as client:
        read = await client.get("/thing", headers=cookie_of(TOKEN))
        fetched = await client.post("/thing", headers={**cookie_of(TOKEN), "Sec-Fetch-Site": "same-origin"})
        posted = await client.post("/thing", headers={**cookie_of(TOKEN), "Origin": "https://jobs.example"})

    assert (read.status_code, fetched.status_code, posted.status_code) == (200, 200, 200)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "null"},
        {"Origin": "https://evil.example"},
        {"Origin": "https://jobs.example.evil.example"},
        {"Origin": "https://jobs.example:8443"},
        {"Origin": "jobs.example"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://jobs.example"},
    ],
)
async def test_a_page_of_another_site_may_do_nothing_with_the_cookie(headers: dict[str, str]) -> None:
    async with client_of(guarded(token=TOKEN), client=STRANGER, base_url="https://jobs.example") as client:
        response = await client.post("/thing", headers={**cookie_of(TOKEN), **headers})

    assert response.status_code == 403
    assert "did not come from a page of this app" in response.json()["detail"]


async def test_the_token_itself_needs_no_page() -> None:
    async with client_of(guarded(token=TOKEN), client=STRANGER) as client:
        response = await client.post("/thing", headers={**BEARER, "Sec-Fetch-Site": "cross-site"})

    assert response.status_code == 200


async def test_a_cookie_ends_after_twelve_hours_and_with_its_token() -> None:
    made_at = time.time() - sessions.LASTS - 1
    async with client_of(guarded(token=TOKEN)) as client:
        expired = await client.get("/thing", headers=cookie_of(TOKEN, now=made_at))
        of_another = await client.get("/thing", headers=cookie_of("another-token"))

    assert (expired.status_code, of_another.status_code) == (401, 401)


@given(
    position=st.integers(min_value=0),
    byte=st.characters(codec="ascii", exclude_categories=["Cc"]),
    made=st.integers(0, 2**40),
)
def test_a_cookie_that_was_tampered_with_is_none(position: int, byte: str, made: int) -> None:
    cookie = sessions.make_cookie(TOKEN, now=made)
    place = position % len(cookie)
    tampered = cookie[:place] + byte + cookie[place + 1 :]

    assert sessions.is_valid(TOKEN, cookie, now=made)
    assert sessions.is_valid(TOKEN, tampered, now=0) is (tampered == cookie)


@pytest.mark.parametrize(
    "cookie", ["", ".", "1", "99999999999.", ".0", "x.y", "\udcff.\xff", "9" * 5000 + "."]
)
def test_a_cookie_that_was_made_up_is_none(cookie: str) -> None:
    assert not sessions.is_valid(TOKEN, cookie, now=0)


def test_apps_on_two_ports_do_not_share_a_cookie() -> None:
    assert sessions.cookie_name("staging") != sessions.cookie_name("production")


# The service's own hook


async def test_the_hook_decides_on_each_action_and_resource() -> None:
    asked: list[tuple[str, str]] = []

    def authorize(request: Request, action: str, resource: str) -> bool:
        asked.append((action, resource))
        return request.headers.get("x-user") == "ada"

    async with client_of(
        guarded(authorize=authorize), client=STRANGER, base_url="https://jobs.example"
    ) as client:
        stranger = await client.get("/thing")
        ada = await client.post("/thing", headers={"X-User": "ada"})

    assert (stranger.status_code, ada.status_code) == (403, 200)
    assert asked == [("read", "jobs"), ("cancel", "jobs")]


async def test_an_error_in_the_hook_is_a_refusal_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def authorize(request: Request, action: str, resource: str) -> bool:
        raise RuntimeError("the directory is away: ldap://internal")

    with caplog.at_level(logging.ERROR, "pgqueue.web"):
        async with client_of(guarded(authorize=authorize)) as client:
            response = await client.get("/thing")

    assert response.status_code == 403
    assert "ldap" not in response.text
    assert "ldap://internal" in caplog.text


@pytest.mark.parametrize("answer", [None, 0, 1, "yes", object()])
async def test_an_answer_of_the_hook_that_is_not_true_is_a_refusal(answer: object) -> None:
    async with client_of(guarded(authorize=lambda *_: answer)) as client:
        response = await client.get("/thing")

    assert response.status_code == 403


async def test_the_hook_can_choose_the_response_of_a_refusal() -> None:
    def authorize(request: Request, action: str, resource: str) -> bool:
        raise HTTPException(401, "log in first", {"WWW-Authenticate": "Basic"})

    async with client_of(guarded(authorize=authorize)) as client:
        response = await client.get("/thing")

    assert (response.status_code, response.headers["www-authenticate"]) == (401, "Basic")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "application/json"}, 200),
        ({"Content-Type": "application/x-www-form-urlencoded", "Origin": "https://jobs.example"}, 200),
        ({"Content-Type": "text/plain", "Authorization": "Bearer of-the-service"}, 200),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 403),
        ({"Content-Type": "Text/Plain; charset=utf-8"}, 403),
        ({"Content-Type": "application/json", "Origin": "https://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
async def test_what_another_site_may_have_sent_never_gets_to_the_hook(
    headers: dict[str, str], status: int
) -> None:
    async with client_of(guarded(authorize=lambda *_: True), base_url="https://jobs.example") as client:
        response = await client.post("/thing", headers=headers)

    assert response.status_code == status


async def test_the_token_holds_beside_the_hook() -> None:
    async with client_of(guarded(token=TOKEN, authorize=lambda *_: False), client=STRANGER) as client:
        refused = await client.get("/thing")
        allowed = await client.get("/thing", headers=BEARER)

    assert (refused.status_code, allowed.status_code) == (403, 200)


# Who it was


@pytest.mark.parametrize(
    ("named", "noted"),
    [("ada", "ada"), ("", "http"), ("a\0da", "ada"), ("\udcff", "?"), ("x" * 500, "x" * 200)],
)
async def test_the_service_names_the_actor(named: str, noted: str) -> None:
    async with client_of(guarded(token=TOKEN, actor=lambda _: named)) as client:
        response = await client.post("/thing", headers=BEARER)

    assert response.json() == noted


def test_where_it_does_not_the_door_is_named() -> None:
    access = Access(WebSettings())

    assert access.actor_of(request_of({})) == "http"
    assert access.actor_of(request_of({}), default="dashboard") == "dashboard"


# Every route of the app

OPEN = {"/livez", "/readyz", "/", "/dashboard/login", "/dashboard/logout"}
"""Whether this process lives is for whoever runs it to know; the others lead to pages. None tells of jobs."""


def paths_of(app: Starlette, prefix: str = "") -> set[tuple[str, str]]:
    """Return method and path of each route, with something that fits where one takes it."""
    found: set[tuple[str, str]] = set()
    for route in app.routes:
        if isinstance(route, Mount):
            assert isinstance(route.app, Starlette)
            found |= paths_of(route.app, prefix + route.path)
        elif isinstance(route, Route):
            path = prefix + route.path
            for parameter, convertor in route.param_convertors.items():
                kind = type(convertor).__name__.removesuffix("Convertor").lower()
                value = str(new_id()) if "id" in parameter else "x"
                path = path.replace(f"{{{parameter}:{kind}}}", value).replace(f"{{{parameter}}}", value)
            found |= {(method, path) for method in route.methods or set() if method != "HEAD"}
    return found


def is_open(path: str) -> bool:
    return path in OPEN or path.startswith("/dashboard/static/")


async def test_no_route_answers_without_the_token() -> None:
    async with no_database(token=TOKEN) as app, client_of(app) as client:
        answers = {
            (method, path): await client.request(method, path)
            for method, path in paths_of(app)
            if not is_open(path) and not path.startswith("/dashboard")
        }

    assert ("GET", "/metrics") in answers
    assert {key: answer.status_code for key, answer in answers.items()} == dict.fromkeys(answers, 401)


async def test_no_page_is_shown_without_a_login() -> None:
    async with no_database(token=TOKEN) as app, client_of(app) as client:
        answers = {
            (method, path): await client.request(method, path)
            for method, path in paths_of(app)
            if not is_open(path) and path.startswith("/dashboard")
        }

    leads_to = {answer.headers.get("location", "").partition("?")[0] for answer in answers.values()}
    assert ("POST", "/dashboard/queues/pause") in answers
    assert {key: answer.status_code for key, answer in answers.items()} == dict.fromkeys(answers, 303)
    assert leads_to == {"/dashboard/login"}


async def test_no_route_answers_strangers_where_nothing_is_set() -> None:
    async with no_database() as app, client_of(app, client=STRANGER) as client:
        answers = {
            (method, path): await client.request(method, path)
            for method, path in paths_of(app)
            if not is_open(path)
        }

    assert {key: answer.status_code for key, answer in answers.items()} == dict.fromkeys(answers, 403)


async def test_every_change_is_refused_where_nothing_is_set() -> None:
    async with no_database() as app, client_of(app) as client:
        answers = {
            (method, path): await client.request(method, path)
            for method, path in paths_of(app)
            if method != "GET" and not is_open(path)
        }

    assert {key: answer.status_code for key, answer in answers.items()} == dict.fromkeys(answers, 403)


async def test_liveness_needs_no_permission() -> None:
    async with no_database(token=TOKEN) as app, client_of(app, client=STRANGER) as client:
        alive, ready = await client.get("/livez"), await client.get("/readyz")

    assert (alive.status_code, ready.status_code) == (200, 503)


# Pure decisions


@given(
    site=st.none() | st.sampled_from(["same-origin", "same-site", "cross-site", "none"]) | st.text(),
    origin=st.none() | st.text() | st.sampled_from(["null", "http://a", "https://a:443", "http://a:80"]),
    host=st.none() | st.sampled_from(["a", "a:80", "b"]) | st.text(),
)
def test_only_this_host_is_the_same_origin(site: str | None, origin: str | None, host: str | None) -> None:
    given = {"sec-fetch-site": site, "origin": origin, "host": host}
    raw = [
        (name.encode(), value.encode("utf-8", "replace"))
        for name, value in given.items()
        if value is not None
    ]

    found = origins.origin_of(Request({"type": "http", "headers": raw}))

    if found is Origin.SAME:
        assert site in ("same-origin", "none") or (site is None and origin is not None and host is not None)
    if site is None and origin is None:
        assert found is Origin.UNKNOWN


async def test_a_form_is_shown_to_those_only_who_may_send_it() -> None:
    async with no_database(token=TOKEN, open_reading=True) as app, client_of(app) as client:
        routes = paths_of(app)
        forms = [path for method, path in routes if method == "GET" and ("POST", path) in routes]
        answers = {
            # The preview of a bulk operation is that of a verb.
            path: (await client.get(path, params={"verb": "cancel"})).headers.get("location")
            for path in forms
            if path.startswith("/dashboard") and not is_open(path)
        }

    assert {"/dashboard/enqueue", "/dashboard/schedules/new", "/dashboard/schedules/edit"} <= answers.keys()
    assert [
        path for path, leads_to in answers.items() if not str(leads_to).startswith("/dashboard/login")
    ] == []


# Jobs that belong to somebody


async def test_owners_do_not_see_pages_that_span_all_owners(pgq: PgQueue) -> None:
    app = status_app(pgq, token=TOKEN, open_reading=True, owns=lambda *_: False, actor=lambda _: "ann")

    async with client_of(app) as client:
        paths = ["/dashboard/dead-letters", f"/dashboard/dead-letters/{'0' * 16}"]
        without = [(await client.get(path)).status_code for path in paths]
        with_it = [(await client.get(path, headers=BEARER)).status_code for path in paths]

    assert without == [403, 403]
    assert 403 not in with_it
