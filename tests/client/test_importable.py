"""Functions that no task declares, enqueued by their path."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgqueue import ConfigurationError, InvalidArgumentsError, JobStatus, PgQueue, UnknownTaskError
from pgqueue.testing import drain

pytestmark = pytest.mark.contract("P8.2")

WORDS = """
from os import getpid
from shlex import split

def count(text: str) -> int:
    return len(split(text))

class Words:
    @staticmethod
    def first(text: str) -> str:
        return split(text)[0]
"""


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "some_words").mkdir()
    (tmp_path / "some_words/__init__.py").touch()
    (tmp_path / "some_words/jobs.py").write_text(WORDS)
    (tmp_path / "some_words/broken.py").write_text("raise RuntimeError('it cannot be imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [each for each in sys.modules if each.startswith("some_words")]:
        del sys.modules[name]


async def test_a_function_and_a_path_are_run_by_a_worker_that_allows_their_module(pgq: PgQueue) -> None:
    jobs = importlib.import_module("some_words.jobs")
    by_function = await pgq.enqueue_by_name(jobs.count, "one two three")
    by_path = await pgq.enqueue_by_name("some_words.jobs.Words.first", text="one two")

    pgq.allow_importing("some_words")
    await drain(pgq)

    assert await by_function.result(timeout=60) == 3
    assert await by_path.result(timeout=60) == "one"
    # Where it is allowed, a call is checked like any other.
    with pytest.raises(InvalidArgumentsError):
        await pgq.enqueue_by_name(jobs.count)


@pytest.mark.parametrize(
    "path",
    [
        "os.getpid",
        "some_words.jobs.getpid",
        "some_words.jobs.split",
        "some_words.jobs.Words",
        "some_words.jobs.nothing",
        "some_words.broken.work",
        "some_words.nothing.work",
        "some_words",
        "some_words.jobs:",
        "some_words.jobs.__builtins__",
        "some_wordsmith.work",
    ],
)
async def test_what_may_not_or_cannot_be_imported_is_an_unknown_task(pgq: PgQueue, path: str) -> None:
    pgq.allow_importing("some_words")

    job = await pgq.enqueue_by_name(path)
    await drain(pgq)

    ended = await job.refresh()
    assert ended.status is JobStatus.PENDING
    assert await pgq.attempts(job.id) == []


async def test_functions_that_no_worker_could_import_are_refused(pgq: PgQueue) -> None:
    def local() -> None: ...

    for function in (local, lambda: None):
        with pytest.raises(UnknownTaskError, match="move the function to the top level of a module"):
            await pgq.enqueue_by_name(function)
    for module in ("", "some words", "some_words."):
        with pytest.raises(ConfigurationError, match="a module must be named as in"):
            pgq.allow_importing(module)
    assert (await pgq.jobs()).jobs == []


async def test_a_task_is_enqueued_by_its_own_name(pgq: PgQueue) -> None:
    @pgq.task(name="work")
    async def handler() -> int:
        return os.getpid()

    job = await pgq.enqueue_by_name(handler)
    await drain(pgq)

    assert await job.result(timeout=60) == os.getpid()
