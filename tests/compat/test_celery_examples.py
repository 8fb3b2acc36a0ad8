"""What Celery documents, as examples that are run under Celery and under pgqueue: both give the same.

Celery runs over Debian's Redis. The programs differ in their imports of `celery` alone.
"""

from __future__ import annotations

import ast
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from kit.programs import find_program

from pgqueue.testing import Databases

pytestmark = [pytest.mark.contract("P8.11"), pytest.mark.any_server]

SOURCE = (Path(__file__).parent / "programs" / "examples.py").read_text(encoding="utf-8")
NAMES = [
    node.name.removeprefix("example_")
    for node in ast.parse(SOURCE).body
    if isinstance(node, ast.FunctionDef) and node.name.startswith("example_")
]
CELERY = [
    *("-m", "celery", "-A", "examples", "worker", "-c", "4", "-Q", "celery,routed,far,own"),
    *("--without-mingle", "--without-gossip", "--without-heartbeat", "--loglevel", "WARNING"),
]
WITHIN = 480


@contextmanager
def running(log: Path, *command: str, **options: Any) -> Iterator[None]:
    """Run a program meanwhile."""
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, **options)
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(180)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def begin(
    stack: ExitStack, folder: Path, source: str, broker: str, worker: list[str]
) -> subprocess.Popen[str]:
    """Run the examples in *source*, and a worker beside them."""
    (folder / "notes").mkdir(parents=True)
    (folder / "examples.py").write_text(source, encoding="utf-8")
    environment = {**os.environ, "EXAMPLES_NOTES": str(folder / "notes"), "EXAMPLES_BROKER": broker}
    environment.pop("PGQUEUE_DSN", None)
    stack.enter_context(running(folder / "worker.log", sys.executable, *worker, cwd=folder, env=environment))
    process = subprocess.Popen(
        [sys.executable, "examples.py"], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    )
    stack.callback(end, process)
    return process


def until_it_answers(address: Path) -> None:
    """Wait for a server to listen at a socket."""
    ends_at = time.monotonic() + 60
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(address))
            return
        except OSError:
            if time.monotonic() > ends_at:
                raise
            time.sleep(0.01)


def end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def outcomes(
    databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """What the examples came to under Celery, and under pgqueue, by their names."""
    folder = tmp_path_factory.mktemp("examples")
    dsn = databases.clone()
    with ExitStack() as stack:
        stack.callback(databases.drop, dsn)
        # The path of a socket is a short one.
        address = Path(stack.enter_context(TemporaryDirectory(prefix="redis"))) / "socket"
        redis = [find_program("redis-server", "redis-server"), "--port", "0", "--unixsocket", str(address)]
        stack.enter_context(running(folder / "redis.log", *redis, "--save", "", "--dir", str(folder)))
        until_it_answers(address)
        theirs = begin(stack, folder / "theirs", SOURCE, f"redis+socket://{address}", CELERY)
        source = SOURCE.replace("from celery", "from pgqueue.compat.celery")
        ours = begin(stack, folder / "ours", source, dsn, ["-m", "pgqueue", "worker", "examples:app"])
        told = [process.communicate(timeout=WITHIN)[0] for process in (theirs, ours)]
        yield json.loads(told[0]), json.loads(told[1])


@pytest.mark.parametrize("name", NAMES)
def test_an_example_gives_the_same_as_under_celery(
    name: str, outcomes: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    theirs, ours = outcomes

    assert not isinstance(theirs[name], str) or "Traceback" not in theirs[name], theirs[name]
    assert ours[name] == theirs[name]
