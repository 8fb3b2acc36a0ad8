"""Forms about one job: edited while it waits, run before its time, and made by a form of its task's types."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Literal
from uuid import UUID, uuid4

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.html import OWN_PAGE, Element, page_at, parse
from kit.scene import allow
from kit.web_client import client_of
from pydantic import BaseModel, SecretStr

from pgqueue import ConfigurationError, PgQueue
from pgqueue.web import status_app
from pgqueue.web.pages.enqueue_fields import arguments_of, fields_of

SOON = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)


class Colour(Enum):
    RED = "red"


class Address(BaseModel):
    street: str
    number: int = 1


@pytest.fixture
async def client(pgq: PgQueue) -> AsyncIterator[httpx.AsyncClient]:
    @pgq.task(redact=["card"])
    async def charge(order: int, card: str = "") -> None: ...

    @pgq.task(queue="mail")
    async def send(
        to: str,
        size: Literal["s", "l"],
        address: Address,
        *,
        weight: float | None,
        is_gift: bool = False,
        colour: Colour = Colour.RED,
        at: datetime | None = None,
        secret: SecretStr | None = None,
        tags: list[str] = [],  # noqa: B006  # never changed
    ) -> None: ...

    @pgq.task
    async def anything(*things: int) -> None: ...

    async with client_of(status_app(pgq, authorize=allow), headers=OWN_PAGE) as client:
        yield client


async def sent(client: httpx.AsyncClient, path: str, **fields: str) -> httpx.Response:
    return await client.post(f"/dashboard{path}", data=fields)


# Edited, and run now


@pytest.mark.contract("W24")
async def test_a_waiting_job_is_edited_and_run_now(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    job = await pgq.enqueue_by_name("work", a=1, options={"run_at": SOON})
    page = await page_at(client, f"/jobs/{job.id}")
    form = (await page_at(client, f"/jobs/{job.id}/edit")).one("form", method="post")
    inputs = [each.attributes for each in form.all("input")]
    shown = {str(each["name"]): each["value"] or "" for each in inputs}
    shown["arguments"] = form.one("textarea").text
    as_it_was = await sent(client, f"/jobs/{job.id}/edit", **shown)
    at = SOON + timedelta(seconds=7)
    fields = {"queue": "slow", "priority": "3", "arguments": '{"a": 2}', "why": "late"}
    changed = await sent(client, f"/jobs/{job.id}/edit", **fields, run_at=at.strftime("%Y-%m-%dT%H:%M:%S"))
    edited = await job.refresh()
    ran = await sent(client, f"/jobs/{job.id}/run", why="a hurry")

    assert page.all("a", href=f"/dashboard/jobs/{job.id}/edit")
    assert as_it_was.headers["location"].endswith("?done=nothing")
    assert changed.headers["location"].endswith("?done=edited")
    found = (edited.queue, edited.priority, edited.arguments, edited.next_run_at)
    assert found == ("slow", 3, {"a": 2}, at)
    assert ran.headers["location"].endswith("?done=running_now")
    assert await job.status() == "pending"
    assert [each.action for each in await pgq.actions(job.id)] == ["edited", "run_now"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"priority": "many"}, "priority must be a whole number"),
        ({"queue": ""}, "'queue' must be a non-empty string"),
        ({"run_at": "soon"}, "the run time must be like"),
        ({"arguments": "{"}, "the text is not JSON"),
        ({"arguments": '{"order": "x"}'}, "order"),
    ],
)
async def test_what_is_wrong_is_said_and_the_form_keeps_what_was_typed(
    pgq: PgQueue, client: httpx.AsyncClient, fields: dict[str, str], said: str
) -> None:
    @pgq.task
    async def ship(order: int) -> None: ...

    job = await ship.enqueue(1)
    given = {"queue": "default", "priority": "0", "run_at": "", "arguments": '{"order": 1}', **fields}

    response = await sent(client, f"/jobs/{job.id}/edit", **given)

    page = parse(response.text)
    assert response.status_code == 422
    assert said in page.one("p", role="alert").text
    assert page.one("input", name="priority").attributes["value"] == given["priority"]
    assert (await job.refresh()).arguments == {"order": 1}


async def test_secrets_and_jobs_that_have_ended_are_not_edited(
    pgq: PgQueue, client: httpx.AsyncClient
) -> None:
    secret = await pgq.enqueue_by_name("charge", 1, "4111")
    form = await page_at(client, f"/jobs/{secret.id}/edit")
    moved = await sent(client, f"/jobs/{secret.id}/edit", queue="slow", priority="0")
    await secret.cancel()

    assert not form.all("textarea")
    assert "4111" not in form.text
    assert moved.status_code == 303
    assert (await secret.refresh()).queue == "slow"
    assert (
        "a job can only be changed while"
        in (await page_at(client, f"/jobs/{secret.id}/edit", status=409)).text
    )


@pytest.mark.contract("W24")
async def test_programs_edit_a_job_over_http(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    job = await pgq.enqueue_by_name("charge", 1, "4111")

    edited = await client.patch(
        f"/jobs/{job.id}", json={"queue": "slow", "priority": 2, "run_at": SOON.isoformat(), "reason": "a"}
    )
    wrong = await client.patch(f"/jobs/{job.id}", json={"arguments": {"order": "x"}})
    await job.cancel()
    late = await client.patch(f"/jobs/{job.id}", json={"priority": 1})

    assert (edited.status_code, edited.json()["queue"], edited.json()["status"]) == (200, "slow", "scheduled")
    assert (wrong.status_code, late.status_code) == (422, 409)


@pytest.mark.contract("W24")
async def test_a_job_links_to_its_trace(pgq: PgQueue) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    traced = await pgq.enqueue_by_name("work", options={"headers": headers})
    broken = await pgq.enqueue_by_name(
        "work", options={"headers": {"traceparent": "00-javascript:alert-x-01"}}
    )
    app = status_app(pgq, authorize=allow, trace_url="https://tempo.example/trace/{trace_id}?a=b")
    async with client_of(app, headers=OWN_PAGE) as client:
        linked = await page_at(client, f"/jobs/{traced.id}")
        plain = await page_at(client, f"/jobs/{broken.id}")

    [link] = linked.all("a", rel="noopener noreferrer")
    assert (link.attributes["href"], link.text) == (f"https://tempo.example/trace/{trace}?a=b", trace)
    assert not plain.all("a", rel="noopener noreferrer")
    for url in ("javascript:{trace_id}", "https://tempo.example/", "https://{host}/{trace_id}"):
        with pytest.raises(ConfigurationError, match="trace_url must be an address"):
            status_app(pgq, trace_url=url)


# Enqueued


def fields_in(page: Element) -> dict[str, str]:
    """Return the hidden fields of the form."""
    found = [each.attributes for each in page.one("form", method="post").all("input", type="hidden")]
    return {str(each["name"]): str(each["value"]) for each in found}


@pytest.mark.contract("W24")
async def test_a_job_is_made_by_a_form_of_its_tasks_types_and_once(
    pgq: PgQueue, client: httpx.AsyncClient
) -> None:
    tasks = await page_at(client, "/enqueue")
    page = await page_at(client, "/enqueue?task=send")
    labels = {each.text for each in page.one("form", method="post").all("label")}
    hidden = fields_in(page)
    fields = {
        "arg.to": "42",
        "arg.size": '"l"',
        "arg.address": '{"street": "Elm"}',
        "arg.weight": "",
        "arg.is_gift": "true",
        "arg.colour": "",
        "arg.at": "2026-01-31T09:00:00Z",
        "arg.secret": "hunter2",
        "arg.tags": '["a"]',
        "delay": "60",
        "priority": "5",
        "key": "order/7",
    }
    made = [await sent(client, "/enqueue", **hidden, **fields) for _ in range(2)]
    job_id = UUID(made[0].headers["location"].split("/")[-1].partition("?")[0])
    job = await pgq.get(job_id)

    assert {each.text for each in tasks.one("ul", **{"class": "stack"}).all("a")} == {
        "anything",
        "charge",
        "send",
    }
    assert {"to", "weight (empty: null)", "is_gift (optional: false)"} <= labels
    assert made[0].headers["location"] == made[1].headers["location"]
    assert (job.queue, job.priority, job.key, job.status) == ("mail", 5, "order/7", "scheduled")
    assert job.arguments == {
        "to": "42",
        "size": "l",
        "address": {"street": "Elm", "number": 1},
        "weight": None,
        "is_gift": True,
        "at": "2026-01-31T09:00:00Z",
        "secret": "hunter2",
        "tags": ["a"],
    }


@pytest.mark.contract("W24")
async def test_what_is_wrong_is_said_beside_its_field(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    response = await sent(
        client,
        "/enqueue",
        task="send",
        **{"arg.to": "a", "arg.size": '"xl"', "arg.address": '{"street": 7}', "arg.weight": "1"},
    )
    unread = await sent(client, "/enqueue", task="send", **{"arg.weight": "heavy", "arg.address": "{"})
    options = await sent(client, "/enqueue", task="charge", **{"arg.order": "1", "delay": "soon"})

    page, before = parse(response.text), parse(unread.text)

    def beside(page: Element) -> dict[str, str]:
        marked = [*page.all("input"), *page.all("select"), *page.all("textarea")]
        named = {each.attributes.get("aria-describedby"): each.attributes["name"] for each in marked}
        said = [each for each in page.all("p") if each.attributes.get("id") in named.keys() - {None}]
        return {str(named[each.attributes["id"]]): each.text for each in said}

    assert {response.status_code, unread.status_code, options.status_code} == {422}
    assert set(beside(page)) == {"arg.size", "arg.address"}
    assert beside(page)["arg.address"].startswith("street: ")
    assert beside(before) == {
        "arg.size": "is required",
        "arg.weight": "must be a number",
        "arg.address": "must be a JSON object",
    }
    assert page.one("input", name="arg.to").attributes["value"] == "a"
    assert "delay must be a number, got 'soon'" in parse(options.text).one("p", role="alert").text
    assert (await pgq.jobs()).jobs == []


async def test_a_task_without_names_takes_json_and_one_of_others_is_not_offered(
    pgq: PgQueue, client: httpx.AsyncClient
) -> None:
    page = await page_at(client, "/enqueue?task=anything")
    made = await sent(client, "/enqueue", **fields_in(page), arguments="[1, 2]")
    refused = await page_at(client, "/enqueue?task=elsewhere", status=422)
    posted = await sent(client, "/enqueue", task="elsewhere", arguments="{}")

    [job] = (await pgq.jobs()).jobs
    assert page.all("textarea", name="arguments")
    assert (made.status_code, job.arguments) == (303, {"things": [1, 2]})
    assert "declares no task 'elsewhere'" in refused.text
    assert posted.status_code == 422


async def test_a_task_is_enqueued_by_a_form_only_by_whom_the_hook_lets(pgq: PgQueue) -> None:
    @pgq.task
    async def work() -> None: ...

    asked: list[tuple[str, str]] = []

    def hook(request: Any, action: str, resource: str) -> bool:
        asked.append((action, resource))
        return resource not in ("queue:vip", "priority:9")

    async with client_of(status_app(pgq, authorize=hook), headers=OWN_PAGE) as client:
        refused = [
            (await sent(client, "/enqueue", task="work", form=str(uuid4()), **option)).status_code
            for option in ({"queue": "vip"}, {"priority": "9"})
        ]
        foreign = await client.post(
            "/dashboard/enqueue",
            data={"task": "work"},
            headers={"Sec-Fetch-Site": "cross-site", "Origin": "http://e"},
        )
    async with client_of(status_app(pgq, local_reading=True), headers=OWN_PAGE) as reader:
        closed = [
            (await reader.get("/dashboard/enqueue")).status_code,
            (await sent(reader, "/enqueue")).status_code,
        ]
        listed = await page_at(reader, "/jobs")

    assert (refused, foreign.status_code, closed) == ([403, 403], 403, [403, 403])
    assert asked[:3] == [("enqueue", "jobs"), ("enqueue", "task:work"), ("enqueue", "queue:vip")]
    assert not listed.all("a", href="/dashboard/enqueue")
    assert (await pgq.jobs()).jobs == []


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=5),
        st.recursive(
            st.sampled_from(
                [
                    {"type": "string"},
                    {"type": "integer"},
                    {"type": "boolean"},
                    {"type": "null"},
                    {},
                    {"$ref": "#/$defs/none"},
                    {"enum": ["a", 1]},
                    {"const": None},
                    {"type": ["string", "null"]},
                ]
            ),
            lambda inner: st.lists(inner, max_size=3).map(lambda each: {"anyOf": each}),
            max_leaves=5,
        ),
        max_size=5,
    ),
    st.text(max_size=9),
)
def test_any_schema_has_a_form_and_any_text_an_answer(properties: dict[str, Any], typed: str) -> None:
    fields = fields_of({"properties": properties, "required": list(properties)[:2]})
    assert fields is not None

    arguments, wrong = arguments_of(fields, {f"arg.{name}": typed for name in properties})

    assert {*arguments, *wrong} <= properties.keys()
    assert not arguments.keys() & wrong.keys()
    json.dumps(arguments)
