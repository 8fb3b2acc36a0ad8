"""Metrics of several worker processes on one page: each reports to its supervisor, which adds them up.

A process answers from a thread, so it answers even while its event loop is blocked. The counts of a process
that has ended stay in the sums: counters do not decrease while the supervisor runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import anyio
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector

from pgqueue import forks

ANSWER_WITHIN: Final = 1.0
"""Seconds for a process to send a report. After them its latest report is used."""
FRESH: Final = 1.0
"""Seconds for which reports are reused."""
MAX_REPORT: Final = 64 * 1024 * 1024

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Family:
    """The samples of one metric, by sample name and labels."""

    kind: str
    help_text: str
    samples: dict[tuple[str, Labels], float]


@dataclass(frozen=True, slots=True)
class Report:
    """The metrics of a process, and its problems: the reasons why it cannot work, if any."""

    families: dict[str, Family]
    problems: Sequence[str] = ()


def read_registry(registry: CollectorRegistry) -> dict[str, Family]:
    """Return all samples of *registry*, except the creation times of its series."""
    return {
        metric.name: Family(
            metric.type,
            metric.documentation,
            {
                (sample.name, tuple(sample.labels.items())): sample.value
                for sample in metric.samples
                if not sample.name.endswith("_created")
            },
        )
        for metric in registry.collect()
    }


def add_up(reports: Iterable[Report]) -> dict[str, Family]:
    """Return the sums of the metrics of several processes.

    A gauge in seconds is an age: of those, the greatest is taken.
    """
    total: dict[str, Family] = {}
    for report in reports:
        for name, family in report.families.items():
            into = total.setdefault(name, Family(family.kind, family.help_text, {})).samples
            is_age = family.kind == "gauge" and name.endswith("_seconds")
            for key, value in family.samples.items():
                into[key] = max(into.get(key, value), value) if is_age else into.get(key, 0.0) + value
    return total


def without_gauges(families: dict[str, Family]) -> dict[str, Family]:
    """Return the metrics of a process that remain valid after it has ended."""
    return {name: family for name, family in families.items() if family.kind != "gauge"}


def pack(report: Report) -> bytes:
    """Return *report* as one line."""
    families = [
        (name, family.kind, family.help_text, [(*key, value) for key, value in family.samples.items()])
        for name, family in report.families.items()
    ]
    return json.dumps([families, list(report.problems)]).encode() + b"\n"


def unpack(line: bytes) -> Report:
    """Return the report in *line*."""
    families, problems = json.loads(line)
    return Report(
        {
            name: Family(
                kind,
                help_text,
                {(sample, tuple(map(tuple, labels))): value for sample, labels, value in samples},
            )
            for name, kind, help_text, samples in families
        },
        problems,
    )


@contextlib.contextmanager
def reporting(
    descriptor: int, registry: CollectorRegistry, find_problems: Callable[[], Sequence[str]]
) -> Iterator[None]:
    """Answer the supervisor at the other end of the socket *descriptor* inside the block, from a thread.

    *find_problems* is called in that thread.
    """
    # Programs that handlers start must not hold it open.
    os.set_inheritable(descriptor, False)
    ours = socket.socket(fileno=descriptor)
    forks.close_in_children(ours)
    # A supervisor that does not read must not keep this process from ending.
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(ANSWER_WITHIN), 0))
    sending = threading.Lock()

    def send() -> None:
        report = Report(read_registry(registry), find_problems())
        with sending, contextlib.suppress(OSError):
            ours.sendall(pack(report))

    def answer() -> None:
        with contextlib.suppress(OSError), ours:
            while ours.recv(1):
                send()

    answering = threading.Thread(target=answer, name="pgqueue metrics", daemon=True)
    answering.start()
    try:
        yield
    finally:
        send()
        with contextlib.suppress(OSError):
            ours.shutdown(socket.SHUT_RDWR)
        answering.join(ANSWER_WITHIN)


class ProcessReports(Collector):
    """The sums of what a supervisor's processes report."""

    def __init__(self) -> None:
        self._sources: set[_Source] = set()
        self._ended: dict[str, Family] = {}
        self._asking = anyio.Lock()
        self._asked_at = float("-inf")

    @contextlib.asynccontextmanager
    async def attach(self) -> AsyncIterator[tuple[str, int]]:
        """Read the reports of one process inside the block.

        Yield the option to start it with, and the descriptor that it must inherit.
        """
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours, limit=MAX_REPORT)
        source = _Source(reader, writer)
        reading = asyncio.ensure_future(source.read())
        self._sources.add(source)
        self._asked_at = float("-inf")
        try:
            yield f"--report-to={theirs.fileno()}", theirs.fileno()
        finally:
            # The process has ended. With our copy closed too, the end of the stream follows its last report.
            theirs.close()
            with anyio.CancelScope(shield=True):
                await asyncio.wait((reading,), timeout=ANSWER_WITHIN)
            reading.cancel()
            writer.close()
            self._sources.discard(source)
            if source.latest is not None:
                ended = Report(without_gauges(source.latest.families))
                self._ended = add_up((Report(self._ended), ended))

    async def ask(self) -> None:
        """Ask every process for a report, unless they were asked within the last second."""
        async with self._asking:
            if time.monotonic() - self._asked_at < FRESH:
                return
            self._asked_at = time.monotonic()
            async with anyio.create_task_group() as group:
                for source in self._sources:
                    group.start_soon(source.ask)

    def problems(self, processes: int) -> list[str]:
        """Return the problems of *processes* processes, including those that have not reported."""
        reports = [source.latest for source in self._sources]
        silent = processes - sum(report is not None for report in reports)
        problems = [f"{silent} of {processes} worker processes have not reported yet"] if silent > 0 else []
        return problems + [problem for report in reports if report is not None for problem in report.problems]

    def describe(self) -> Iterable[Metric]:
        """Return nothing: the processes declare their metrics in their reports."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Return the sums of all processes, including those that have ended."""
        latest = [source.latest for source in list(self._sources)]
        for name, family in add_up(
            [Report(self._ended), *(report for report in latest if report is not None)]
        ).items():
            metric = Metric(name, family.help_text, family.kind)
            for (sample, labels), value in family.samples.items():
                metric.add_sample(sample, dict(labels), value)
            yield metric


class _Source:
    """The supervisor's end of one process's socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._answered = anyio.Event()
        self._is_asked = False
        self.latest: Report | None = None

    async def read(self) -> None:
        """Keep the latest report, until the process ends."""
        with contextlib.suppress(ConnectionError):
            while (line := await self._reader.readline()).endswith(b"\n"):
                self.latest = unpack(line)
                self._is_asked = False
                self._answered.set()

    async def ask(self) -> None:
        """Wait for a report, at most ANSWER_WITHIN seconds."""
        if not self._is_asked:
            # Not again while a request is open: requests would pile up for a process that is stuck.
            self._is_asked = True
            self._answered = anyio.Event()
            self._writer.write(b"?")
        with anyio.move_on_after(ANSWER_WITHIN):
            await self._answered.wait()
