"""`pgqueue web`: serves the status app, and refuses to serve it to strangers."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest
from kit.waiting import eventually
from typer.testing import CliRunner

from pgqueue import PgQueue
from pgqueue.cli import app
from pgqueue.cli.running.sockets import is_loopback
from pgqueue.model.ids import new_id

DSN = "postgresql://nowhere"
TOKEN = "a-token-that-is-long-enough"


@asynccontextmanager
async def serving(*arguments: str, **environment: str) -> AsyncIterator[tuple[str, subprocess.Popen[str]]]:
    """Run the command; yield its address."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PGQUEUE_")}
    process = subprocess.Popen(  # noqa: ASYNC220  # it is started, and not waited for
        [sys.executable, "-m", "pgqueue", "web", "--port=0", *arguments],
        env={**inherited, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        line = await asyncio.to_thread(process.stdout.readline)
        found = re.fullmatch(r"dashboard: (http://.+:\d+)/dashboard/\n", line)
        assert found is not None, process.communicate(timeout=180)
        yield found[1], process
    finally:
        process.kill()
        process.communicate()


async def ended(process: subprocess.Popen[str], by: signal.Signals) -> tuple[int, str, str]:
    process.send_signal(by)
    stdout, stderr = await asyncio.to_thread(process.communicate, timeout=180)
    return process.returncode, stdout, stderr


def refusal(*arguments: str, **environment: str) -> tuple[int, str]:
    """Return exit code and message, on one line, of a command that is not to start."""
    result = CliRunner().invoke(
        app,
        ["web", *arguments],
        env={"PGQUEUE_TOKEN": None, "PGQUEUE_DSN": None, "COLUMNS": "300", **environment},
    )
    return result.exit_code, " ".join(re.sub(r"[│╭╮╰╯─]", " ", result.output).split())


@pytest.mark.contract("W26")
async def test_without_a_token_it_makes_one_and_prints_the_address_to_open(dsn: str) -> None:
    pgq = PgQueue(dsn)
    async with pgq:
        job = await pgq.enqueue_by_name("send")

        async with serving(f"--dsn={dsn}") as (address, process):
            assert process.stdout is not None
            said = await asyncio.to_thread(process.stdout.readline)
            opened = re.fullmatch(r"open it with this start's token: (http://\S+/\?token=(\S{32,}))\n", said)
            assert opened is not None, said
            async with httpx.AsyncClient(base_url=address, timeout=60) as client:
                ready = await client.get("/readyz")
                closed = [await client.get(path) for path in (f"/jobs/{job.id}", "/metrics", "/openapi.json")]
                bearer = {"Authorization": f"Bearer {opened[2]}"}
                shown = await client.get(f"/jobs/{job.id}", headers=bearer)
                changed = await client.post(f"/jobs/{job.id}/cancel", headers=bearer)
                entered = await client.get(opened[1], follow_redirects=True)
            code, _, stderr = await ended(process, signal.SIGTERM)

        status = await job.status()

    assert address.startswith("http://127.0.0.1:")
    assert (ready.status_code, {each.status_code for each in closed}) == (200, {401})
    assert (shown.status_code, shown.json()["task"], changed.status_code) == (200, "send", 200)
    assert "server" not in shown.headers
    assert (entered.status_code, entered.url.path, entered.url.query) == (200, "/dashboard/", b"")
    assert (code, status) == (0, "cancelled")
    assert "Traceback" not in stderr
    assert opened[2] not in stderr


@pytest.mark.contract("W11")
async def test_it_serves_on_when_nobody_reads_what_it_prints_and_stops_at_two_signals(dsn: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pgqueue", "web", f"--dsn={dsn}", f"--port={(port := free_port())}"),
        stdout=writing,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(writing)

    async def is_ready() -> bool:
        assert process.returncode is None
        with suppress(httpx.TransportError):
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
                return (await client.get("/readyz")).status_code == 200
        return False

    try:
        await eventually(is_ready)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        _, stderr = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()

    assert (process.returncode, b"Traceback" in stderr, b"BrokenPipe" in stderr) == (0, False, False)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def test_with_a_token_it_serves_every_machine_that_presents_it(dsn: str, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")

    async with serving("--host=0.0.0.0", f"--token-file={file}", PGQUEUE_DSN=dsn) as (address, process):
        here = address.replace("0.0.0.0", "127.0.0.1")
        async with httpx.AsyncClient(base_url=here, timeout=60) as client:
            path = f"/jobs/{new_id()}"
            without = await client.get(path)
            forged = await client.get(path, headers={"Authorization": "Bearer of-somebody-else"})
            with_it = await client.get(path, headers={"Authorization": f"Bearer {TOKEN}"})
        code, stdout, _ = await ended(process, signal.SIGINT)

    assert (without.status_code, forged.status_code, with_it.status_code) == (401, 401, 404)
    assert (code, stdout) == (0, "")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "jobs.example", "127.0.0.1.evil.example"])
def test_without_a_token_it_serves_no_other_machine_and_says_why(host: str) -> None:
    code, message = refusal(f"--dsn={DSN}", f"--host={host}")

    assert code == 2
    assert f"whoever reaches {host} could see every job: set PGQUEUE_TOKEN" in message


def test_an_empty_token_does_not_count_as_a_token(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()

    assert refusal(f"--dsn={DSN}", "--host=0.0.0.0", PGQUEUE_TOKEN="")[0] == 2
    assert refusal(f"--dsn={DSN}", "--host=0.0.0.0", "--token=")[0] == 2
    assert refusal(f"--dsn={DSN}", f"--token-file={empty}")[0] == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([f"--dsn={DSN}", "--token=short"], "the token must have at least 16 characters, got 5"),
        ([], "no database given: pass --dsn or --app, set PGQUEUE_DSN or PGQUEUE_APP, or set dsn"),
        ([f"--dsn={DSN}", "--port=65536"], "less than or equal to 65535"),
        (["no.such:module"], "no module named"),
    ],
)
def test_wrong_usage_is_explained(arguments: list[str], said: str) -> None:
    code, message = refusal(*arguments)

    assert code == 2
    assert said in message


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--colour=red"], "must look like '#rrggbb'"), (["--token=with space in the middle"], "token must be")],
)
def test_what_the_app_refuses_is_one_line(arguments: list[str], said: str) -> None:
    code, message = refusal(f"--dsn={DSN}", *arguments)

    assert code == 1
    assert message.startswith("pgqueue: ")
    assert said in message


def test_a_port_that_is_taken_is_one_line(dsn: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        process = subprocess.run(
            [sys.executable, "-m", "pgqueue", "web", f"--dsn={dsn}", f"--port={port}"],
            capture_output=True,
            check=False,
            text=True,
            timeout=180,
        )

    assert process.returncode == 1
    assert process.stderr.startswith(f"pgqueue: cannot listen on 127.0.0.1 port {port}: ")
    assert len(process.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("localhost", True),
        ("LocalHost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("localhost.evil.example", False),
    ],
)
def test_only_addresses_of_this_machine_are_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
