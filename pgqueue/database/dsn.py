"""Reads DSNs as providers print them: URLs with parameters of any driver, and libpq's `name=value` strings.

asyncpg sends every parameter that it does not know to the server, as a setting, and the server refuses the
connection. It also takes a password apart that contains one of `@ : / # ? %`. So a DSN is read here, and
asyncpg gets the parts. No error names a value, because it might be part of a password.
"""

from __future__ import annotations

import logging
import re
import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, unquote

from pgqueue.errors import ConfigurationError

logger = logging.getLogger("pgqueue.database")

_SCHEME: Final = re.compile(r"(postgres(?:ql)?)(?:\+\w+)?://(.*)", re.DOTALL)
"""SQLAlchemy's has the driver in it, as in `postgresql+asyncpg://`."""
_HOST: Final = r"(?:\[[0-9A-Fa-f:.]+(?:%[\w.~%-]+)?\]|[^@:/?#\[\]\s,]*)(?::\d*)?"
_BEHIND_USER: Final = re.compile(
    rf"(?P<hosts>{_HOST}(?:,{_HOST})*)(?:/(?P<database>[^?/@]*)/?)?(?:\?(?P<query>.*))?", re.DOTALL
)
"""Hosts, database and parameters."""
_PAIR: Final = re.compile(r"\s*(\w+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s'\\]|\\.)*))(?=\s|$)", re.DOTALL)
"""One parameter of a string in libpq's form."""

_OF_ASYNCPG: Final = frozenset(
    {
        "host", "port", "passfile", "sslmode", "sslcert", "sslkey", "sslrootcert", "sslnegotiation", "sslcrl",
        "sslpassword", "ssl_min_protocol_version", "ssl_max_protocol_version", "target_session_attrs",
        "krbsrvname", "gsslib", "service",
    }
)  # fmt: skip
"""Parameters that asyncpg reads from a DSN. User, password and database go where they are quoted."""

_IGNORED: Final = frozenset(
    {
        # pgqueue notices by itself that a connection is dead.
        "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout",
        # Text is always sent as UTF-8.
        "client_encoding",
        # How other drivers keep pools and statements, and what providers have them work around.
        "connection_limit", "pool_timeout", "socket_timeout", "max_idle_connection_lifetime",
        "statement_cache_size", "prepared_statement_cache_size", "prepared_statement_name_func",
        "preparethreshold", "async_fallback", "load_balance_hosts", "uselibpqcompat", "workaround", "supa",
        # Of the connection's encryption: no part of what asyncpg does.
        "sslcompression", "sslsni", "sslcertmode", "sslaccept", "gssdelegation", "sslkeylogfile",
        "min_protocol_version", "max_protocol_version",
    }
)  # fmt: skip
"""Parameters without a meaning here."""

_REFUSED: Final = frozenset(
    {
        "hostaddr", "requirepeer", "require_auth", "replication", "scram_client_key", "scram_server_key",
        "oauth_issuer", "oauth_client_id", "oauth_client_secret", "oauth_scope", "servicefile", "requiressl",
    }
)  # fmt: skip
"""Parameters that ask for something that asyncpg does not do."""

_KNOWN: Final = (
    _OF_ASYNCPG
    | _IGNORED
    | _REFUSED
    | {
        "user", "password", "dbname", "database", "ssl", "connect_timeout", "pgbouncer", "channel_binding",
        "gssencmode", "schema", "currentschema", "application_name", "fallback_application_name", "options",
        "search_path", "timezone",
    }
)  # fmt: skip

_SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_OTHER_SSL_MODES: Final = {
    "true": "require", "1": "require", "on": "require", "no-verify": "require",
    "false": "disable", "0": "disable", "off": "disable",
}  # fmt: skip
"""What other drivers call these modes."""
_TARGETS: Final = ("any", "read-write", "read-only", "primary", "standby", "prefer-standby")
_USUAL: Final = ("disable", "prefer")
_TRUE: Final = ("true", "1", "on", "yes")


@dataclass(frozen=True, slots=True)
class Dsn:
    """A DSN that was read. Its repr shows nothing that is secret."""

    address: str = field(repr=False)
    """What asyncpg is given: hosts, user, password, database, and the parameters that it knows."""
    server_settings: Mapping[str, str] = field(default_factory=dict, repr=False)
    search_path: str | None = None
    """Where the application's tables are, for its own statements; None: wherever the server says."""
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """More arguments for `asyncpg.connect`."""
    connect_timeout: float | None = None
    """In seconds; None: the DSN has none."""
    is_pooled: bool = False
    """Whether it says that it leads through a transaction-mode pooler. If not, it may do so all the same."""


def read_dsn(dsn: str) -> Dsn:
    """Read a DSN. Raises ConfigurationError, which names the parameter at fault and shows no value."""
    if "://" in dsn or "=" not in dsn:
        base, given = _read_url(dsn)
    else:
        base, given = "", _read_pairs(dsn)
    return _sort(base, given)


def _read_url(dsn: str) -> tuple[str, dict[str, str]]:
    """Return the hosts of a URL, quoted as they were, and all other parts as parameters."""
    url = _SCHEME.fullmatch(dsn.strip())
    if url is None:
        raise ConfigurationError(
            "invalid DSN: it must begin with postgresql:// or postgres://, "
            "or have the form 'host=... dbname=... user=...'"
        )
    userinfo, behind = _split(url[2])
    given: dict[str, str] = {}
    user, has_password, password = userinfo.partition(":")
    if user:
        given["user"] = _unquoted(user)
    if has_password:
        given["password"] = _unquoted(password)
    if behind["database"]:
        given["dbname"] = _unquoted(behind["database"])
    for pair in (behind["query"] or "").split("&"):
        if not pair:
            continue
        name, is_pair, value = pair.partition("=")
        if not is_pair:
            raise ConfigurationError(
                "invalid DSN: what follows '?' must be name=value pairs, joined by '&'; "
                "quote a '?' in a user name or password as %3F"
            )
        is_secret = name.lower() in ("user", "password")
        given[_unquoted(name)] = _unquoted(value if is_secret else value.replace("+", " "))
    # A port may be left out behind its colon.
    return re.sub(r":(?=,|$)", "", behind["hosts"]), given


def _split(rest: str) -> tuple[str, re.Match[str]]:
    """Take apart what follows the scheme: user and password, and what is behind them.

    A password that was not quoted may contain whatever else separates the parts. Read as it is meant to be
    quoted first; then with the last `@` that has something possible behind it. Where both may be meant, it is
    refused: what is a password to one reading is a host to the other, and would be asked for.
    """
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    userinfo, at, _ = authority.rpartition("@")
    behind = _BEHIND_USER.fullmatch(rest, len(userinfo) + len(at))
    # An `@` only behind a `?` may as well end a password that begins before it.
    is_clear = bool(at) or "@" not in rest
    unquoted = _split_unquoted(rest)
    if behind is not None and _has_parameters_only(behind, of=None if is_clear else _KNOWN):
        if not is_clear and ":" in authority and unquoted is not None:
            raise ConfigurationError(
                "invalid DSN: it is unclear whether an '@' behind the '?' ends a password or belongs to a "
                "parameter; quote it (@ as %40), and in a password quote ? as %3F and = as %3D"
            )
        return userinfo, behind
    if unquoted is not None:
        return unquoted
    raise ConfigurationError(
        "invalid DSN: it must have the form postgresql://user:password@host:port/database?name=value; "
        "quote special characters in the user name and the password (@ as %40, / as %2F)"
    )


def _split_unquoted(rest: str) -> tuple[str, re.Match[str]] | None:
    place = rest.rfind("@")
    while place >= 0:
        behind = _BEHIND_USER.fullmatch(rest, place + 1)
        if behind is not None and _has_parameters_only(behind):
            return rest[:place], behind
        place = rest.rfind("@", 0, place)
    return None


def _has_parameters_only(behind: re.Match[str], *, of: Collection[str] | None = None) -> bool:
    pairs = [pair.partition("=") for pair in (behind["query"] or "").split("&") if pair]
    return all(equals and (of is None or name.lower() in of) for name, equals, _ in pairs)


def _unquoted(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        # Not quoted, but a password with percent signs.
        return text


def _read_pairs(dsn: str) -> dict[str, str]:
    """Read libpq's form: name=value, with values in single quotes where they have spaces."""
    given: dict[str, str] = {}
    place = 0
    text = dsn.strip()
    while place < len(text):
        pair = _PAIR.match(text, place)
        if pair is None:
            after = f" after parameter {list(given)[-1]!r}" if given else ""
            raise ConfigurationError(
                f"invalid DSN: expected name=value{after}; put a value with spaces in single quotes"
            )
        value = pair[3] if pair[2] is None else pair[2]
        given[pair[1]] = re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)
        place = pair.end()
    return given


def _sort(hosts: str, given: Mapping[str, str]) -> Dsn:  # noqa: C901, PLR0912  # a case for each kind
    passed: dict[str, str] = {}
    settings: dict[str, str] = {}
    parts: dict[str, str] = {}
    connect_timeout: float | None = None
    search_path: str | None = None
    is_pooled = must_encrypt = False
    for given_name, value in given.items():
        match name := given_name.lower():
            case "user" | "password":
                parts[name] = value
            case "dbname" | "database":
                parts["dbname"] = value
            case "ssl" | "sslmode":
                passed["sslmode"] = _choice(given_name, _OTHER_SSL_MODES.get(value, value), _SSL_MODES)
            case "target_session_attrs":
                passed[name] = _choice(name, value, _TARGETS)
            case "port":
                if not all(port.isdecimal() or not port for port in value.split(",")):
                    raise ConfigurationError("invalid DSN: parameter 'port' must be a number")
                passed[name] = value
            case "connect_timeout":
                connect_timeout = _seconds(name, value)
            case "pgbouncer":
                is_pooled = value.lower() in _TRUE
            case "channel_binding":
                must_encrypt = _choice(name, value, (*_USUAL, "require")) == "require"
            case "gssencmode":
                _choice(name, value, _USUAL)
            case "schema" | "currentschema":
                search_path = ", ".join(
                    '"' + each.strip().replace('"', '""') + '"' for each in value.split(",")
                )
            case "fallback_application_name":
                settings.setdefault("application_name", value)
            case _ if name in _OF_ASYNCPG:
                if value:
                    passed[name] = value
            case _ if name in _REFUSED:
                raise ConfigurationError(f"invalid DSN: parameter {given_name!r} is not supported; remove it")
            case _ if name not in _IGNORED:
                # The server knows whether it is a setting: see `refused_parameter`.
                settings[given_name] = value
    if must_encrypt:
        _encrypt(passed)
    options: dict[str, Any] = {}
    if passed.get("sslrootcert") == "system":
        # libpq's name for the certificates that the operating system trusts.
        del passed["sslrootcert"]
        if passed.pop("sslmode", "verify-full") != "verify-full":
            raise ConfigurationError("invalid DSN: sslrootcert=system needs sslmode=verify-full")
        options["ssl"] = ssl.create_default_context()
    return Dsn(
        _address(hosts, parts, passed), settings, search_path, options, connect_timeout, is_pooled=is_pooled
    )


def _encrypt(passed: dict[str, str]) -> None:
    """Do what can be done for channel_binding=require: encrypt, and never fall back to plain text."""
    if passed.get("sslmode") == "disable":
        raise ConfigurationError("invalid DSN: channel_binding=require needs sslmode=require or stricter")
    if passed.get("sslmode") not in ("verify-ca", "verify-full"):
        passed["sslmode"] = "require"
    logger.warning(
        "the DSN has channel_binding=require, which asyncpg cannot do: connecting over TLS without it; "
        "sslmode=verify-full checks that the server is the right one"
    )


def _address(hosts: str, parts: Mapping[str, str], passed: Mapping[str, str]) -> str:
    user = quote(parts["user"], safe="") if "user" in parts else ""
    password = f":{quote(parts['password'], safe='')}" if "password" in parts else ""
    at = "@" if user or password else ""
    database = quote(parts.get("dbname", ""), safe="")
    query = "&".join(f"{name}={quote(value, safe='/,')}" for name, value in passed.items())
    return f"postgresql://{user}{password}{at}{hosts}/{database}{'?' if query else ''}{query}"


def _choice(name: str, value: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise ConfigurationError(f"invalid DSN: parameter {name!r} must be one of {', '.join(choices)}")
    return value


def _seconds(name: str, value: str) -> float | None:
    try:
        seconds = float(value)
    except ValueError:
        seconds = float("nan")
    if not seconds < float("inf"):
        raise ConfigurationError(f"invalid DSN: parameter {name!r} must be a number of seconds")
    # To libpq, 0 and less mean no limit. pgqueue always has one.
    return seconds if seconds > 0 else None


def refused_parameter(message: str) -> str | None:
    """Return the parameter that a server or a pooler refuses, by what its *message* says."""
    found = re.search(r'parameter:? "?(?:options:? )?([\w.]+)', message)
    return None if found is None else found[1]
