"""A real Prometheus scrapes a real worker and the status app, and is asked what it has seen."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from kit.alerts import ALERTS, rules
from kit.processes import DEADLINE, address_of, processes_in
from kit.programs import find_program
from kit.waiting import eventually

from pgqueue import DeadLetterFilter, PgQueue
from pgqueue.cli.running.http_server import serving
from pgqueue.cli.running.sockets import listen
from pgqueue.web import status_app

pytestmark = pytest.mark.outside

# Short ones of the shipped rules' kind; those wait for minutes.
SHORT_RULES = {
    "groups": [
        {
            "name": "short",
            "interval": "1s",
            "rules": [
                {"alert": "Dead", "expr": 'max by (queue) (pgqueue_queue_jobs{status="failed"}) > 0'},
                {
                    "alert": "DeadForLong",
                    "expr": 'max by (queue) (pgqueue_queue_jobs{status="failed"}) > 0',
                    "for": "1h",
                },
                {"alert": "NoWorker", "expr": "max(pgqueue_workers_alive) == 0", "for": "1s"},
            ],
        }
    ]
}


class Prometheus:
    """The HTTP interface of a Prometheus."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def query(self, query: str) -> list[Mapping[str, Any]]:
        """Return the series that answer *query* now; none while it is not up."""
        try:
            answer = await self._client.get("/api/v1/query", params={"query": query})
        except httpx.TransportError:
            return []
        if answer.status_code == 503:
            return []
        assert answer.status_code == 200, answer.text
        result: list[Mapping[str, Any]] = answer.json()["data"]["result"]
        return result

    async def says(self, query: str, value: float | None) -> None:
        """Wait until *query* has one answer, *value*; None: until it has none."""
        latest: list[float] = []

        async def does() -> bool:
            nonlocal latest
            latest = [float(series["value"][1]) for series in await self.query(query)]
            return latest == ([] if value is None else [value])

        try:
            await eventually(does)
        except TimeoutError:
            pytest.fail(f"{query}: {latest}, not {value}")

    async def alerting_rules(self) -> set[str]:
        groups = (await self._client.get("/api/v1/rules")).json()["data"]["groups"]
        return {rule["name"] for group in groups for rule in group["rules"]}


@asynccontextmanager
async def prometheus(folder: Path, targets: Mapping[str, str]) -> AsyncIterator[Prometheus]:
    """Run a Prometheus that scrapes *targets*, addresses by job name, every second."""
    program = find_program("prometheus", "prometheus")
    rule_file = folder / "short.yml"
    rule_file.write_text(json.dumps(SHORT_RULES))
    config = folder / "prometheus.yml"
    config.write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": [str(ALERTS), str(rule_file)],
                "scrape_configs": [
                    {"job_name": job, "static_configs": [{"targets": [address.removeprefix("http://")]}]}
                    for job, address in targets.items()
                ],
            }
        )
    )
    with listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    with (folder / "prometheus.log").open("w") as log:
        process = await asyncio.create_subprocess_exec(
            program,
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
            stdout=log,
            stderr=log,
        )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE) as client:
            yield Prometheus(client)
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.contract("BP10", "BP11")
async def test_prometheus_sees_what_ran_and_fires_and_resolves(
    pgq: PgQueue, tmp_path: Path, dsn: str
) -> None:
    with processes_in(tmp_path, dsn) as processes:
        worker = processes.start("worker", "jobs_here:pgq", "--processes=2", "--metrics-port=0")
        address = await address_of(processes, worker)
        async with (
            serving(status_app(pgq, local_reading=True), listen("127.0.0.1", 0)) as web,
            prometheus(tmp_path, {"worker": address, "web": web}) as seen,
        ):
            handles = [await pgq.enqueue_by_name("add", 1, number) for number in range(5)]
            handles.append(await pgq.enqueue_by_name("elsewhere"))
            wrong = await pgq.enqueue_by_name("fail")
            later = await pgq.enqueue_by_name("add", 1, 1, options={"delay": 3600})
            for handle in handles:
                await handle.result(timeout=DEADLINE)

            await seen.says('sum(up{job=~"worker|web"})', 2)
            await seen.says('pgqueue_jobs_enqueued_total{job="web",task="add"}', 6)
            await seen.says('sum(pgqueue_jobs_claimed_total{job="worker"})', 7)
            ended = 'pgqueue_attempts_ended_total{job="worker",task="%s",status="%s"}'
            await seen.says(ended % ("add", "succeeded"), 5)
            await seen.says(ended % ("fail", "failed"), 1)
            await seen.says('pgqueue_job_wait_seconds_count{job="worker",task="elsewhere"}', 1)
            await seen.says('pgqueue_attempt_run_seconds_bucket{task="elsewhere",le="+Inf"}', 1)
            for job in ("web", "worker"):
                jobs = f'pgqueue_queue_jobs{{job="{job}",queue="default",status="%s"}}'
                await seen.says(jobs % "scheduled", 1)
                await seen.says(jobs % "failed", 1)
                await seen.says(jobs % "pending", 0)
                await seen.says(f'pgqueue_workers_alive{{job="{job}"}}', 2)
            await seen.says('ALERTS{alertname="Dead",alertstate="firing",queue="default"}', 1)
            await seen.says('ALERTS{alertname="DeadForLong",alertstate="pending",queue="default"}', 1)
            assert await seen.alerting_rules() >= {rule["alert"] for rule in rules()}

            await pgq.discard_many(DeadLetterFilter(task="fail"))
            await later.cancel()
            await seen.says('ALERTS{alertname="Dead"}', None)
            await seen.says('ALERTS{alertname="DeadForLong"}', None)
            await seen.says('ALERTS{alertname="NoWorker"}', None)

            # The status app is still scraped, so that an alert can fire with no worker alive.
            worker.send_signal(signal.SIGTERM)
            code, _, _ = await processes.ended(worker)
            await seen.says('ALERTS{alertname="NoWorker",alertstate="firing"}', 1)

    assert code == 0
    assert (await wrong.refresh()).is_terminal
