"""The founding document's samples for Celery run with only their import changed, worker included."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from kit.processes import Processes

from pgqueue import JobStatus, PgQueue
from pgqueue.blocking import BlockingPgQueue
from pgqueue.compat import ForeignAddressWarning
from pgqueue.testing import Databases

pytestmark = pytest.mark.contract("P8.11", "P8.8")

PROGRAMS = Path(__file__).parent / "programs"


@dataclass
class Scene:
    """The samples imported here, and a worker process that runs them."""

    tasks: Any
    notes: Path
    client: BlockingPgQueue
    processes: Processes
    worker: Any

    def noted(self, key: str) -> list[Any]:
        """Return what the services noted."""
        path = self.notes / key
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def wait_to_retry(self, result: Any, attempt: int) -> timedelta:
        """Wait until a task waits for a retry; return how long it waits, and have it run now."""
        for job in self.client.watch(result.id):
            if job.status is JobStatus.SCHEDULED and job.attempt == attempt:
                break
        assert result.state == "RETRY"
        [*_, last] = self.client.attempts(result.id)
        assert job.next_run_at is not None
        assert self.client.run_now(result.id)
        return job.next_run_at - last.ended_at


@pytest.fixture(scope="module")
def scene(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("founding")
    notes = folder / "notes"
    notes.mkdir()
    source = (PROGRAMS / "founding.py").read_text(encoding="utf-8")
    (folder / "tasks.py").write_text(
        source.replace("from celery import", "from pgqueue.compat.celery import"), encoding="utf-8"
    )
    (folder / "services.py").write_text((PROGRAMS / "services.py").read_text(encoding="utf-8"))
    dsn = databases.clone()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGQUEUE_DSN", dsn)
        patch.setenv("SERVICES_NOTES", str(notes))
        patch.syspath_prepend(str(folder))
        with ExitStack() as stack:
            stack.callback(databases.drop, dsn)
            with pytest.warns(ForeignAddressWarning) as caught:
                tasks = importlib.import_module("tasks")
            assert len(caught) == 1
            stack.callback(sys.modules.pop, "services")
            stack.callback(sys.modules.pop, "tasks")
            stack.callback(tasks.app.close)
            processes = Processes(folder, dsn)
            stack.callback(processes.end)
            processes.environment["PGQUEUE_DSN"] = dsn
            worker = processes.start("worker", "tasks:app")
            yield Scene(tasks, notes, tasks.app.client, processes, worker)


def test_the_quick_start_sends_an_email(scene: Scene) -> None:
    result = scene.tasks.send_email.delay("user@example.com", "Welcome!", "Thanks for signing up")

    assert result.get(timeout=180) is None
    assert scene.noted("email") == [["user@example.com", "Welcome!", "Thanks for signing up"]]
    assert scene.processes.log(scene.worker).count("redis:// address: ignored") == 1


def test_pattern_2_retries_what_may_pass_and_returns_what_was_declined(scene: Scene) -> None:
    pay = scene.tasks.process_payment

    declined = pay.delay("declined").get(timeout=180)
    transient = pay.delay("transient")
    waits = [scene.wait_to_retry(transient, attempt) for attempt in (1, 2)]
    connection = pay.delay("connection")
    waits.append(scene.wait_to_retry(connection, 1))

    assert declined == {"status": "declined", "reason": "no money"}
    assert transient.get(timeout=180) == {"status": "success", "transaction_id": "tx-transient"}
    assert connection.get(timeout=180) == {"status": "success", "transaction_id": "tx-connection"}
    # 2 ** retries minutes; and the default_retry_delay for what is retried by itself.
    assert [round(each.total_seconds() / 60) for each in waits] == [1, 2, 1]
    definition = scene.tasks.app.pgqueue.registry.get("tasks.process_payment")
    assert definition is not None
    assert dict(definition.options) | {"timeout": 3600, "soft_timeout": 3000, "acks_late": True} == dict(
        definition.options
    )


def test_pattern_3_charges_an_order_once(scene: Scene) -> None:
    for _ in range(2):
        scene.tasks.process_order.delay("7").get(timeout=180)

    assert scene.noted("provider") == [[70, "order-7"]]
    assert scene.noted("order 7") == ["completed"]
    assert ["Order already processed", {"order_id": "7"}] in scene.noted("log")


def test_pattern_5_moves_a_webhook_to_the_dead_letter_queue_at_the_end(scene: Scene) -> None:
    result = scene.tasks.process_webhook.delay("hook-1", {"to": "shop"})

    waits = [scene.wait_to_retry(result, attempt) for attempt in (1, 2, 3)]
    assert result.get(timeout=180) is None
    works = scene.tasks.process_webhook.delay("hook-2", {"works": True}).get(timeout=180)

    assert [round(each.total_seconds() / 60) for each in waits] == [1, 2, 4]
    [letter] = scene.noted("dead letters")
    assert letter.pop("failed_at")
    assert letter == {
        "task": "process_webhook",
        "webhook_id": "hook-1",
        "payload": {"to": "shop"},
        "error": "refused",
        "attempts": 4,
    }
    assert works is None


def test_pattern_7_composes_tasks(scene: Scene) -> None:
    results = list(
        scene.tasks.compose(1, "warehouse", "ann@x.org", "+33", {"event": "click"}, [1, 2, 3], "batch-9")
    )

    assert [each.get(timeout=180) for each in results] == [
        {"warehouse": [10, 20, 30]},
        ["mail", "sms", "click"],
        [12, "batch-9"],
    ]
    assert scene.noted("completed") == [[[2, 4, 6], "batch-9"]]


async def test_the_database_of_an_app_is_migrated_from_the_command_line(
    tmp_path: Path, empty_dsn: str
) -> None:
    (tmp_path / "an_app.py").write_text(
        f"from pgqueue.compat.celery import Celery\napp = Celery('x', broker={empty_dsn!r})\n"
    )
    processes = Processes(tmp_path, empty_dsn)
    try:
        code, _, stderr = await processes.run("migrate", "--app", "an_app:app")
    finally:
        processes.end()

    assert code == 0, stderr
    async with PgQueue(empty_dsn) as pgq:
        await pgq.check()
