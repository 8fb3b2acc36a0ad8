"""The pytest plugin, in projects of its users."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pgqueue.testing import running_server

pytestmark = pytest.mark.any_server

ROOT = Path(__file__).parents[2]

CONFTEST = """
import asyncpg
import pytest

pytest_plugins = ["pytest_pgqueue"]


async def make_tables(dsn):
    connection = await asyncpg.connect(dsn)
    await connection.execute("create table sent (address text)")
    await connection.close()


@pytest.fixture(scope="session")
def pgqueue_prepare():
    return make_tables


@pytest.fixture
def anyio_backend():
    return "asyncio"
"""

APP = """
from pgqueue import JobContext, PgQueue

pgq = PgQueue("postgresql://nowhere.invalid/production")


@pgq.task
async def send(ctx: JobContext, address: str) -> str:
    async with ctx.transaction() as connection:
        await connection.execute("insert into sent values ($1)", address)
    return address
"""

USED = """
import pytest
import unittest
from app import pgq, send
from pgqueue.testing import Databases, assert_enqueued, drain, running_server, using


async def use(dsn):
    with using(pgq, dsn):
        async with pgq:
            await send.enqueue("ann")
            [job] = await drain(pgq)
            assert job.result == "ann"
            await assert_enqueued(send, "ann", times=1)
"""

TESTS = {
    "test_asyncio.py": """
@pytest.mark.asyncio
@pytest.mark.parametrize("number", range(3))
async def test_it(pgqueue_dsn, number):
    await use(pgqueue_dsn)
""",
    "test_anyio.py": """
@pytest.fixture
async def dsn(pgqueue_dsn):
    yield pgqueue_dsn


@pytest.mark.anyio
async def test_it(dsn):
    await use(dsn)
""",
    "test_unittest.py": """
class WithFixtures(unittest.IsolatedAsyncioTestCase):
    @pytest.fixture(autouse=True)
    def database(self, pgqueue_dsn):
        self.dsn = pgqueue_dsn

    async def test_it(self):
        await use(self.dsn)


class WithoutPlugin(unittest.IsolatedAsyncioTestCase):
    @classmethod
    def setUpClass(cls):
        from conftest import make_tables

        server = cls.enterClassContext(running_server())
        cls.databases = cls.enterClassContext(Databases.on(server, prepare=make_tables))

    def setUp(self):
        self.dsn = self.databases.clone()
        self.addCleanup(self.databases.drop, self.dsn)

    async def test_it(self):
        await use(self.dsn)
""",
}


def run_pytest(folder: Path, server: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in *folder*, as its users do."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": "", "PGQUEUE_TEST_SERVER": server},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.contract("P8.9")
def test_its_fixtures_serve_pytest_asyncio_anyio_unittest_and_several_processes(
    server: str, tmp_path: Path
) -> None:
    for name, code in {"conftest.py": CONFTEST, "app.py": APP}.items():
        (tmp_path / name).write_text(code)
    for name, code in TESTS.items():
        (tmp_path / name).write_text(USED + code)

    done = run_pytest(tmp_path, server, "-n", "2")

    assert "6 passed" in done.stdout, done.stdout


@pytest.mark.contract("P8.9")
def test_it_imports_nothing_for_those_who_do_not_use_it() -> None:
    code = (
        "import sys, pytest; before = {*sys.modules}; import pytest_pgqueue; print({*sys.modules} - before)"
    )

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == "{'pytest_pgqueue'}\n"


@pytest.mark.contract("P8.9")
def test_a_server_that_is_not_there_is_told_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["pytest_pgqueue"]\n')
    (tmp_path / "test_it.py").write_text("def test_it(pgqueue_dsn):\n    pass\n")

    done = run_pytest(tmp_path, "postgres")

    assert "PGQUEUE_TEST_SERVER must be 'embedded', 'testcontainers' or a DSN" in done.stdout
    assert "got 'postgres'" in done.stdout


@pytest.mark.contract("P8.9")
def test_a_server_that_runs_already_is_used_as_it_is(server: str) -> None:
    with running_server(server) as dsn:
        assert dsn == server
