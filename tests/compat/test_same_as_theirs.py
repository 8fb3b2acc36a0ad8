"""What RQ and Dramatiq document, as examples that are run under each and under pgqueue: both give the same.

They run over Debian's Redis. The programs differ in their imports alone.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kit.programs import find_program

pytestmark = [pytest.mark.contract("P8.11"), pytest.mark.any_server]

PROGRAMS = Path(__file__).parent / "programs"
IMPORTS = (
    (r"^from redis import", "from pgqueue.compat.rq import"),
    (r"^from (rq|dramatiq)\b", r"from pgqueue.compat.\1"),
    (r"^import dramatiq$", "from pgqueue.compat import dramatiq"),
)
"""The only changes of the programs."""
DEADLINE = 180


@contextmanager
def running_redis(folder: Path) -> Iterator[str]:
    """Run a server meanwhile; its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    command = [find_program("redis-server", "redis-server"), "--port", str(port), "--save", ""]
    with (folder / "redis.log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        until = time.monotonic() + DEADLINE
        while "Ready to accept connections" not in (folder / "redis.log").read_text():
            assert process.poll() is None, (folder / "redis.log").read_text()
            assert time.monotonic() < until
            time.sleep(0.05)
        # The client gives up a read after a few seconds, and a worker's reads block for longer.
        yield f"redis://127.0.0.1:{port}/0?socket_timeout={DEADLINE}"
    finally:
        process.terminate()
        process.wait(DEADLINE)


@contextmanager
def running(folder: Path, name: str, source: str, broker: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program meanwhile."""
    folder.mkdir()
    (folder / f"{name}.py").write_text(source)
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", f"import {name}; {name}.main()"],
            cwd=folder,
            env={**os.environ, "EXAMPLES_BROKER": broker},
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(DEADLINE)


def outcomes(process: subprocess.Popen[bytes], folder: Path) -> dict[str, Any]:
    """Return what the examples of a program came to, by their names."""
    assert process.wait(DEADLINE) == 0, (folder / "log").read_text()
    found: dict[str, Any] = json.loads((folder / "outcomes.json").read_text())
    return found


@pytest.mark.parametrize("framework", ["rq", "dramatiq"])
def test_examples_give_the_same_as_under(framework: str, dsn: str, tmp_path: Path) -> None:
    name = f"{framework}_examples"
    theirs = (PROGRAMS / f"{name}.py").read_text(encoding="utf-8")
    ours = theirs
    for pattern, instead in IMPORTS:
        ours = re.sub(pattern, instead, ours, flags=re.MULTILINE)

    with (
        running_redis(tmp_path) as redis,
        running(tmp_path / "theirs", name, theirs, redis) as with_redis,
        running(tmp_path / "ours", name, ours, dsn) as with_postgres,
    ):
        expected = outcomes(with_redis, tmp_path / "theirs")
        found = outcomes(with_postgres, tmp_path / "ours")

    assert len(expected) == theirs.count("\ndef example_") + theirs.count('outcomes["told"]')
    assert found == expected
