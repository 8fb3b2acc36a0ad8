"""The document of the API is true: of every route, and of what is answered to whatever is sent."""

from __future__ import annotations

import json

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from pgqueue import PgQueue
from pgqueue.model.documents import JobDocument
from pgqueue.options.levels import DEFAULTS, read_options
from pgqueue.options.table import AT, Level
from pgqueue.web import status_app
from pgqueue.web.api.openapi import describe
from pgqueue.web.api.operations import OPERATIONS
from pgqueue.web.settings import WebSettings


def test_every_route_is_described_and_nothing_else_is() -> None:
    app = status_app(PgQueue("postgresql://nowhere/app"), local_reading=True)

    # Pages are for people.
    routes = [
        route.name
        for route in app.routes
        if isinstance(route, Route) and route.path != "/" and not route.path.startswith("/dashboard")
    ]

    assert sorted(routes) == sorted(OPERATIONS)


async def test_the_document_says_where_the_app_is_and_what_it_asks_for() -> None:
    app = status_app(PgQueue("postgresql://nowhere/app"), token="a-secret-for-tests", name="staging")
    outer = Starlette(routes=[Mount("/queue", app=app)])
    headers = {"Authorization": "Bearer a-secret-for-tests"}

    transport = httpx.ASGITransport(outer)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
        document = (await client.get("/queue/openapi.json")).json()

    assert document["openapi"] == "3.1.0"
    assert document["info"]["title"] == "staging"
    assert document["servers"] == [{"url": "/queue"}]
    assert document["components"]["securitySchemes"] == {"token": {"type": "http", "scheme": "bearer"}}
    listing = document["paths"]["/jobs"]["get"]
    assert [parameter["name"] for parameter in listing["parameters"]][:3] == ["status", "task", "queue"]
    assert listing["security"] == [{"token": []}]
    assert document["paths"]["/livez"]["get"]["security"] == []


def test_responses_are_described_by_the_types_that_functions_return() -> None:
    app = status_app(PgQueue("postgresql://nowhere/app"), local_reading=True)

    job = describe(app.routes, WebSettings())["components"]["schemas"]["JobDocument"]

    assert set(job["required"]) == set(job["properties"]) == set(JobDocument.__annotations__)
    assert job["additionalProperties"] is False
    assert job["properties"]["created_at"] == {"type": "string", "format": "date-time"}
    assert job["properties"]["error"]["description"] == "Null unless the job failed."


@pytest.mark.parametrize(
    ("body", "level"), [("AttemptOptionsBody", Level.RUN_TIME), ("SubmitBody", Level.HTTP)]
)
def test_the_document_has_each_option_with_the_default_that_holds(body: str, level: Level) -> None:
    app = status_app(PgQueue("postgresql://nowhere/app"), local_reading=True)
    properties = describe(app.routes, WebSettings())["components"]["schemas"][body]["properties"]

    shown = {name: properties[name]["default"] for name in AT[level]}

    assert shown == {
        name: list(option.default) if isinstance(option.default, tuple) else option.default
        for name, option in AT[level].items()
    }
    assert (shown["timeout"], shown["soft_timeout"]) == (3600, 3000)
    assert (shown["max_retries"], shown["retry_backoff"], shown["max_losses"]) == (3, 1, 3)


@pytest.mark.parametrize("level", [Level.RUN_TIME, Level.HTTP])
def test_a_default_in_the_document_may_be_sent_and_changes_nothing(level: Level) -> None:
    defaults = json.loads(json.dumps({name: option.default for name, option in AT[level].items()}))

    sent = read_options("a request", defaults, level)

    assert {name: sent[name] for name in sent} == {name: DEFAULTS[name] for name in sent}


def test_the_document_says_what_each_option_means_as_editors_do() -> None:
    app = status_app(PgQueue("postgresql://nowhere/app"), local_reading=True)
    properties = describe(app.routes, WebSettings())["components"]["schemas"]["SubmitBody"]["properties"]

    assert properties["ignore_result"]["description"] == "true: do not store the result."
    assert [name for name in AT[Level.HTTP] if not properties[name].get("description")] == []
