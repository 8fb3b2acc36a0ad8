"""Settings of the command line, the environment and pyproject.toml, and what is said where they disagree."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pgqueue import ConfigurationError, PgQueue
from pgqueue.cli import app
from pgqueue.cli.settings import NAMES, variable

MODULE = "from pgqueue import PgQueue\n{name} = PgQueue({dsn})\n"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty project, whose modules are forgotten again."""
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        monkeypatch.delenv(variable(name), raising=False)
    before, path = set(sys.modules), list(sys.path)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


async def run_apart(*arguments: str) -> Result:
    return await asyncio.to_thread(run, *arguments)


def write_app(folder: Path, module: str, dsn: str | None) -> None:
    (folder / f"{module}.py").write_text(MODULE.format(name="pgq", dsn=repr(dsn) if dsn else ""))


@pytest.mark.parametrize("way", ["command line", "environment", "pyproject", "environment, other pyproject"])
async def test_the_dsn_of_any_place_reaches_every_command(
    pgq: PgQueue, dsn: str, project: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    await pgq.enqueue_by_name("work")
    arguments = [f"--dsn={dsn}"] if way == "command line" else []
    if way.startswith("environment"):
        monkeypatch.setenv("PGQUEUE_DSN", dsn)
    if way.endswith("pyproject"):
        there = dsn if way == "pyproject" else "postgresql://localhost:1/nothing"
        (project / "pyproject.toml").write_text(f'[tool.pgqueue]\ndsn = "{there}"\n')

    done = await run_apart("jobs", "--json", *arguments)

    assert done.exit_code == 0, done.stderr
    assert [job["task"] for job in json.loads(done.stdout)["jobs"]] == ["work"]
    assert done.stderr == ""


@pytest.mark.parametrize("place", ["command line", "environment", "pyproject"])
async def test_a_pgqueue_without_a_dsn_is_told_one_by_any_place(
    pgq: PgQueue, dsn: str, project: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    write_app(project, "here", None)
    text = '[tool.pgqueue]\napp = "here:pgq"\n'
    if place == "pyproject":
        text += f'dsn = "{dsn}"\n'
    (project / "pyproject.toml").write_text(text)
    if place == "environment":
        monkeypatch.setenv("PGQUEUE_DSN", dsn)
    # From a folder of the project, too.
    (project / "below").mkdir()
    monkeypatch.chdir(project / "below")

    done = await run_apart("queues", *([f"--dsn={dsn}"] if place == "command line" else []))

    assert done.exit_code == 0, done.stderr
    assert done.stderr == ""


async def test_dsns_that_disagree_are_told_and_the_command_line_comes_first(
    pgq: PgQueue, dsn: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_app(project, "there", "postgresql://localhost:1/nothing")
    write_app(project, "here", dsn)

    told = await run_apart("queues", "--app=there:pgq", f"--dsn={dsn}")
    monkeypatch.setenv("PGQUEUE_DSN", "postgresql://user:secret@localhost:1/nothing")
    ignored = await run_apart("queues", "--app=here:pgq")
    both = await run_apart("queues", f"--dsn={dsn}")

    assert told.exit_code == 0, told.stderr
    assert ignored.exit_code == 0, ignored.stderr
    assert "the DSN of here:pgq is used, and not that of PGQUEUE_DSN" in ignored.stderr
    assert both.exit_code == 0, both.stderr
    assert "--dsn is used, and not PGQUEUE_DSN, which has another value" in both.stderr
    assert "secret" not in ignored.stderr + both.stderr


def test_an_option_that_contradicts_the_environment_is_told(
    monkeypatch: pytest.MonkeyPatch, project: Path
) -> None:
    monkeypatch.setenv("PGQUEUE_CONCURRENCY", "10")
    monkeypatch.setenv("PGQUEUE_CONCURENCY", "12")

    done = run("worker", "nowhere:pgq", "--concurrency=20")

    assert "--concurrency=20 is used, and not PGQUEUE_CONCURRENCY=10" in done.stderr
    assert "PGQUEUE_CONCURENCY is not a setting; did you mean PGQUEUE_CONCURRENCY?" in done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tool.pgqueue]\nconcurency = 5\n", "no setting 'concurency'; did you mean 'concurrency'?"),
        ("[tool.pgqueue]\nx = 5\n", "no setting 'x'; there are: app, concurrency"),
        ("[tool.pgqueue]\ntoken = 'secret'\n", "a secret does not belong into a file: set PGQUEUE_TOKEN"),
        ("[tool.pgqueue]\nconcurrency = 'many'\n", "(from concurrency in pyproject.toml)"),
        ("[tool.pgqueue]\nconcurrency = 0\n", "(from concurrency in pyproject.toml)"),
        ("[tool.pgqueue]\ngrace = 1979-05-27\n", "grace must be a string, a number or true or false"),
        ("[tool]\npgqueue = 5\n", "[tool.pgqueue] must be a table"),
        ("[tool.pgqueue\n", "cannot be read"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_and_says_where_it_is(
    project: Path, text: str, message: str
) -> None:
    (project / "pyproject.toml").write_text(text)

    done = run("worker", "nowhere:pgq")

    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())


def test_a_variable_that_cannot_be_is_refused_and_says_which_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGQUEUE_GRACE", "soon")

    done = run("worker", "nowhere:pgq")

    assert done.exit_code == 2
    assert "PGQUEUE_GRACE" in done.stderr


@pytest.mark.parametrize("text", ["[tool.other]\nx = 5\n", "[tool.broken\n", "tool = 5\n", ""])
def test_a_file_that_says_nothing_of_pgqueue_changes_nothing(project: Path, text: str) -> None:
    (project / "pyproject.toml").write_text(text)

    done = run("worker", "nowhere:pgq")

    assert done.exit_code == 2
    assert "no module named 'nowhere'" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--queues=mail:0"], "'mail:0' gives queue 'mail' no slots; give it 1 or more, or leave it out"),
        (["--queues=mail:-2"], "gives queue 'mail' no slots"),
        (["--queues=mail:many"], "must be QUEUE or QUEUE:NUMBER"),
        (["--queues=mail:"], "must be QUEUE or QUEUE:NUMBER"),
        (["--queues=:5"], "must be QUEUE or QUEUE:NUMBER"),
        (["--queues=mail:2,mail:3"], "names 'mail' twice"),
        (["--queues=,"], "names no queue"),
        (["--queues=default:20", "--concurrency=10"], "fewer slots (as set by --queues, --concurrency)"),
        (
            ["--queues=default", "--weights=mail:2"],
            "weights names queue 'mail', which this worker",
        ),
        (["--queues=default:2", "--prefetch-multiplier=2"], "cannot be used with slots per queue"),
        (["--weights=mail"], "must be QUEUE:NUMBER"),
        (["--weights=mail:0"], "must be QUEUE:NUMBER"),
        (["--reload", "--processes=2"], "--reload cannot be used with --processes"),
        (["--reload", "--burst"], "--reload cannot be used with --burst"),
        (["--reload", "--max-jobs=5"], "--reload cannot be used with --max-jobs"),
        (["--app=other:pgq"], "MODULE:PGQ is here:pgq and --app is other:pgq; pass one of them"),
        (["--include=nothing"], "--include nothing: no module named 'nothing'"),
        (["--include=empty"], "--include empty: there is no Python module in"),
        (["--include=.here"], "'.here' is not the name of a module"),
        (["--schema=other"], "the schema of here:pgq is 'pgqueue': leave --schema out"),
    ],
)
def test_options_that_cannot_work_say_what_to_do(project: Path, arguments: list[str], message: str) -> None:
    write_app(project, "here", "postgresql://localhost:1/nothing")
    (project / "empty").mkdir()

    done = run("worker", "here:pgq", *arguments)

    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())


def test_a_variable_that_contradicts_the_file_says_where_both_are(
    monkeypatch: pytest.MonkeyPatch, project: Path
) -> None:
    write_app(project, "here", "postgresql://localhost:1/nothing")
    text = '[tool.pgqueue]\napp = "here:pgq"\nqueues = { default = 20 }\n'
    (project / "pyproject.toml").write_text(text)
    monkeypatch.setenv("PGQUEUE_CONCURRENCY", "10")

    done = run("worker")

    assert done.exit_code == 2
    assert "(as set by queues in pyproject.toml, PGQUEUE_CONCURRENCY)" in " ".join(done.stderr.split())


@pytest.mark.parametrize("option", ["broken:pgq", "here:pgq --include=package"])
@pytest.mark.parametrize(
    ("text", "line", "error"),
    [
        (
            "import nothing_of_the_kind\n",
            "line 1, in <module>: import nothing",
            "ModuleNotFoundError: No module",
        ),
        (
            "import os\n\ndef find():\n    return os.environ['x!']\n\npgq = find()\n",
            "line 4, in find: ret",
            "KeyError",
        ),
        (
            "import json\npgq = json.loads('{')\n",
            "line 2, in <module>: pgq = json",
            "JSONDecodeError: Expecting",
        ),
        ("def f(:\n", "line 1, in the module: def f(:", "SyntaxError: invalid syntax"),
        ("raise SystemExit(0)\n", "line 1, in <module>: raise SystemExit(0)", "SystemExit: 0"),
        ("raise ValueError('one\\ntwo\x1b[31m')\n", "line 1", "ValueError: one two"),
    ],
)
def test_a_module_that_raises_is_told_in_three_lines_with_its_own_last_frame(
    project: Path, option: str, text: str, line: str, error: str
) -> None:
    write_app(project, "here", None)
    (project / "broken.py").write_text(text)
    (project / "package").mkdir()
    (project / "package/__init__.py").touch()
    (project / "package/broken.py").write_text(text)
    module = "broken" if option.startswith("broken") else "package.broken"

    done = run("worker", *option.split())

    first, second, third = done.stderr.splitlines()
    assert (done.exit_code, done.stdout) == (1, "")
    assert first.startswith(f"pgqueue: the module {module} cannot be imported")
    assert f'{module.replace(".", "/")}.py", {line}' in second
    assert third.strip().startswith(error)
    assert "\x1b" not in done.stderr


def test_a_worker_without_an_app_says_how_to_name_one() -> None:
    done = run("worker")

    assert done.exit_code == 2
    assert "pass MODULE:PGQ or --app, or set PGQUEUE_APP" in " ".join(done.stderr.split())


async def test_a_pgqueue_can_be_told_its_dsn_when_it_is_opened(
    pgq: PgQueue, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = PgQueue()
    assert late.dsn is None
    with pytest.raises(
        ConfigurationError, match="has no DSN: construct it with one, pass it to `open`, or set"
    ):
        await late.open()
    with pytest.raises(ConfigurationError, match="has no DSN"):
        await late.migrate()
    with pytest.raises(ConfigurationError, match="the DSN must be a string"):
        await late.open("")

    await late.open(dsn)
    await late.check()
    with pytest.raises(ConfigurationError, match="is open: set its DSN before"):
        late.dsn = "postgresql://elsewhere/app"
    await late.close()

    monkeypatch.setenv("PGQUEUE_DSN", dsn)
    async with PgQueue() as told:
        await told.check()
    # An own DSN comes before that of the environment.
    monkeypatch.setenv("PGQUEUE_DSN", "postgresql://localhost:1/nothing")
    async with PgQueue(dsn) as own:
        await own.check()


@pytest.mark.parametrize(
    ("command", "setting", "service"),
    [("web", "web_port", "pgqueue-web"), ("worker", "metrics_port", "pgqueue-metrics")],
)
def test_a_variable_that_kubernetes_set_for_a_service_is_told_as_such(
    monkeypatch: pytest.MonkeyPatch, command: str, setting: str, service: str
) -> None:
    monkeypatch.setenv(variable(setting), "tcp://10.96.0.12:8080")

    done = run(command, "--dsn=postgresql://localhost:1/nothing")

    assert done.exit_code == 2
    assert variable(setting) in done.stderr
    told = " ".join(done.stderr.split())
    assert f"Service called {service}: give the pod enableServiceLinks: false" in told
