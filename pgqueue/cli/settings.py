"""Settings of the command line from the environment and `pyproject.toml`.

One name, three places: `--lease-ttl`, `PGQUEUE_LEASE_TTL`, and `lease_ttl` in `[tool.pgqueue]`. The command
line comes before the environment, that before `pyproject.toml`, and that before the default. Where the
command line and the environment disagree, a line on stderr says so: an operator may not know of one of them.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

SHARED: Final = ("app", "dsn", "schema", "include")
"""Settings of every command that has them as options."""
OF_COMMAND: Final[Mapping[str, Mapping[str, str]]] = {
    "worker": {
        name: name
        for name in (
            "concurrency", "queues", "weights", "processes", "grace", "lease_ttl", "prefetch_multiplier",
            "max_jobs", "max_rss", "uvloop", "metrics_port", "metrics_host", "log_level", "log_jobs",
            "log_format",
        )
    },
    # Not PGQUEUE_PORT: Kubernetes sets that in each pod beside a service that is called pgqueue.
    "web": {
        "web_host": "host", "web_port": "port", "web_name": "name", "web_colour": "colour",
        "log_level": "log_level",
    },
}  # fmt: skip
"""Settings of one command, with the parameter of each."""
NAMES: Final = (*SHARED, *dict.fromkeys(name for names in OF_COMMAND.values() for name in names))
SECRETS: Final = ("dsn", "token", "metrics_token")
"""Their values are shown nowhere."""
NOT_IN_FILES: Final = ("token", "metrics_token")
"""Settings of the environment alone: files are kept under version control."""
FILE: Final = "pyproject.toml"
TABLE: Final = "tool.pgqueue"


@dataclass(frozen=True)
class Given:
    """Where the parameters of the command that runs come from."""

    sources: Mapping[str, str] = field(default_factory=dict)
    """By parameter: COMMANDLINE, ENVIRONMENT, DEFAULT_MAP (pyproject.toml) or DEFAULT."""

    def is_on_command_line(self, name: str) -> bool:
        """Whether the command line itself has this parameter."""
        return self.sources.get(name) == "COMMANDLINE"

    def where(self, name: str) -> str:
        """Return where a parameter comes from, in words."""
        source = self.sources.get(name)
        return {"ENVIRONMENT": variable(name), "DEFAULT_MAP": f"{name} in {FILE}"}.get(
            source or "", f"--{name.replace('_', '-')}"
        )


_GIVEN: Final = ContextVar[Given | None]("given", default=None)


def given() -> Given:
    """Return where the parameters of the command that runs come from."""
    return _GIVEN.get() or Given()


@dataclass(frozen=True)
class Project:
    """What a project's `pyproject.toml` says about pgqueue."""

    folder: Path | None = None
    values: Mapping[str, Any] = field(default_factory=dict)


_PROJECT: Final = ContextVar[Project | None]("project", default=None)


def project() -> Project:
    """Return the project of the command that runs."""
    return _PROJECT.get() or Project()


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return f"PGQUEUE_{name.upper()}"


def read_project(start: Path) -> Project:
    """Read `[tool.pgqueue]` of the nearest `pyproject.toml`, in *start* or a folder above it.

    Raises typer.BadParameter for one that cannot be read, or with a setting that does not exist.
    """
    file = next((each / FILE for each in (start, *start.parents) if (each / FILE).is_file()), None)
    if file is None:
        return Project()
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
        document = tomllib.loads(text)
    except OSError:
        return Project()
    except tomllib.TOMLDecodeError as error:
        if TABLE not in text:
            # Whatever is wrong with it is not about pgqueue.
            return Project()
        raise typer.BadParameter(f"{file} cannot be read: {error}") from error
    tool = document.get("tool")
    values = tool.get("pgqueue", {}) if isinstance(tool, dict) else {}
    if not isinstance(values, dict):
        raise typer.BadParameter(f"{file}: [{TABLE}] must be a table of settings")
    for name in values:
        _check_name(name, file)
    return Project(file.parent, {name: _as_given(name, value, file) for name, value in values.items()})


def _check_name(name: str, file: Path) -> None:
    if name in NOT_IN_FILES:
        raise typer.BadParameter(
            f"{file}: [{TABLE}] has {name!r}, and a secret does not belong into a file: set {variable(name)}"
        )
    if name not in NAMES:
        near = difflib.get_close_matches(name.replace("-", "_"), NAMES, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(sorted(NAMES))}"
        raise typer.BadParameter(f"{file}: [{TABLE}] has no setting {name!r}; {hint}")


def _as_given(name: str, value: object, file: Path) -> object:
    """Return a value as the command line would have it."""
    if name in ("queues", "weights"):
        if isinstance(value, list) and name == "queues" and all(isinstance(each, str) for each in value):
            return ",".join(value)
        if isinstance(value, dict):
            return ",".join(f"{queue}:{number}" for queue, number in value.items())
    if name == "include" and isinstance(value, str):
        return [value]
    is_list = name == "include" and isinstance(value, list) and all(isinstance(each, str) for each in value)
    if is_list or isinstance(value, str | int | float):
        return value
    raise typer.BadParameter(f"{file}: [{TABLE}] {name} must be a string, a number or true or false")


class Command(TyperCommand):
    """A command, some of whose options are settings."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line. An error of another source says which one that is."""
        # Any: newer versions of typer bring a click of their own.
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            name = str(getattr(error.param, "name", ""))
            source = _source(ctx, name)
            # The message names a variable by itself.
            if source == "DEFAULT_MAP":
                error.message += f" (from {Given({name: source}).where(_setting(ctx.info_name, name))})"
            envvar = getattr(error.param, "envvar", None)
            if source == "ENVIRONMENT" and isinstance(envvar, str):
                error.message += _of_kubernetes(envvar)
            raise

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the parts of the usage line. An argument that may be left out has one pair of brackets."""
        pieces = super().collect_usage_pieces(ctx)
        return [each[1 : each.rindex("]")] if each.startswith("[[") else each for each in pieces]

    def invoke(self, ctx: Any) -> Any:
        """Run the command, which finds by `given` where its parameters come from."""
        now = Given({name: _source(ctx, name) for name in ctx.params})
        if not ctx.params.get("supervisor_pipe"):
            # A process of a supervisor is given everything, and the operator gave none of it.
            for line in contradictions(ctx, now):
                typer.echo(f"pgqueue: {line}", err=True)
        token = _GIVEN.set(now)
        try:
            return super().invoke(ctx)
        finally:
            _GIVEN.reset(token)


def contradictions(ctx: Any, now: Given) -> Iterator[str]:
    """Yield where the environment says something else than the command line, and what probably is a typo."""
    by_name = {each.name: each for each in ctx.command.params}
    for name, value in ctx.params.items():
        envvar = getattr(by_name.get(name), "envvar", None)
        in_environment = os.environ.get(envvar) if isinstance(envvar, str) else None
        if not in_environment or not now.is_on_command_line(name):
            continue
        if in_environment == _shown(value):
            continue
        option = f"--{name.replace('_', '-')}"
        if name in SECRETS:
            yield f"{option} is used, and not {envvar}, which has another value"
        else:
            yield f"{option}={_shown(value)} is used, and not {envvar}={in_environment}"
    known = {*map(variable, NAMES), *map(variable, NOT_IN_FILES)}
    for name in sorted(os.environ):
        if name.startswith("PGQUEUE_") and name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.9)
            if near:
                yield f"{name} is not a setting; did you mean {near[0]}?"


def _of_kubernetes(envvar: str) -> str:
    """Return who sets a variable, if that is Kubernetes: in each pod, an address for each Service."""
    if not os.environ.get(envvar, "").startswith(("tcp://", "udp://")) or not envvar.endswith("_PORT"):
        return ""
    service = envvar.removesuffix("_PORT").lower().replace("_", "-")
    return (
        f". Kubernetes sets it where there is a Service called {service}: give the pod "
        "enableServiceLinks: false, or the Service another name"
    )


def _shown(value: object) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _source(ctx: Any, name: str) -> str:
    source = ctx.get_parameter_source(name)
    return "DEFAULT" if source is None else str(source.name)


def _setting(command: str | None, parameter: str) -> str:
    """Return the setting that is this parameter of a command."""
    names = OF_COMMAND.get(command or "", {})
    return next((name for name, each in names.items() if each == parameter), parameter)


def defaults(group: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return *values* of `pyproject.toml` by command and parameter, as click's default map has them."""
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            found[name] = defaults(command, values)
            continue
        settings = {**{each: each for each in SHARED}, **OF_COMMAND.get(name, {})}
        parameters = {each.name for each in command.params}
        found[name] = {
            parameter: values[setting]
            for setting, parameter in settings.items()
            if setting in values and parameter in parameters
        }
    return found


@contextmanager
def project_of(start: Path) -> Iterator[Project]:
    """Read the project around *start*, which `project` returns inside the block."""
    found = read_project(start)
    token = _PROJECT.set(found)
    try:
        yield found
    finally:
        _PROJECT.reset(token)
