"""The child processes of a worker, in which handlers with `isolation="process"` run.

Each child runs one job at a time, is used again, and can be killed. Over a socket of its own it gets the
fields of the job and sends those of the outcome, as JSON: nothing is pickled, and standard output is the
handler's. The worker holds the hard limit and kills the child's whole session. Children end with their
worker, however it ends: a child whose socket is closed kills itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any, Final

import anyio

from pgqueue import forks
from pgqueue.worker.attempt.attempt import ProcessDiedError
from pgqueue.worker.isolation.importing import django_settings, source_of_main
from pgqueue.worker.isolation.wire import MAX_LINE, pack, unpack

END_WITHIN: Final = 2.0
"""Seconds in which children that are no longer needed may end by themselves."""


class Child:
    """One child process, and the socket to it."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer

    @classmethod
    async def spawn(cls) -> Child:
        """Start a child."""
        ours, theirs = socket.socketpair()
        with contextlib.ExitStack() as unless_spawned, theirs:
            # Closing it ends a child that was not handed over.
            unless_spawned.callback(ours.close)
            # A child ends with its worker: what a handler forks must not hold the socket open for it.
            forks.close_in_children(ours)
            # A session of its own: a signal to the worker's group is for the worker to handle, and what the
            # handler starts can be killed with the child.
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "pgqueue.processes.child", str(theirs.fileno())),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
            reader, writer = await asyncio.open_connection(sock=ours, limit=MAX_LINE)
            unless_spawned.pop_all()
        child = cls(process, reader, writer)
        child.send({"path": sys.path, "main": source_of_main(), "django": django_settings()})
        return child

    @property
    def is_alive(self) -> bool:
        """Whether it can be used."""
        return self._process.returncode is None and not self._reader.at_eof()

    def send(self, message: dict[str, Any]) -> None:
        """Send a message."""
        self._writer.write(pack(message))

    async def receive(self) -> dict[str, Any]:
        """Wait for the next message. Raises ProcessDiedError."""
        try:
            line = await self._reader.readline()
        except ConnectionError:
            line = b""
        if not line.endswith(b"\n"):
            # If it is still alive, it has closed its socket, and cannot be used.
            self.kill()
            raise ProcessDiedError(await self._process.wait())
        return unpack(line)

    def kill(self) -> None:
        """End it now, with everything that its handlers have started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._writer.close()

    async def end(self) -> None:
        """Ask it to end, and wait for that."""
        self._writer.close()
        with anyio.move_on_after(END_WITHIN):
            await self._process.wait()
            return
        self.kill()
        await self._process.wait()


class ChildProcesses:
    """Owns the children of a worker. *grace*: seconds that a handler has to end when it is asked to."""

    def __init__(self, *, grace: float) -> None:
        self._grace = grace
        self._idle: list[Child] = []
        self._all: set[Child] = set()

    async def run(
        self, job: dict[str, Any], *, started: Callable[[], object], stop_reason: Callable[[], str | None]
    ) -> dict[str, Any]:
        """Run *job* in a child; return its reply. *started* is called when the handler starts.

        Cancelled, it asks the handler to stop if *stop_reason* gives a reason, and kills it if it does not
        end, or if there is none. Raises ProcessDiedError.
        """
        child = await self._take()
        is_clean = False
        try:
            child.send({"job": job})
            try:
                reply = await self._reply(child, started)
            except asyncio.CancelledError:
                reason = stop_reason()
                if reason is None:
                    raise
                child.send({"stop": reason})
                # Less than the grace: before the attempt is abandoned.
                with anyio.move_on_after(0.8 * self._grace) as waiting:
                    reply = await self._reply(child, started)
                if waiting.cancelled_caught:
                    raise
            is_clean = True
            return reply
        finally:
            if is_clean:
                self._idle.append(child)
            else:
                child.kill()
                self._all.discard(child)

    async def close(self) -> None:
        """End all children."""
        children, self._all, self._idle = self._all, set(), []
        async with anyio.create_task_group() as group:
            for child in children:
                group.start_soon(child.end)

    async def _take(self) -> Child:
        while self._idle:
            child = self._idle.pop()
            if child.is_alive:
                return child
            self._all.discard(child)
        child = await Child.spawn()
        self._all.add(child)
        return child

    @staticmethod
    async def _reply(child: Child, started: Callable[[], object]) -> dict[str, Any]:
        while True:
            message = await child.receive()
            if "started" not in message:
                return message
            started()
