"""Every parameter over HTTP is taken or refused, and no page breaks: the matrix is the API's own document."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from kit.web_client import client_of

from pgqueue import PgQueue
from pgqueue.web import status_app
from pgqueue.web.api.openapi import describe
from pgqueue.web.settings import WebSettings

TOKEN = "correct-horse-battery"
FAR = "\N{GRINNING FACE}"
AS_JSON = {"Content-Type": "application/json"}
PAGES = [
    "/jobs", "/queues", "/tasks", "/dead-letters", "/dashboard/jobs", "/dashboard/queues",
    "/dashboard/dead-letters", "/schedules", "/dashboard/schedules",
]  # fmt: skip

JSON = [
    '""', '"a\\u0000b"', '"\\ud800"', json.dumps(FAR * 255), json.dumps(FAR * 1001), "-1", "0", "2147483648",
    "9" * 4300, "9" * 5000, "1e-320", "1e400", "-1e400", "NaN", "Infinity", "1e300",
    "true", "null", "[]", "{}",
    '["\\ud800"]', '["a\\u0000"]', json.dumps(["x"] * 101), json.dumps({str(n): "x" for n in range(101)}),
    '"0000-01-01T00:00:00Z"', '"0001-01-01T00:00:00+14:00"', '"9999-12-31T23:59:59.999999Z"',
    '"9999-12-31T23:59:59-14:00"', '"9999-12-30T00:00:00Z"', '"20000-01-01T00:00:00Z"', '"infinity"',
]  # fmt: skip
QUERIES = [
    "", "%00", "%ED%A0%80", "a" * 2000, "-1", "0", "9" * 30, "9" * 5000, "1e400", "nan", "inf",
    "9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00%2B14:00", "infinity",
]  # fmt: skip


Places = list[tuple[str, str]]
"""Parameters and fields of an operation: where each is, and its name."""


def requests() -> dict[str, tuple[str, str, Places]]:
    """Return each operation of the API: its method, its path, and what it takes."""
    pgq = PgQueue("postgresql://nowhere/app")
    document = describe(status_app(pgq, token=TOKEN).routes, WebSettings(token=TOKEN))
    found: dict[str, tuple[str, str, Places]] = {}
    for path, operations in document["paths"].items():
        if path.endswith("/events"):
            # A stream has no end.
            continue
        for method, operation in operations.items():
            places = [
                (each["in"], each["name"])
                for each in (resolved(one, document) for one in operation.get("parameters", ()))
                if each["in"] in ("query", "path")
            ]
            if "requestBody" in operation:
                schema = operation["requestBody"]["content"]["application/json"]["schema"]
                places += [("body", each) for each in fields_of(resolved(schema, document), document)]
            if places:
                found[operation["operationId"]] = method, path, places
    return found


def resolved(schema: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    """Return what a schema refers to."""
    while "$ref" in schema:
        found: Any = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        schema = found
    return schema


def fields_of(schema: dict[str, Any], document: dict[str, Any], before: str = "") -> Iterator[str]:
    """Yield the names of a schema's fields, those of objects in it as well."""
    for name, each in schema.get("properties", {}).items():
        yield before + name
        yield from fields_of(resolved(each, document), document, f"{before}{name}.")


def body_with(field: str, value: str, base: dict[str, Any]) -> str:
    """Return a body in which *field* has *value*, which is JSON, or is meant to be."""
    *above, last = field.split(".")
    text = f"{json.dumps(last)}: {value}"
    for name in reversed(above):
        text = f"{json.dumps(name)}: {{{text}}}"
    rest = [f"{json.dumps(name)}: {json.dumps(each)}" for name, each in base.items() if name != field]
    return "{" + ", ".join([*rest, text]) + "}"


REQUESTS = requests()


@pytest.mark.contract("W9")
@pytest.mark.parametrize("operation", REQUESTS)
async def test_every_parameter_over_http_is_taken_or_refused_and_no_page_breaks(
    operation: str, pgq: PgQueue
) -> None:
    method, path, places = REQUESTS[operation]
    bases: dict[str, dict[str, Any]] = {
        "submit_job": {"task": "fail"},
        "create_schedule": {"name": "made", "task": "fail", "every": 60},
        "edit_schedule": {"task": "fail"},
    }
    base = bases.get(operation, {})
    if path.endswith("/priority"):
        base = {"priority": 1}

    @pgq.task(max_retries=0)
    async def fail() -> None:
        raise ValueError

    job = await fail.enqueue()
    await pgq.schedules.create("n", fail.s(), every=60)
    async with pgq.worker():
        await pgq.wait(job.id)

    async with client_of(
        status_app(pgq, token=TOKEN), headers={"Authorization": f"Bearer {TOKEN}"}
    ) as client:
        for place, name in places:
            for value in JSON if place == "body" else QUERIES:
                url = path.replace(f"{{{name}}}", value or "%20") if place == "path" else path
                url = url.replace("{id}", str(job.id)).replace("{name}", "fail").replace("{fingerprint}", "f")
                url = url.replace("{schedule}", "n")
                if place == "query":
                    url += f"?{name}={value}"
                content = body_with(name, value, base) if place == "body" else None
                answer = await client.request(
                    method.upper(), url, content=content, headers=AS_JSON if content else {}
                )
                about = f"{name}={value[:60]}: {answer.status_code} {answer.text[:300]}"
                assert answer.status_code < 500, about
                if operation == "submit_job" and answer.status_code == 202:
                    at = answer.json()["poll_url"]
                    assert (await client.get(at)).status_code == 200, about
                    assert (await client.get(f"/dashboard{at}")).status_code == 200, about
                if operation == "create_schedule" and answer.status_code == 201:
                    assert (await client.get(answer.headers["location"])).status_code == 200, about
                    for page in PAGES:
                        assert (await client.get(page)).status_code == 200, (page, about)
                    assert (await client.delete(answer.headers["location"])).status_code == 204, about
        for page in PAGES:
            assert (await client.get(page)).status_code == 200, page
