"""DSNs as providers print them: each works, or an error names the parameter and shows no password."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgqueue import ConfigurationError, DatabaseUnavailableError, PgQueue
from pgqueue.database.dsn import read_dsn

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

pytestmark = pytest.mark.contract("W5")

SECRET = "s3cr3tPW"

AS_PRINTED = {
    "Neon": "sslmode=prefer&channel_binding=prefer&connect_timeout=15",
    "Supabase": "pgbouncer=true&connection_limit=1&workaround=supabase-pooler.vercel&supa=base-pooler.x",
    "Prisma": "schema=app&connection_limit=5&pool_timeout=10&socket_timeout=3&sslaccept=strict",
    "libpq": "keepalives=1&keepalives_idle=30&keepalives_interval=10&keepalives_count=5&tcp_user_timeout=9",
    "Heroku": "ssl=false&uselibpqcompat=true",
    "DigitalOcean": "sslmode=prefer&target_session_attrs=any&gssencmode=disable",
    "JDBC": "currentSchema=app,public&prepareThreshold=0&client_encoding=utf8",
    "options": "options=-c%20geqo%3Doff&application_name=shop&load_balance_hosts=disable",
}


@pytest.mark.parametrize("provider", AS_PRINTED)
async def test_a_dsn_works_as_its_provider_prints_it(dsn: str, provider: str) -> None:
    more = f"{dsn}{'&' if '?' in dsn else '?'}{AS_PRINTED[provider]}"
    for each in (
        more,
        more.replace("postgresql://", "postgresql+asyncpg://"),
        more.replace("postgresql", "postgres", 1),
    ):
        pgq = PgQueue(each)
        assert await pgq.migrate() == []
        async with pgq:
            await pgq.check()
            await pgq.enqueue_by_name("task")


async def test_the_form_of_libpq_works(dsn: str) -> None:
    parts = urlsplit(dsn)
    values = {
        "host": parts.hostname,
        "port": parts.port,
        "user": parts.username,
        "password": parts.password and unquote(parts.password),
        "dbname": parts.path[1:],
        **dict(parse_qsl(parts.query)),
        "application_name": "it's mine",
    }
    pairs = (
        f"{name}='{str(value).replace(chr(39), chr(92) + chr(39))}'"
        for name, value in values.items()
        if value
    )
    async with PgQueue(" ".join(pairs)) as pgq:
        await pgq.check()


async def test_the_name_of_the_application_is_kept(dsn: str, db: Connection) -> None:
    async with PgQueue(f"{dsn}{'&' if '?' in dsn else '?'}application_name=shop") as pgq:
        await pgq.check()
        names = await db.fetch(
            "select distinct application_name from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid()"
        )

    assert [name for (name,) in names] == ["shop"]


async def test_a_parameter_that_nobody_knows_is_named(dsn: str) -> None:
    more = f"{dsn}{'&' if '?' in dsn else '?'}nonsense={SECRET}"
    for call in (PgQueue(more).open, PgQueue(more).migrate):
        with pytest.raises(ConfigurationError, match="'nonsense'") as caught:
            await call()
        assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "given",
    [
        "sslmode=X", "ssl=X", "channel_binding=X", "gssencmode=require", "gssencmode=X", "connect_timeout=X",
        "target_session_attrs=X", "hostaddr=X", "require_auth=X", "replication=X", "port=X",
    ],
)  # fmt: skip
def test_a_parameter_that_cannot_be_heeded_is_named_without_its_value(given: str) -> None:
    name, _, value = given.partition("=")
    for dsn in (
        f"postgresql://user:{SECRET}@host/db?{name}={value.replace('X', SECRET)}",
        f"host=host user=user password={SECRET} {name}={value.replace('X', SECRET)}",
    ):
        with pytest.raises(ConfigurationError, match=f"'{name}'") as caught:
            PgQueue(dsn)
        assert SECRET not in "".join(traceback.format_exception(caught.value))


NOT_QUOTED = st.text("abcXYZ0189@:/#%?&=[]+!$ é", min_size=1, max_size=12).filter(
    # Read as it is meant to be: these quote a character, or are a whole DSN of another meaning.
    lambda text: unquote(text) == text and "?" not in text
)


@given(password=NOT_QUOTED, user=st.sampled_from(["u", "user@server"]))
def test_a_password_that_is_not_quoted_is_what_was_meant(password: str, user: str) -> None:
    for behind in ("", "/db", "/db?sslmode=require", "/db?application_name=a"):
        for hosts in ("host", "db.example.com:6543", "h1:1,h2:2", "[::1]:5432"):
            read = read_dsn(f"postgresql://{user}:{password}@{hosts}{behind}")
            assert read.address.startswith(
                f"postgresql://{quote(user, safe='')}:{quote(password, safe='')}@{hosts}/"
            )


@given(password=st.text(min_size=1).filter(str.isprintable))
def test_a_quoted_password_is_what_was_quoted(password: str) -> None:
    quoted = quote(password, safe="")
    assert read_dsn(f"postgresql://u:{quoted}@h/db").address == f"postgresql://u:{quoted}@h/db"


@pytest.mark.parametrize("password", [f"?{SECRET}", f"{SECRET}/x?", f"a?b/{SECRET}#@:"])
def test_a_password_with_a_question_mark_is_what_was_meant(password: str) -> None:
    read = read_dsn(f"postgresql://u:{password}@h/db?sslmode=require")
    assert read.address == f"postgresql://u:{quote(password, safe='')}@h/db?sslmode=require"


HOSTED: Mapping[str, tuple[str, str]] = {
    "Supabase": ("postgres://postgres.ref:pa%24s@aws-0-eu.pooler.supabase.com:6543/postgres", ""),
    "Neon": ("postgresql://o:npg_x@ep-1-pooler.aws.neon.tech/neondb?sslmode=require&channel_binding=require",
             "postgresql://o:npg_x@ep-1-pooler.aws.neon.tech/neondb?sslmode=require"),
    "RDS": ("postgresql://m:p@db.c1.rds.amazonaws.com:5432/app?sslmode=verify-full&sslrootcert=/a/b.pem", ""),
    "Cloud SQL": ("postgresql://u:p@/db?host=/cloudsql/project:region:instance",
                  "postgresql://u:p@/db?host=/cloudsql/project%3Aregion%3Ainstance"),
    "a quoted socket": ("postgresql://u:p@%2Fvar%2Frun%2Fpostgresql:5433/db", ""),
    "Azure": ("postgresql://user@server:p@server.postgres.database.azure.com:5432/db?sslmode=require",
              "postgresql://user%40server:p@server.postgres.database.azure.com:5432/db?sslmode=require"),
    "Azure, in words": ("host=s.azure.com port=5432 dbname=db user=user@server password=p sslmode=require",
                        "postgresql://user%40server:p@/db?host=s.azure.com&port=5432&sslmode=require"),
    "Heroku": ("postgres://u:p1@ec2-1-2-3-4.compute-1.amazonaws.com:5432/d1", ""),
    "Aiven": ("postgres://avnadmin:AVNS_x@pg-1.a.aivencloud.com:12345/defaultdb?sslmode=require", ""),
    "PlanetScale": ("postgresql://p.x:w@a.psdb.cloud:6432/db?sslnegotiation=direct&sslmode=verify-full", ""),
    "several hosts": ("postgresql://u:p@h1:5432,h2:5432/db?target_session_attrs=read-write", ""),
    "IPv6": ("postgresql://u:p@[fe80::1%25eth0]:5432/db", ""),
    "a service": ("service=prod dbname=x", "postgresql:///x?service=prod"),
    "a file of passwords": ("postgresql://u@h/db?passfile=/home/x/.pgpass", ""),
    "empty parameters": ("postgresql://u:p@h/db?sslmode=require&sslcert=&sslkey=",
                         "postgresql://u:p@h/db?sslmode=require"),
}  # fmt: skip
"""What providers print, and what asyncpg is given of it, where that is not the same."""


@pytest.mark.parametrize("provider", HOSTED)
def test_asyncpg_is_given_what_a_provider_prints(provider: str) -> None:
    printed, address = HOSTED[provider]
    expected = address or printed.replace("postgres://", "postgresql://")
    assert read_dsn(printed).address == expected


@pytest.mark.parametrize("option", ["project%3Dep-1", "endpoint=ep-1", "-csearch_path%3Da%20-c%20geqo%3Doff"])
def test_the_options_of_a_dsn_go_to_the_server_as_they_are(option: str) -> None:
    read = read_dsn(f"postgresql://u:p@h/db?options={option}")
    assert read.server_settings == {"options": unquote(option)}


@pytest.mark.parametrize("given", ["", "sslmode=prefer&", "sslmode=allow&", "sslmode=verify-full&"])
def test_where_channel_binding_is_required_tls_is_and_a_warning_says_what_is_missing(
    given: str, caplog: pytest.LogCaptureFixture
) -> None:
    read = read_dsn(f"postgresql://u:p@h/db?{given}channel_binding=require")
    assert "sslmode=verify-full" in read.address or "sslmode=require" in read.address
    assert caplog.text.count("channel_binding=require") == 1


def test_channel_binding_without_tls_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="channel_binding=require needs sslmode"):
        read_dsn("postgresql://u:p@h/db?channel_binding=require&sslmode=disable")


@pytest.mark.parametrize("before", ["12", "5432/x", "12/"])
@pytest.mark.parametrize("name", ["host", "password", "sslmode", "options"])
def test_a_dsn_that_can_be_read_in_two_ways_is_refused(before: str, name: str) -> None:
    # A password in which a parameter seems to be, or a parameter with an @ in it.
    with pytest.raises(ConfigurationError, match="it is unclear whether an '@'") as caught:
        read_dsn(f"postgresql://u:{before}?{name}={SECRET}@h/db")
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "dsn",
    [
        f"postgresql://u:{SECRET}@h:port/db", f"postgres//u:{SECRET}@h/db", f"mysql://u:{SECRET}@h/db",
        f"host=h password={SECRET} dbname", f"host=h password='{SECRET} dbname=x",
        SECRET, f"postgresql://u:{SECRET}@h/db?sslmode",
    ],
)  # fmt: skip
def test_an_invalid_dsn_is_refused_without_a_word_of_the_password(
    dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ConfigurationError, match="invalid DSN") as caught:
        PgQueue(dsn)
    assert SECRET not in "".join(traceback.format_exception(caught.value)) + caplog.text


async def test_an_outage_names_its_cause_and_the_time_that_passed() -> None:
    pgq = PgQueue(f"postgresql://u:{SECRET}@127.0.0.1:1/db?connect_timeout=30")
    for call in (pgq.open, pgq.migrate):
        with pytest.raises(DatabaseUnavailableError, match="ConnectionRefusedError") as caught:
            await call()
        assert "within 30" not in str(caught.value)
        assert SECRET not in "".join(traceback.format_exception(caught.value)) + repr(pgq)


async def test_what_the_server_says_of_a_login_is_told(dsn: str) -> None:
    parts = urlsplit(dsn)
    wrong = parts._replace(path="/no_such_database").geturl()
    with pytest.raises(DatabaseUnavailableError, match="no_such_database"):
        await PgQueue(wrong).open()
