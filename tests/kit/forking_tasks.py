"""Tasks whose handlers make children in every way that Python has: `pgqueue worker kit.forking_tasks:pgq`."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from pgqueue import PgQueue

pgq = PgQueue(os.environ.get("PGQUEUE_TEST_DSN", "postgresql://not-a-worker-process/"), max_retries=0)


def square(number: int) -> int:
    """Compute."""
    return number * number


def wait_for_ever() -> None:
    """Wait to be ended."""
    threading.Event().wait()


def _pool(method: str) -> str:
    # Leaving the block sends SIGTERM to each of them.
    with multiprocessing.get_context(method).Pool(2) as pool:
        return str(pool.map(square, range(3)))


def _terminated(method: str) -> str:
    process = multiprocessing.get_context(method).Process(target=wait_for_ever)  # type: ignore[attr-defined]
    process.start()
    process.terminate()
    process.join(20)
    if process.exitcode is None:
        process.kill()
    return str(process.exitcode)


def _executor(method: str) -> str:
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        return str(list(pool.map(square, range(3))))


def _forked(in_child: Callable[[], object]) -> str:
    child = os.fork()
    if child == 0:
        in_child()
        return "the child came back"
    return _code_of(child)


def _touch(sign: Path) -> str:
    sign.touch()
    return "the child came back"


def _code_of(child: int) -> str:
    return str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def _raise() -> None:
    raise ValueError("in the child")


def _signalled_at_once() -> str:
    codes = set()
    for _ in range(50):
        child = os.fork()
        if child == 0:
            time.sleep(20)
            os._exit(9)
        os.kill(child, signal.SIGTERM)
        codes.add(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    return str(codes)


def _program(**options: Any) -> str:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(20)"], **options) as process:
        process.terminate()
        return str(process.wait())


WAYS: dict[str, tuple[Callable[[], str], str]] = {
    "a pool that forks": (lambda: _pool("fork"), "[0, 1, 4]"),
    "a pool that spawns": (lambda: _pool("spawn"), "[0, 1, 4]"),
    "a pool of a fork server": (lambda: _pool("forkserver"), "[0, 1, 4]"),
    "a forked process is terminated": (lambda: _terminated("fork"), "-15"),
    "a spawned process is terminated": (lambda: _terminated("spawn"), "-15"),
    "a process of a fork server is terminated": (lambda: _terminated("forkserver"), "-15"),
    "an executor": (lambda: _executor("fork"), "[0, 1, 4]"),
    "fork, and exit": (lambda: _forked(lambda: sys.exit(7)), "7"),
    "fork, and exit at once": (lambda: _forked(lambda: os._exit(8)), "8"),
    "fork, and raise": (lambda: _forked(_raise), "1"),
    "fork, and return": (lambda: _forked(lambda: None), "0"),
    "fork, and signal at once": (_signalled_at_once, "{-15}"),
    "a program": (_program, "-15"),
    "a program that shares descriptors": (lambda: _program(close_fds=False), "-15"),
    "a program after a function": (lambda: _program(preexec_fn=lambda: None), "-15"),
}
"""Each way to have children, and what a handler that does so returns."""


@pgq.task
def in_a_thread(way: str) -> str:
    """Have children."""
    return WAYS[way][0]()


@pgq.task
async def in_a_coroutine(way: str) -> str:
    """Have children, on the event loop."""
    await asyncio.sleep(0)
    return WAYS[way][0]()


@pgq.task(isolation="process")
def in_a_child(way: str) -> str:
    """Have children of a child."""
    return WAYS[way][0]()


@pgq.task(isolation="process")
async def in_a_childs_coroutine(way: str) -> str:
    """Have children of a child, on its event loop."""
    await asyncio.sleep(0)
    return WAYS[way][0]()


@pgq.task
async def fork_and_await(sign: Path) -> str:
    """Fork a child that goes on as if it were the worker."""
    child = os.fork()
    await asyncio.sleep(0.5)
    if child == 0:
        return _touch(sign)
    return _code_of(child)


@pgq.task
def leave_a_child(sign: Path) -> None:
    """Leave a child behind, whose process id stands in *sign*, and go on."""
    child = os.fork()
    if child:
        sign.write_text(f"{child}\n")
    wait_for_ever()
