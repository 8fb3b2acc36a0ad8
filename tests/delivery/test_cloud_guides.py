"""The guides for those who come from Cloud Tasks and from Azure Functions do what they say."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from kit.endpoint import answer, endpoint
from kit.snippets import run, snippets
from pydantic import BaseModel

import pgqueue
from pgqueue import DeadLetterFilter, JobStatus, PgQueue
from pgqueue.webhooks import BearerToken

pytestmark = pytest.mark.contract("P8.8")


def names_for(pgq: PgQueue, **names: Any) -> dict[str, Any]:
    return {name: getattr(pgqueue, name) for name in pgqueue.__all__} | {"pgq": pgq, **names}


async def fetch_oidc_token() -> tuple[str, float]:
    return "a token of Google's", 3600


@pytest.mark.contract("P8.6")
async def test_the_guide_from_cloud_tasks(pgq: PgQueue) -> None:
    names = names_for(pgq, BearerToken=BearerToken, fetch_oidc_token=fetch_oidc_token)
    declares, operates = snippets("how-to/from-cloud-tasks.md", "python")
    async with endpoint(answer(200, {"ok": True})) as target:
        await run(declares.replace("https://pay.internal", target.url), names)
        again = await names["charge"].options(delay=60, idempotency_key="order-7").enqueue({"order": 7})
        await run(operates, names)
        status = await names["job"].status()
        now = await names["charge"].enqueue({"order": 8})
        async with pgq.worker(queues=["charges"]):
            assert await now.result(timeout=60) == {"status": 200, "body": {"ok": True}}
        [sent] = target.received

    assert again.id == names["job"].id
    assert status == JobStatus.CANCELLED
    assert (sent.path, sent.json, sent.headers["authorization"]) == (
        "/charge",
        {"order": 8},
        "Bearer a token of Google's",
    )


@pytest.mark.contract("P8.7")
async def test_the_guide_from_azure_functions(pgq: PgQueue, capsys: pytest.CaptureFixture[str]) -> None:
    class Order(BaseModel):
        number: int
        quantity: int

    names = names_for(pgq, Order=Order)
    triggers, letters, durable = snippets("how-to/from-azure-functions.md", "python")
    await run(triggers, names)
    await run(durable, names)
    poison = await names["process_order"].options(retry_intervals=[0]).enqueue(Order(number=8, quantity=0))
    async with pgq.worker(queues=["default", "orders"], poll_interval=0.05):
        with anyio.fail_after(60):
            assert await names["job"].result() == "processed 7"
            assert await names["flow"].result() == "receipt of 7, [0, 1, 4], True"
            failed = await pgq.wait(poison.id)

    # After five attempts it is set aside, and nothing else: then it is redriven.
    assert (failed.status, failed.attempt) == (JobStatus.FAILED, 5)
    assert len(await pgq.attempts(poison.id)) == 5
    assert [each.job_id for each in (await pgq.dead_letters(DeadLetterFilter(queue="orders"))).letters] == [
        poison.id
    ]
    await run(letters, names)
    assert await poison.status() == JobStatus.PENDING
    assert capsys.readouterr().out == f"{poison.id} an order of nothing\n"
