"""The SQL as source: every statement can be prepared, is used, and says what its parameters are."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import asyncpg
import pytest
from kit import inside
from kit.waiting import eventually

from pgqueue import JobContext, JobNotFoundError, PgQueue, RefusedByDatabaseError, group
from pgqueue.database import migrations
from pgqueue.database.failing import statement_of
from pgqueue.database.script import statements_of
from pgqueue.database.sql import Migration, load_migrations, load_statements

ROOT = Path(__file__).parents[2]
SQL = ROOT / "sql"
USE = re.compile(r"(?:sql|load_statements\(\w+\))\[\"(\w+)\"\]")
# Files of more than one statement; of any other, more than one could not be prepared.
SCRIPTS = {"make_migration_table"}
# Without schema.sql, which nothing loads.
FILES = sorted(SQL.glob("*/*.sql"))
STATEMENTS = {
    path.stem: path.read_text(encoding="utf-8") for path in FILES if path.parent.name != "migrations"
}


@pytest.fixture
def types_asked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What pgqueue's connections ask the server about types, from now on."""
    return inside.note_asked_types(monkeypatch)


def code_of(text: str) -> str:
    """Return *text* without its comments."""
    return re.sub(r"--.*", "", text)


def first_sentence(text: str) -> str:
    """Return the first sentence of the comment at the head of a file."""
    head = re.match(r"(?:--.*\n)+", text)
    assert head is not None, "no comment at the head"
    comment = re.sub(r"^-- ?", "", head[0], flags=re.MULTILINE)
    return re.split(r"\.(?:\s|$)|\n\n", comment, maxsplit=1)[0]


def parameters(text: str) -> set[int]:
    """Return the numbers of the parameters that *text* speaks of; `$1 to $4` speaks of four."""
    found = {int(number) for number in re.findall(r"\$(\d+)", text)}
    for first, last in re.findall(r"\$(\d+) to \$(\d+)", text):
        found |= set(range(int(first), int(last) + 1))
    return found


@pytest.mark.core
@pytest.mark.parametrize("schema", ["pgqueue", "other_jobs"])
async def test_every_statement_can_be_prepared(empty_dsn: str, schema: str) -> None:
    await PgQueue(empty_dsn, schema=schema).migrate()
    connection = await asyncpg.connect(empty_dsn)

    try:
        for name, sql in load_statements(schema).items():
            parts = code_of(sql).split(";\n\n") if name in SCRIPTS else [sql]
            for part in parts:
                await connection.prepare(part)
    finally:
        await connection.close()


@pytest.mark.contract("F10")
async def test_a_new_connection_asks_for_no_type_of_any_statement(
    pgq: PgQueue, types_asked: list[object]
) -> None:
    connection = await inside.database(pgq).connect(durable=True)

    try:
        for name, sql in load_statements("pgqueue").items():
            if name not in SCRIPTS:
                await connection.prepare(sql)
                assert not types_asked, name
        # What is not known is asked for: the list is a list of accidents.
        await connection.prepare("select $1::pg_catalog.inet[]")
        assert types_asked
    finally:
        await connection.close()


@pytest.mark.contract("F10")
async def test_no_call_and_no_worker_asks_for_types(pgq: PgQueue, types_asked: list[object]) -> None:
    @pgq.task(name="work", max_retries=1, default_retry_delay=0)
    async def work(ctx: JobContext) -> None:
        await ctx.step("one", asyncio.sleep, 0)
        # Its connection is a plain one, which the user may have taught other types.
        async with ctx.transaction() as connection:
            await pgq.enqueue_by_name("child", connection=connection)
            await pgq.enqueue_many([pgq.signature("child")], connection=connection)
        if ctx.attempt == 1:
            raise RuntimeError

    async with pgq.worker(poll_interval=0.1):
        jobs = [*await pgq.enqueue_many([pgq.signature("work")] * 3), await work.enqueue()]
        for job in jobs:
            await job.result(timeout=60)
        flow = await pgq.enqueue_workflow(group(pgq.signature("work"), pgq.signature("work")))
        await flow.result(timeout=60)

    assert types_asked == []


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_file_begins_with_a_sentence_that_names_its_parameters(name: str) -> None:
    sentence = first_sentence(STATEMENTS[name])

    assert sentence.startswith(f"{name}: ")
    assert parameters(sentence) == parameters(code_of(STATEMENTS[name]))


@pytest.mark.contract("F10")
@pytest.mark.parametrize("migration", load_migrations("pgqueue"), ids=lambda each: each.name)
def test_a_migration_is_divided_into_statements_that_are_all_of_it(migration: Migration) -> None:
    code = "".join(code_of(statement) for _, statement in statements_of(migration.sql))

    assert re.sub(r"\s", "", code) == re.sub(r"\s", "", code_of(migration.sql))
    assert all(statement.endswith(";") for _, statement in statements_of(migration.sql))


@pytest.mark.contract("F10")
async def test_a_migration_that_fails_names_its_statement_and_changes_nothing(
    empty_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Migration(2, "second", "-- Why.\ncreate table pgqueue.fine (id int);\n\nselect 1\n/ 0;\n", 1)
    whole = load_migrations("pgqueue")
    monkeypatch.setattr(migrations, "load_migrations", lambda _: [whole[0], broken])

    with pytest.raises(Exception, match=r"division by zero \(migration 0002_second, line 4: select 1\)"):
        await PgQueue(empty_dsn).migrate()

    connection = await asyncpg.connect(empty_dsn)
    assert await connection.fetchval("select to_regclass('pgqueue.fine')") is None
    await connection.close()


FAILING = [
    name for name, text in STATEMENTS.items() if "insert into pgqueue.attempt" in text and "'failed'" in text
]


@pytest.mark.contract("F10")
@pytest.mark.parametrize("name", [*FAILING, "fail"])
def test_what_fails_jobs_writes_the_record_before_the_attempt(name: str) -> None:
    """The attempt enters the dead letters by what its record says."""
    [record] = re.findall(r"^(\w+) as \(\n    update pgqueue\.job\n", code_of(STATEMENTS[name]), re.MULTILINE)
    attempt = re.split(r"\n\),?\n", code_of(STATEMENTS[name]).partition("insert into pgqueue.attempt")[2])[0]

    assert f"any(array(select id from {record}))" in attempt


def test_every_statement_is_used_by_its_name_and_no_other_is() -> None:
    sources = {path: path.read_text(encoding="utf-8") for path in (ROOT / "pgqueue").rglob("*.py")}

    used = {name for source in sources.values() for name in USE.findall(source)}

    assert used == STATEMENTS.keys()


def test_no_sql_stands_in_the_package_but_what_asks_the_session() -> None:
    statement = re.compile(
        r"\b(?:insert into|delete from|update \S+ set|select .*\bfrom|create (?:table|schema))\b"
    )

    written = [
        (path.name, found[0])
        for path in (ROOT / "pgqueue").rglob("*.py")
        # Django's cursors take placeholders of their own: its statements are in one module.
        if path != ROOT / "pgqueue" / "integrations" / "django" / "statements.py"
        for found in statement.finditer(path.read_text(encoding="utf-8"))
    ]

    assert written == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_rows_are_named_by_their_keys(path: Path) -> None:
    code = code_of(path.read_text(encoding="utf-8"))

    assert not re.search(r"\bctid\b", code)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_relation_is_named_with_its_schema(path: Path) -> None:
    code = code_of(path.read_text(encoding="utf-8"))
    tables = "job|ready|running|scheduled|blocked|attempt|lease|lane|cancel_request|jobs|migration"

    bare = re.findall(rf"\b(?:from|join|into|update|table|on) ({tables})\b(?! *[.=(])", code)

    assert bare == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_another_schema_takes_every_place_of_the_name(path: Path) -> None:
    loaded = {
        **load_statements("other_jobs"),
        **{f"{each.version:04}_{each.name}": each.sql for each in load_migrations("other_jobs")},
    }

    left = re.findall(r"\w*pgqueue[\w.]*", code_of(loaded[path.stem]))

    # What is left is text for people, or the name of a lock that all schemas share.
    assert [word for word in left if word.endswith(".") or "." in word] == []


async def test_another_schema_works_from_end_to_end(empty_dsn: str) -> None:
    queue = PgQueue(empty_dsn, schema="other_jobs")

    @queue.task(max_retries=1, default_retry_delay=0)
    async def echo(text: str) -> str:
        return text

    await queue.migrate()
    async with queue, queue.worker():
        assert await (await echo.enqueue("now")).result(timeout=60) == "now"
        assert await (await echo.options(delay=0.1).enqueue("later")).result(timeout=60) == "later"
        async with inside.database(queue).acquire() as connection:
            by_sql = await connection.fetchval("select other_jobs.enqueue('echo', '[\"sql\"]')")
        assert await queue.handle(by_sql).result(timeout=60) == "sql"
        async with inside.database(queue).acquire() as connection:
            schemas = await connection.fetch("select nspname from pg_namespace where nspname = 'pgqueue'")
    assert schemas == []


async def test_two_schemas_in_one_database_do_not_mix(empty_dsn: str) -> None:
    ran: list[str] = []
    one, two = PgQueue(empty_dsn, schema="one"), PgQueue(empty_dsn, schema="two")

    @one.task(name="work")
    async def work_of_one() -> None:
        ran.append("one")

    @two.task(name="work")
    async def work_of_two() -> None:
        ran.append("two")

    await one.migrate()
    await two.migrate()
    async with one, two:
        job = await work_of_one.enqueue()
        other = await work_of_two.enqueue()
        async with two.worker():
            await other.result(timeout=60)

            async def is_idle() -> bool:
                return not any(worker.running for worker in two.workers)

            await eventually(is_idle)
        with pytest.raises(JobNotFoundError):
            await two.get(job.id)
        async with one.worker():
            await job.result(timeout=60)

    assert ran == ["two", "one"]


@pytest.mark.contract("W8")
@pytest.mark.parametrize("raised_by", ["server", "driver"])
async def test_an_error_names_its_statement_whoever_raised_it(pgq: PgQueue, raised_by: str) -> None:
    store, known = inside.store(pgq), []
    if raised_by == "server":
        inside.break_statements(store, "upkeep")
    else:
        known.append(7)

    with pytest.raises((RefusedByDatabaseError, asyncpg.DataError)) as raised:
        async with inside.database(pgq).acquire() as connection:
            await store.fail_unknown(connection, 1.0, known, 10)  # type: ignore[arg-type]  # on purpose

    assert statement_of(raised.value) == "upkeep/fail_unknown"
    assert statement_of(KeyError(7)) is None
