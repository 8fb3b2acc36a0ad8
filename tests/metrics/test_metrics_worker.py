"""`pgqueue worker --metrics-port`: metrics and health on one port, however many processes there are."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from kit.processes import DEADLINE, address_of, processes_in, wrote_pid
from kit.waiting import eventually
from prometheus_client.parser import text_string_to_metric_families

from pgqueue import PgQueue


def total(page: str, name: str, **labels: str) -> float:
    """Return the sum of the samples with *labels* on *page*."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


async def shows(address: str, condition: Callable[[str], bool]) -> None:
    """Wait until the metrics at *address* show what *condition* looks for."""
    async with httpx.AsyncClient(timeout=DEADLINE) as client:

        async def does() -> bool:
            return condition((await client.get(f"{address}/metrics")).text)

        await eventually(does)


@pytest.mark.contract("BP10")
async def test_a_worker_process_serves_its_metrics_and_its_health(
    pgq: PgQueue, tmp_path: Path, dsn: str
) -> None:
    with processes_in(tmp_path, dsn) as processes:
        worker = processes.start("worker", "jobs_here:pgq", "--metrics-port=0")
        address = await address_of(processes, worker)
        async with httpx.AsyncClient(base_url=address, timeout=DEADLINE) as client:

            async def is_ready() -> bool:
                return (await client.get("/readyz")).status_code == 200

            await eventually(is_ready, within=DEADLINE)
            live, nothing = await client.get("/livez"), await client.get("/jobs")
            strange = await client.get("/metrics", headers={"Host": "worker.example"})
        handles = [await pgq.enqueue_by_name("add", 1, number) for number in range(3)]
        for handle in handles:
            await handle.result(timeout=DEADLINE)

        await shows(
            address,
            lambda page: total(page, "pgqueue_attempts_ended_total", task="add", status="succeeded") == 3,
        )
        await shows(address, lambda page: total(page, "pgqueue_workers_alive") == 1)
        worker.send_signal(signal.SIGTERM)
        code, _, _ = await processes.ended(worker)

    assert (live.status_code, nothing.status_code, code) == (200, 404, 0)
    # A name that a page on the web may have pointed at this machine.
    assert strange.status_code == 403


@pytest.mark.contract("BP10")
async def test_one_port_answers_for_all_processes_and_forgets_none_that_ended(
    pgq: PgQueue, tmp_path: Path, dsn: str
) -> None:
    sign, until = tmp_path / "sign", tmp_path / "until"
    with processes_in(tmp_path, dsn) as processes:
        arguments = ("--processes=2", "--concurrency=1", "--metrics-port=0", "--grace=0")
        # It listens beyond this machine, so any host name is accepted.
        supervisor = processes.start(
            "worker", "jobs_here:pgq", *arguments, "--metrics-host=0.0.0.0", "--metrics-open"
        )
        address = await address_of(processes, supervisor)
        holding = [await pgq.enqueue_by_name("hold", str(sign), str(until)) for _ in range(2)]
        # One in each.
        first, _ = await wrote_pid(sign, 2)
        await shows(address, lambda page: total(page, "pgqueue_worker_running") == 2)
        async with httpx.AsyncClient(base_url=address, timeout=DEADLINE) as client:
            ready = await client.get("/readyz")
            named = await client.get("/metrics", headers={"Host": "worker.example"})
        await shows(address, lambda page: total(page, "pgqueue_jobs_claimed_total", task="hold") == 2)
        subprocess.run(["/bin/kill", "-KILL", str(first)], check=True)  # noqa: ASYNC221
        # It is restarted, and claims its job again after the rescue.
        await shows(address, lambda page: total(page, "pgqueue_jobs_claimed_total", task="hold") >= 3)
        await shows(address, lambda page: total(page, "pgqueue_worker_slots") == 2)
        await shows(address, lambda page: total(page, "pgqueue_jobs_rescued_total") >= 1)
        until.touch()
        for handle in holding:
            await handle.result(timeout=DEADLINE)
        await shows(
            address,
            lambda page: total(page, "pgqueue_attempts_ended_total", task="hold", status="succeeded") == 2,
        )
        supervisor.send_signal(signal.SIGTERM)
        code, _, _ = await processes.ended(supervisor)

    assert (ready.status_code, named.status_code) == (200, 200)
    assert code == 0


async def test_a_port_that_is_taken_is_an_error_in_one_line(tmp_path: Path, dsn: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, processes_in(tmp_path, dsn) as processes:
        port = taken.getsockname()[1]

        code, _, stderr = await processes.run("worker", "jobs_here:pgq", f"--metrics-port={port}")

    assert code == 1
    assert stderr.startswith(f"pgqueue: cannot listen on 127.0.0.1 port {port}: ")
    assert stderr.count("\n") == 1


@pytest.mark.contract("W26")
@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["--metrics-host=0.0.0.0"], {}, "set PGQUEUE_METRICS_TOKEN, or pass --metrics-open"),
        (["--metrics-host=worker.example"], {}, "set PGQUEUE_METRICS_TOKEN, or pass --metrics-open"),
        (["--metrics-host=::"], {"PGQUEUE_METRICS_TOKEN": "short"}, "at least 16 characters long"),
        (["--metrics-token=short"], {}, "at least 16 characters long"),
    ],
)
async def test_a_port_that_strangers_could_read_is_refused(
    arguments: list[str], environment: dict[str, str], said: str, tmp_path: Path, dsn: str
) -> None:
    with processes_in(tmp_path, dsn) as processes:
        processes.environment |= {"COLUMNS": "300", **environment}
        code, _, stderr = await processes.run("worker", "jobs_here:pgq", "--metrics-port=0", *arguments)

    assert code in (1, 2)
    assert said in stderr
