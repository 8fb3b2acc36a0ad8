"""All pages alike: they can be read, hostile texts stay texts, and what is refused or fails is a page too."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from uuid import UUID

import httpx
import pytest
from kit import inside
from kit.dead import two_failed
from kit.faults import lossy_proxy
from kit.html import OWN_PAGE, page_at, parse
from kit.scene import BIDI, MARKUP, allow, lively
from kit.web_client import client_of
from starlette.applications import Starlette
from starlette.routing import Mount

from pgqueue import JobStatus, PgQueue
from pgqueue.errors import ConfigurationError
from pgqueue.web import status_app


@pytest.fixture
async def client(pgq: PgQueue) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(status_app(pgq, authorize=allow), headers=OWN_PAGE) as client:
        yield client


async def send(client: httpx.AsyncClient, path: str, **fields: str) -> httpx.Response:
    return await client.post(f"/dashboard{path}", data=fields)


async def test_every_page_can_be_read_whatever_jobs_there_are(
    pgq: PgQueue, client: httpx.AsyncClient
) -> None:
    async with lively(pgq) as scene:
        for path in [
            "/",
            "/queues",
            "/workers",
            "/jobs",
            *(f"/jobs/{job.id}" for job in vars(scene).values() if hasattr(job, "id")),
            "/dead-letters",
            "/dead-letters/redrive?all=1",
            "/dead-letters/discard?all=1",
        ]:
            page = await page_at(client, path)

            assert len(page.all("h1")) == 1, path
            assert page.one("head").one("title").text.endswith("· pgqueue")
            assert page.one("a", **{"class": "skip"}).attributes["href"] == "#main"
            assert not page.all("style"), path
            assert [script.attributes["src"] for script in page.all("script")] == [
                f"/dashboard/static/{name}.js" for name in ("local", "live", "keys", "pick")
            ], path


async def test_hostile_texts_in_a_job_are_shown_as_text(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    async with lively(pgq) as scene:
        job = await page_at(client, f"/jobs/{scene.hostile.id}")
        jobs = await client.get("/dashboard/jobs", params={"key": BIDI})
        groups = await client.get("/dashboard/dead-letters")

    arguments = job.one("pre", **{"aria-label": "Arguments"})
    assert arguments.one("bdi").text == '{ "text": "' + MARKUP + '", "other": "invoice\\u202egnp.exe" }'
    assert job.one("h1").one("bdi").text == f"task {MARKUP}"
    for text in (jobs.text, groups.text):
        page = parse(text)
        assert MARKUP in page.one("main").text
        assert not page.all("img")
        assert len(page.all("script")) == 4


async def test_without_jobs_the_pages_say_what_to_do(client: httpx.AsyncClient) -> None:
    jobs = await page_at(client, "/jobs")
    letters = await page_at(client, "/dead-letters")

    assert "No jobs yet" in jobs.one("main").text
    assert "enqueue(" in jobs.one("main").text
    assert "No dead letters" in letters.one("main").text


async def test_an_error_is_a_page_with_the_right_status(client: httpx.AsyncClient) -> None:
    for path, status, words in [
        ("/jobs/7", 422, "is not a job id"),
        (f"/jobs/{UUID(int=0)}", 404, "there is no job"),
        ("/nowhere", 404, "GET /dashboard/nowhere"),
        ("/jobs/%00", 422, "is not a job id"),
        (f"/redrives/{UUID(int=0)}", 404, "there is no mass redrive"),
        ("/dead-letters?task=%00", 422, "task contains a NUL character"),
        ("/dead-letters/abc?cursor=zzz", 422, "invalid cursor"),
    ]:
        page = await page_at(client, path, status=status)

        assert words in page.one("main").text
        assert page.all("a", href="/dashboard/jobs")


async def test_a_malformed_form_changes_nothing(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    @pgq.task
    async def work() -> None: ...

    job = await work.enqueue()
    path = f"/dashboard/jobs/{job.id}/cancel"
    form = {"Content-Type": "application/x-www-form-urlencoded"}

    answers = [
        await client.post(path, json={"why": "x"}),
        await client.post(path, content=b"why=" + b"x" * 100_000, headers=form),
        await client.post(path, content=b"why=%ff", headers=form),
        await client.post(path, content=b"why=%00", headers=form),
        await client.post(path, data={"why": "x" * 501}),
        await client.get(path),
    ]

    assert [each.status_code for each in answers] == [415, 413, 422, 422, 422, 405]
    assert all(each.headers["content-type"].startswith("text/html") for each in answers)
    assert await job.status() is JobStatus.PENDING


async def test_nothing_is_changed_without_permission(pgq: PgQueue) -> None:
    one, _ = await two_failed(pgq)

    async with client_of(status_app(pgq, local_reading=True), headers=OWN_PAGE) as client:
        answers = [
            await send(client, f"/jobs/{one}/redrive"),
            await send(client, f"/jobs/{one}/discard"),
            await send(client, "/dead-letters/discard", failed_before="2030-01-01T00:00+00:00"),
        ]

    assert [each.status_code for each in answers] == [403] * 3
    assert parse(answers[0].text).one("h1").text == "Not allowed"
    assert len((await pgq.dead_letters()).letters) == 2


async def test_another_owners_job_is_not_found(pgq: PgQueue) -> None:
    one, two = await two_failed(pgq)
    app = status_app(pgq, authorize=allow, owns=lambda _, job: job.id == one, actor=lambda _: "ann")

    async with client_of(app, headers=OWN_PAGE) as client:
        mine = await page_at(client, f"/jobs/{one}")
        await page_at(client, f"/jobs/{two}", status=404)
        jobs = await client.get("/dashboard/jobs")
        theirs = await send(client, f"/jobs/{two}/discard")
        many = await send(client, "/dead-letters/discard", failed_before="2030-01-01T00:00+00:00")
        preview = await client.get("/dashboard/dead-letters/discard?all=1")

    assert mine.one("h1").text == "fail"
    assert str(one) in jobs.text
    assert str(two) not in jobs.text
    assert (theirs.status_code, many.status_code, preview.status_code) == (404, 403, 403)
    assert len((await pgq.dead_letters()).letters) == 2


async def test_links_lead_to_where_the_app_is_mounted(pgq: PgQueue) -> None:
    outer = Starlette(routes=[Mount("/ops/queue", app=status_app(pgq, authorize=allow))])
    job = await pgq.enqueue_by_name("unknown")

    async with client_of(outer, headers=OWN_PAGE) as client:
        home = await client.get("/ops/queue/")
        page = parse((await client.get("/ops/queue/dashboard/jobs")).text)
        posted = await client.post(f"/ops/queue/dashboard/jobs/{job.id}/cancel")
        style = await client.get(str(page.all("link", rel="stylesheet")[0].attributes["href"]))

    assert home.headers["location"] == "/ops/queue/dashboard/"
    links = [str(link.attributes["href"]) for link in page.all("a")]
    assert all(link.startswith(("/ops/queue/dashboard/", "#")) for link in links)
    assert page.one("body").attributes["data-events"] == "/ops/queue/events"
    assert posted.headers["location"].startswith("/ops/queue/dashboard/jobs/")
    assert style.status_code == 200


async def test_files_are_sent_once(client: httpx.AsyncClient) -> None:
    for name, kind in [
        ("style.css", "text/css"),
        ("local.js", "text/javascript"),
        ("keys.js", "text/javascript"),
        ("live.js", "text/javascript"),
        ("icon.svg", "image/svg+xml"),
    ]:
        first = await client.get(f"/dashboard/static/{name}")
        second = await client.get(
            f"/dashboard/static/{name}", headers={"If-None-Match": f'"x", {first.headers["etag"]}'}
        )

        assert first.headers["content-type"].startswith(kind)
        assert (first.status_code, second.status_code, second.content) == (200, 304, b"")


async def test_an_instance_shows_its_name_and_colour(pgq: PgQueue) -> None:
    async with client_of(
        status_app(pgq, local_reading=True, name="Staging <1>", colour="#ffd400"), headers=OWN_PAGE
    ) as client:
        page = await page_at(client, "/jobs")
        style = await client.get("/dashboard/static/instance.css")

    assert page.one("div", **{"class": "band-inner"}).text == "Instance: Staging <1> read-only"
    assert style.text == ":root { --band: #ffd400; --on-band: #111111; }\n"


async def test_without_jinja2_there_is_no_dashboard(pgq: PgQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)

    async with client_of(status_app(pgq, local_reading=True), headers=OWN_PAGE) as client:
        response = await client.get("/dashboard/jobs")
    with pytest.raises(ConfigurationError, match=r"pip install 'pgqueue-asyncio\[web\]'"):
        status_app(pgq, local_reading=True, dashboard=True)

    assert response.status_code == 404


async def test_a_dashboard_can_be_left_out(pgq: PgQueue) -> None:
    async with client_of(status_app(pgq, local_reading=True, dashboard=False), headers=OWN_PAGE) as client:
        response = await client.get("/dashboard/jobs")

    assert (response.status_code, response.headers["content-type"]) == (404, "application/problem+json")


async def test_an_unavailable_database_is_a_page_too(dsn: str) -> None:
    async with lossy_proxy(dsn) as proxy:
        pgq = PgQueue(proxy.dsn)
        await pgq.open()
    inside.database(pgq).connect_timeout = 0.2
    try:
        async with client_of(status_app(pgq, local_reading=True), headers=OWN_PAGE) as client:
            page = await page_at(client, "/jobs?status=failed", status=503)
    finally:
        await pgq.close()

    assert page.one("h1").text == "Temporarily unavailable"
    # The overview is as far away: the same page is asked for again.
    assert page.one("main").one("a").attributes["href"] == ""
