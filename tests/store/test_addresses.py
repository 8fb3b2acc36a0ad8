"""A name with several addresses: each counts as a server, with its share of the time, under the one name."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

import anyio
import asyncpg
import pytest
from kit import inside
from kit.accepting import Accepted
from kit.lines import Line, line_to
from kit.servers import Standby, crashable_server
from kit.waiting import eventually, holds

from pgqueue import DatabaseUnavailableError, JobContext, PgQueue
from pgqueue.database import hosts
from pgqueue.database.connection import OwnConnection
from pgqueue.database.hosts import Hosts, share_of
from pgqueue.database.places import LoopToPlace, Place, find_places
from pgqueue.database.resolving import find_addresses

if TYPE_CHECKING:
    from conftest import Connection

ONE, TWO = "127.0.0.1", "127.0.0.2"
AMPLE = 60.0


class Names:
    """What names resolve to, while a test runs."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[], Sequence[str]]] = {}
        self.asked = 0

    def add(self, *addresses: str) -> str:
        """Make up a name with these addresses."""
        name = f"{uuid4().hex}.test"
        self.answers[name] = lambda: addresses
        return name


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """Have the system's resolver know names that tests make up."""
    names = Names()
    resolve = socket.getaddrinfo

    def find(host: Any, port: Any, *args: Any, **options: Any) -> list[Any]:
        if host not in names.answers:
            return resolve(host, port, *args, **options)
        names.asked += 1
        return [each for number in names.answers[host]() for each in resolve(number, port, *args, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", find)
    return names


def listeners(*addresses: str) -> list[socket.socket]:
    """Listen at each of the addresses, at one port of all of them."""
    while True:
        made = [socket.create_server((addresses[0], 0))]
        try:
            made += [socket.create_server((each, made[0].getsockname()[1])) for each in addresses[1:]]
        except OSError:
            # Somebody else has it there.
            for listener in made:
                listener.close()
        else:
            return made


@asynccontextmanager
async def two_lines(*dsns: str) -> AsyncIterator[tuple[Line, Line, int]]:
    """Run a line to each server, at ONE and at TWO; yield them, and their port."""
    here = listeners(ONE, TWO)
    async with AsyncExitStack() as stack:
        first, second = [
            await stack.enter_async_context(line_to(dsn, listener=listener))
            for dsn, listener in zip(dsns, here, strict=True)
        ]
        yield first[0], second[0], here[0].getsockname()[1]


def at(name: str, port: int, like: str) -> str:
    parts = urlsplit(like)
    return f"postgresql://{parts.username or 'postgres'}:{parts.password or ''}@{name}:{port}{parts.path}"


@asynccontextmanager
async def connected(
    known: Hosts, dsn: str, **options: Any
) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await known.connect(
        timeout=AMPLE, dsn=dsn, connection_class=OwnConnection, statement_cache_size=0, **options
    )
    try:
        yield connection
    finally:
        connection.terminate()


def number_of(connection: object) -> str | None:
    assert isinstance(connection, OwnConnection)
    assert isinstance(connection.place, Place)
    return connection.place.number


@pytest.fixture
def short_first_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave what does not answer soon, and have all the time for what does; forget nothing of it."""
    asked: list[int] = []

    def share(seconds: float, left: int) -> float:
        # The first of all is the one that hangs. From then on it is asked last.
        asked.append(left)
        return 1.0 if len(asked) == 1 else seconds

    monkeypatch.setattr(hosts, "share_of", share)
    monkeypatch.setattr(hosts, "HUNG_FOR", 3600.0)


def test_a_server_has_its_share_of_the_time_and_a_name_of_many_addresses_starves_none() -> None:
    assert share_of(5.0, 1) == 5.0
    assert share_of(5.0, 2) == 2.5
    assert share_of(5.0, 12) == share_of(5.0, 4) == 1.25


@pytest.mark.contract("F3")
@pytest.mark.usefixtures("short_first_share")
async def test_an_address_that_never_answers_is_passed_by_and_asked_last_from_then_on(
    dsn: str, names: Names
) -> None:
    async with two_lines(dsn, dsn) as (hung, healthy, port):
        hung.is_silent = True
        known = Hosts()
        named = at(names.add(ONE, TWO), port, dsn)

        for _ in range(3):
            async with connected(known, named) as connection:
                assert number_of(connection) == TWO
                assert await connection.fetchval("select 1") == 1

        assert (hung.opened, healthy.opened) == (1, 3)


@pytest.mark.contract("F3")
async def test_an_address_that_refuses_or_hangs_up_is_passed_by_at_once(dsn: str, names: Names) -> None:
    async with two_lines(dsn, dsn) as (hanging_up, _, port):
        hanging_up.is_down = True
        known = Hosts()
        async with connected(known, at(names.add(ONE, TWO), port, dsn)) as connection:
            assert number_of(connection) == TWO
        # Nothing listens there, or there is no IPv6 at all.
        async with connected(known := Hosts(), at(names.add("::1", ONE, TWO), port, dsn)) as connection:
            assert number_of(connection) == TWO
            assert known.are_several


@pytest.mark.contract("F3")
async def test_an_address_that_hears_and_hangs_up_is_passed_by(dsn: str, names: Names) -> None:
    deaf, listener = listeners(ONE, TWO)

    async def hear(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        # What a balancer does that has no server: all is read, so that no reset goes back.
        await reader.read(65536)

    accepted = Accepted(hear)
    balancer = await asyncio.start_server(accepted.accept, sock=deaf)
    try:
        async with line_to(dsn, listener=listener):
            named = at(names.add(ONE, TWO), deaf.getsockname()[1], dsn) + "?sslmode=disable"
            async with connected(Hosts(), named) as connection:
                assert number_of(connection) == TWO
    finally:
        await accepted.close(balancer)


@pytest.mark.contract("F3")
async def test_behind_one_name_a_frozen_primary_is_left_when_its_standby_is_promoted(names: Names) -> None:
    with crashable_server() as primary:
        await primary.start()
        await PgQueue(primary.dsn).migrate()
        async with AsyncExitStack() as stack:
            stack.push_async_callback(primary.crash)
            standby = await stack.enter_async_context(Standby.of(primary))
            _, _, port = await stack.enter_async_context(two_lines(standby.dsn, primary.dsn))
            # The one that takes writes, wherever it stands in the answer.
            name = names.add(ONE, TWO)
            pgq = PgQueue(at(name, port, primary.dsn))

            @pgq.task
            async def double(number: int) -> int:
                return 2 * number

            async with pgq, pgq.worker():
                assert await (await double.enqueue(1)).result(timeout=AMPLE) == 2
                await standby.catch_up()
                primary.freeze()
                try:
                    await standby.promote()
                    there = await asyncpg.connect(standby.dsn)
                    try:
                        by_sql = await there.fetchval("select pgqueue.enqueue('double', '[3]')")

                        async def has_ended() -> bool:
                            status = "select status from pgqueue.job where id = $1"
                            return bool(await there.fetchval(status, by_sql))

                        await eventually(has_ended, within=2 * AMPLE)
                    finally:
                        await there.close()
                    with anyio.fail_after(2 * AMPLE):
                        while True:
                            with suppress(DatabaseUnavailableError):
                                assert await (await double.enqueue(4)).result(timeout=AMPLE) == 8
                                break
                finally:
                    primary.thaw()


@pytest.mark.contract("F3")
async def test_two_addresses_of_one_server_are_not_looked_at_again_and_again(
    dsn: str, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "LOOK_WITHIN", AMPLE)
    monkeypatch.setattr(hosts, "LOOK_AGAIN", 3600.0)
    async with two_lines(dsn, dsn) as (_, other, port):
        known = Hosts()
        named = at(names.add(ONE, TWO), port, dsn)
        async with connected(known, named) as connection:
            assert isinstance(connection, OwnConnection)
            for _ in range(3):
                await known.look({connection.place}, dsn=named, connection_class=OwnConnection)
            assert not known.is_old(connection.place)
        assert other.opened == 1


@pytest.mark.contract("F3")
@pytest.mark.usefixtures("short_first_share")
async def test_a_statement_is_cancelled_at_the_address_where_it_runs(
    dsn: str, db: Connection, names: Names
) -> None:
    async with two_lines(dsn, dsn) as (hung, healthy, port):
        hung.is_silent = True
        async with connected(Hosts(), at(names.add(ONE, TWO), port, dsn)) as connection:
            number = connection.get_server_pid()
            running = asyncio.ensure_future(connection.execute("select pg_sleep(3600)"))

            async def runs() -> bool:
                query = "select state = 'active' from pg_stat_activity where pid = $1"
                return bool(await db.fetchval(query, number))

            await eventually(runs)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running

            assert await connection.fetchval("select 1") == 1
            assert healthy.opened == 2
            assert hung.opened == 1
            await eventually(lambda: holds(not inside.cancellations_of(connection)))


@pytest.mark.contract("F2")
async def test_a_long_statement_is_left_alone_although_another_address_is_asked_about_it(
    dsn: str, db: Connection, names: Names
) -> None:
    async with two_lines(dsn, dsn) as (first, _, port):
        pgq = PgQueue(at(names.add(ONE, TWO), port, dsn))
        began = asyncio.Event()

        @pgq.task(max_retries=1, default_retry_delay=0)
        async def patient(ctx: JobContext) -> int:
            async with ctx.transaction() as connection:
                began.set()
                await connection.execute("select pg_advisory_xact_lock(7)")
            return ctx.attempt

        async with pgq, pgq.worker():
            async with db.transaction():
                await db.execute("select pg_advisory_xact_lock(7)")
                job = await patient.enqueue()
                await began.wait()
                # What is connected stays so; who asks comes to the other address.
                first.is_down = True
                asked: set[datetime] = set()

                async def has_asked() -> bool:
                    # The transaction would go on seeing what it has seen.
                    await db.execute("select pg_stat_clear_snapshot()")
                    rows = await db.fetch(
                        "select query_start from pg_stat_activity "
                        "where query like '%idle in a statement%' and pid <> pg_backend_pid()"
                    )
                    asked.update(row["query_start"] for row in rows)
                    return len(asked) > 2

                await eventually(has_asked)
            assert await job.result(timeout=AMPLE) == 1


# Certificates


@asynccontextmanager
async def encrypted(dsn: str, listener: socket.socket) -> AsyncIterator[list[str | None]]:
    """Encrypt what comes for the server of *dsn*; yield the names that it was asked for by."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    asked_for: list[str | None] = []
    context.sni_callback = lambda _, name, __: asked_for.append(name)
    probe = await asyncpg.connect(dsn)
    address = inside.address_of(probe)
    await probe.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # SSLRequest.
        await reader.readexactly(8)
        writer.write(b"S")
        with suppress(ssl.SSLError, OSError):
            await writer.start_tls(context)
            opened = asyncio.open_unix_connection if isinstance(address, str) else asyncio.open_connection
            there = await opened(*([address] if isinstance(address, str) else address))
            pumps = [
                asyncio.ensure_future(pump(reader, there[1])),
                asyncio.ensure_future(pump(there[0], writer)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                there[1].transport.abort()
                for each in pumps:
                    each.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while words := await reader.read(65536):
                writer.write(words)
                await writer.drain()

    accepted = Accepted(serve)
    server = await asyncio.start_server(accepted.accept, sock=listener)
    try:
        yield asked_for
    finally:
        await accepted.close(server)


CERTIFICATE = Path(__file__).parents[1] / "kit/db_pgqueue_test.pem"
"""For db.pgqueue.test alone, signed by itself, with its key."""


async def test_certificates_are_checked_against_the_name_whichever_address_is_taken(
    dsn: str, names: Names
) -> None:
    refusing, listener = listeners(ONE, TWO)
    port = refusing.getsockname()[1]
    refusing.close()
    options = f"?sslmode=verify-full&sslrootcert={CERTIFICATE}"
    names.answers["db.pgqueue.test"] = lambda: [ONE, TWO]
    async with encrypted(dsn, listener) as asked_for:
        async with connected(Hosts(), at("db.pgqueue.test", port, dsn) + options) as connection:
            assert number_of(connection) == TWO
            assert await connection.fetchval("select 1") == 1
            assert asked_for == ["db.pgqueue.test"]
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            async with connected(Hosts(), at(names.add(ONE, TWO), port, dsn) + options):
                pass


async def test_encryption_from_the_first_byte_names_the_server_too() -> None:
    class Loop:
        async def create_connection(self, *arguments: Any, **options: Any) -> Any:
            return arguments, options

    loop: Any = Loop()
    seen: Any = await LoopToPlace(loop, TWO).create_connection(object, "db", 5432, ssl=True)

    assert seen == ((object, TWO, 5432), {"ssl": True, "server_hostname": "db"})
    seen = await LoopToPlace(loop, TWO).create_connection(object, "db", 5432)
    assert seen[1]["server_hostname"] is None


# Names


async def test_a_name_is_asked_for_anew_each_time_and_its_new_address_is_used(dsn: str, names: Names) -> None:
    async with two_lines(dsn, dsn) as (_, _, port):
        known = Hosts()
        name = names.add(ONE)
        async with connected(known, at(name, port, dsn)) as connection:
            assert number_of(connection) == ONE
            assert not known.are_several
        names.answers[name] = lambda: [TWO]
        async with connected(known, at(name, port, dsn)) as connection:
            assert number_of(connection) == TWO


@pytest.fixture
def hanging(names: Names) -> Iterator[Callable[[str], None]]:
    """Have the resolver not answer about a name any more, until the test ends."""
    is_over = threading.Event()

    def hang(name: str) -> None:
        def answer() -> Sequence[str]:
            is_over.wait()
            return ["192.0.2.1"]

        names.answers[name] = answer

    yield hang
    is_over.set()


async def test_while_the_name_server_hangs_the_addresses_before_are_used_and_it_is_asked_once(
    names: Names, hanging: Callable[[str], None]
) -> None:
    name = names.add(ONE, TWO)
    assert await find_addresses(name, within=AMPLE) == (ONE, TWO)
    hanging(name)

    found = [await find_addresses(name, within=AMPLE) for _ in range(5)]

    assert found == [(ONE, TWO)] * 5
    assert names.asked == 2


async def test_a_name_that_is_not_resolved_in_time_is_an_error_that_names_it(
    names: Names, hanging: Callable[[str], None]
) -> None:
    name = names.add()
    hanging(name)

    with pytest.raises(DatabaseUnavailableError, match=f"the name {name} was not resolved"):
        await PgQueue(f"postgresql://{name}/app", connect_timeout=0.2).migrate()


async def test_a_name_server_that_is_away_takes_no_address_away_and_one_that_answers_does(
    names: Names,
) -> None:
    name = names.add(ONE)
    assert await find_addresses(name, within=AMPLE) == (ONE,)

    def raising(code: int) -> Callable[[], Sequence[str]]:
        def answer() -> Sequence[str]:
            raise socket.gaierror(code, "no")

        return answer

    names.answers[name] = raising(socket.EAI_AGAIN)
    assert await find_addresses(name, within=AMPLE) == (ONE,)
    names.answers[name] = raising(socket.EAI_NONAME)
    with pytest.raises(socket.gaierror):
        await find_addresses(name, within=AMPLE)


async def test_numbers_and_paths_are_not_asked_for_and_one_unknown_name_of_several_is_passed_by(
    names: Names,
) -> None:
    name = names.add(ONE, TWO)
    places = await find_places(
        [("192.0.2.7", 1), ("fe80::1%lo", 2), "/run/.s.PGSQL.5432", ("nowhere.invalid", 3), (name, 4)],
        within=AMPLE,
    )

    assert list(map(str, places)) == [
        "192.0.2.7:1",
        "fe80::1%lo:2",
        "/run/.s.PGSQL.5432",
        f"{name}:4 ({ONE})",
        f"{name}:4 ({TWO})",
    ]
    assert names.asked == 1
