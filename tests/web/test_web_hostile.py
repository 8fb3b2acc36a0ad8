"""Whatever a job says stays text: nothing of it is run, obeyed or lost on its way through the status app."""

from __future__ import annotations

import json

import pytest
from kit.web_client import client_of

from pgqueue import PgQueue
from pgqueue.web import status_app

TOKEN = "correct-horse-battery"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
HOSTILE = {
    "markup": "<script>alert(1)</script><img src=x onerror=alert(1)>\"'`--></title>",
    "template": "{{ 7 * 7 }}{% raw %}${7*7}",
    "bidi": "\u202egnp.exe\u2066\u2069\u200b\ufeff",
    "controls": "\x1b[31m\x07\x08\x7f\x85\u2028\u2029\r\nX-Injected: yes",
    "long": "a" * 100_000,
    "combining": "e" + "\u0301" * 5_000,
    "beyond": "\U0001f600\U0010ffff\ufffe",
    "nothing": "",
    "nul-like": "\\u0000\\x00%00",
}


@pytest.mark.parametrize("kind", HOSTILE)
async def test_hostile_texts_come_through_as_they_are_and_as_json(pgq: PgQueue, kind: str) -> None:
    text = HOSTILE[kind]
    # Names are bounded; a task's may be anything else.
    name = text[:100] or "-"

    @pgq.task(name=name, max_retries=0)
    async def fail(what: str, more: dict[str, str]) -> None:
        raise ValueError(what)

    job = await fail.options(queue=name, tags=[name], key=name).enqueue(text, {text: text})
    async with pgq.worker(queues=[name]):
        await pgq.wait(job.id)

    async with client_of(status_app(pgq, token=TOKEN), headers=HEADERS) as client:
        shown = await client.get(f"/jobs/{job.id}")
        listed = await client.get("/jobs", params={"tag": name})
        dead = await client.get(f"/dead-letters/{job.id}")
        page = await client.get(f"/dashboard/jobs/{job.id}")

    assert [each.status_code for each in (shown, listed, dead, page)] == [200, 200, 200, 200]
    assert {each.headers["content-type"] for each in (shown, listed, dead)} == {"application/json"}
    assert (shown.json()["task"], shown.json()["queue"]) == (name, name)
    assert shown.json()["error"]["message"] == (await job.refresh()).error.message  # type: ignore[union-attr]  # it failed
    assert [each["job_id"] for each in listed.json()["jobs"]] == [str(job.id)]
    assert dead.json()["job"]["arguments"] == {"what": text, "more": {text: text}}
    assert "x-injected" not in {name.lower() for each in (shown, listed, dead, page) for name in each.headers}
    assert "<script>alert" not in page.text
    assert "<img src=x" not in page.text


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"reason": "a\0b"}),
        '{"reason": "\\ud800"}',
        '{"reason": "' + "x" * 5000 + '"}',
        '{"reason": 7}',
        '{"reason": "a", "reason": "b"}',
        '{"__proto__": {}}',
        "[" * 100_000,
        '{"reason": NaN}',
        "\ufeff{}",
        "null",
    ],
)
async def test_a_hostile_body_is_a_422_and_changes_nothing(pgq: PgQueue, body: str) -> None:
    job = await pgq.enqueue_by_name("send")

    async with client_of(status_app(pgq, token=TOKEN), headers=HEADERS) as client:
        response = await client.post(
            "/queues/default/pause", content=body.encode(), headers={"Content-Type": "application/json"}
        )

    assert (response.status_code, response.headers["content-type"]) == (422, "application/problem+json")
    assert list(await pgq.settings()) == []
    assert await job.status() == "pending"


@pytest.mark.parametrize(
    "name", ["%00", "%ED%A0%80", "%FF", "..%2F..%2Fetc", "%E2%80%AE", "%3Cscript%3E", "a" * 300]
)
async def test_a_hostile_name_in_the_address_is_no_more_than_unknown(pgq: PgQueue, name: str) -> None:
    async with client_of(status_app(pgq, token=TOKEN), headers=HEADERS) as client:
        responses = [
            await client.get(f"/{where}/{name}") for where in ("jobs", "queues", "dead-letters", "redrives")
        ]

    assert {each.status_code for each in responses} <= {404, 422}
    assert {each.headers["content-type"] for each in responses} == {"application/problem+json"}
