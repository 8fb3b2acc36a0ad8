"""What all layers for users of other frameworks share: addresses, clients, and how the CLI finds an app."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType

import pytest
import typer
from kit.snippets import ROOT

from pgqueue import ConfigurationError, PgQueue
from pgqueue.cli.target import load
from pgqueue.compat import (
    ForeignAddressWarning,
    connected,
    disconnect,
    not_there,
    read_address,
    read_addresses,
)

pytestmark = pytest.mark.contract("P8.11")

DSN = "postgresql://app:secret@db/app"
FOREIGN = [
    "redis://:secret@localhost:6379/0",
    "rediss://localhost",
    "amqp://guest:secret@localhost//",
    "pyamqp://",
    "sqs://key:secret@",
    "rpc://",
    "memory://",
    "cache+memory://",
    "sqla+sqlite:///x.db",
    "db+mysql://u:secret@h/d",
    "redis://a;redis://b",
    "localhost",
    "",
    ["redis://a"],
    object(),
]


@pytest.fixture(autouse=True)
def without_a_dsn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGQUEUE_DSN", raising=False)


@pytest.mark.parametrize(
    ("given", "dsn"),
    [
        (DSN, DSN),
        ("postgres://db/app", "postgres://db/app"),
        ("sqla+postgresql+psycopg://db/app", "postgresql+psycopg://db/app"),
        ("db+postgresql://db/app", "postgresql://db/app"),
        ("host=db dbname=app", "host=db dbname=app"),
        (None, None),
    ],
)
def test_an_address_of_a_postgresql_is_taken(given: str | None, dsn: str | None) -> None:
    assert read_address("broker", given) == dsn


@pytest.mark.parametrize("address", FOREIGN)
def test_another_address_is_an_error_that_shows_no_secret(address: object) -> None:
    with pytest.raises(ConfigurationError, match=r"broker is .*set PGQUEUE_DSN") as error:
        read_address("broker", address)

    assert "secret" not in str(error.value)


@pytest.mark.parametrize("address", FOREIGN)
def test_another_address_is_ignored_with_one_warning_where_the_environment_has_a_dsn(
    address: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGQUEUE_DSN", DSN)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dsn = read_addresses({"broker": address, "backend": "redis://localhost"})

    assert dsn is None
    [warning] = caught
    assert warning.category is ForeignAddressWarning
    assert warning.filename == __file__
    assert "secret" not in str(warning.message)


def test_one_dsn_is_enough_and_two_must_agree() -> None:
    with pytest.warns(ForeignAddressWarning):
        assert read_addresses({"broker": DSN, "backend": "redis://localhost"}) == DSN
    assert read_addresses({"broker": DSN, "backend": DSN}) == DSN
    with pytest.raises(ConfigurationError, match=r"broker and backend .*different databases"):
        read_addresses({"broker": DSN, "backend": "postgresql://db/other"})


def test_what_is_not_there_names_the_way_and_can_be_asked_for() -> None:
    class Layer:
        @property
        def backend(self) -> object:
            raise not_there("app.backend", "read jobs with pgqueue.blocking")

    assert not hasattr(Layer(), "backend")
    with pytest.raises(NotImplementedError, match=r"app.backend is not available.*read jobs with"):
        _ = Layer().backend


async def test_a_client_is_called_from_any_thread_and_from_a_running_loop(dsn: str) -> None:
    pgq = PgQueue(dsn)

    @pgq.task
    async def add(a: int, b: int) -> int:
        return a + b

    async with pgq, pgq.worker():
        here = connected(pgq).enqueue(add.s(1, 2))
        there = await asyncio.to_thread(lambda: connected(pgq).enqueue(add.s(3, 4)))
        results = [await asyncio.to_thread(each.result, 60) for each in (here, there)]

    assert results == [3, 7]
    first = connected(pgq)
    assert connected(pgq) is first
    disconnect(pgq)
    again = connected(pgq)
    assert again is not first
    again.check()
    disconnect(pgq)


FORKS = """
import os, sys, warnings
from pgqueue import PgQueue
from pgqueue.compat import connected

pgq = PgQueue(sys.argv[1])
connected(pgq).check()
# Python warns of a fork beside threads from 3.12 on, which this is about.
warnings.simplefilter("ignore", DeprecationWarning)
child = os.fork()
connected(pgq).check()
print("child" if child == 0 else "parent", flush=True)
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
"""


def test_a_child_of_a_fork_has_a_client_of_its_own_and_the_program_ends(dsn: str) -> None:
    # No client is closed by hand.
    ended = subprocess.run(
        [sys.executable, "-c", FORKS, dsn], cwd=ROOT, capture_output=True, text=True, timeout=180, check=False
    )

    assert sorted(ended.stdout.split()) == ["child", "parent"], ended.stderr
    assert (ended.returncode, ended.stderr) == (0, "")


class App:
    def __init__(self, pgq: PgQueue) -> None:
        self._pgq = pgq

    def __pgqueue__(self) -> PgQueue:
        return self._pgq


def test_the_command_line_takes_what_has_a_pgqueue(monkeypatch: pytest.MonkeyPatch) -> None:
    pgq, other, module = PgQueue(), PgQueue(), ModuleType("an_app")
    module.app, module.same, module.App = App(pgq), pgq, App  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "an_app", module)

    assert load("an_app:app") is pgq
    assert load("an_app") is pgq
    module.other = other  # type: ignore[attr-defined]
    with pytest.raises(typer.BadParameter, match="an_app:app, an_app:other"):
        load("an_app")
    with pytest.raises(typer.BadParameter, match="must be a PgQueue"):
        load("an_app:App")


def test_a_module_without_one_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "an_empty_app.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))

    with pytest.raises(typer.BadParameter, match="no PgQueue in this module"):
        load("an_empty_app")
