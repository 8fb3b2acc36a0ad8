"""The files of examples/deploy: their own tools and schemas take them, and what they name is there."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import kubernetes_validate
import pytest
import yaml
from kit.roles import roles_of
from kit.servers import free_port
from kit.snippets import ROOT
from kit.waiting import eventually, holds
from typer.testing import CliRunner

from pgqueue import PgQueue
from pgqueue.cli import app, settings
from pgqueue.cli.commands.web import GRACE
from pgqueue.errors import ConfigurationError
from pgqueue.model.token import check_token

pytestmark = pytest.mark.any_server

FOLDER = ROOT / "examples/deploy"
UNITS = sorted((FOLDER / "systemd").glob("*.service"))
MANIFESTS = sorted((FOLDER / "kubernetes").glob("*.yaml"))
TEXTS = sorted(path for path in FOLDER.rglob("*") if path.is_file() and path.suffix != ".pyc")
PAGES_TO_DEPLOY = [
    ROOT / f"docs/how-to/{name}.md" for name in ("deploy", "deploy-and-stop", "upgrade", "back-up", "size")
]
SECRETS = {"POSTGRES_PASSWORD": "p@ss/w:rd%?#", "PGQUEUE_TOKEN": "a-token-of-some-length"}
OLDEST, NEWEST = "1.25", kubernetes_validate.latest_version()
"""The versions of Kubernetes whose schemas are at hand."""
DEFAULT_GRACE = 30
SLACK = 10
"""Seconds that a worker may take after its grace, to return jobs and to close."""


def documents() -> Iterator[dict[str, Any]]:
    for path in MANIFESTS:
        yield from yaml.safe_load_all(path.read_text(encoding="utf-8"))


def named(document: dict[str, Any]) -> str:
    return f"{document['kind']}-{document['metadata']['name']}"


KUBERNETES = [each for each in documents() if "keda" not in each["apiVersion"]]
KEDA = [each for each in documents() if "keda" in each["apiVersion"]]
PODS = [each for each in KUBERNETES if "template" in each.get("spec", {})]


def containers() -> Iterator[dict[str, Any]]:
    for each in PODS:
        yield from each["spec"]["template"]["spec"]["containers"]


def containers_of(command: str) -> Iterator[dict[str, Any]]:
    return (each for each in containers() if each["args"] == [command])


def values_of(container: dict[str, Any]) -> dict[str, str | None]:
    return {each["name"]: each.get("value") for each in container.get("env", ())}


def unit(path: Path) -> dict[str, list[str]]:
    """Return the settings of a unit of systemd."""
    found: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        name, is_setting, value = line.partition("=")
        if is_setting and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def compose_file() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
    return found


def dockerfile(word: str) -> list[str]:
    """Return what stands behind *word* in the Dockerfile, which the exec form writes as a list of JSON."""
    text = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    [found] = re.findall(rf"^ *{word} (\[.*\])$", text, re.MULTILINE)[-1:]
    arguments: list[str] = json.loads(found)
    return arguments


def needed(program: str, package: str) -> str:
    """Return the path of *program*; skip the test where it is not installed, or fail it in CI."""
    found = shutil.which(program)
    if found is None:
        message = f"{program} is not installed (Debian: `apt-get install {package}`)"
        if os.environ.get("PGQUEUE_CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found


# Their own tools and schemas


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("document", KUBERNETES, ids=named)
def test_kubernetes_takes_a_manifest_to_the_letter(document: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


def compose(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [needed("docker-compose", "docker-compose"), "-f", str(FOLDER / "compose.yaml"), *arguments],
        env={"PATH": os.environ["PATH"], **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_compose_takes_its_file() -> None:
    done = compose("config", **SECRETS)

    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)["services"].keys() == {"postgres", "migrate", "worker", "web"}


@pytest.mark.parametrize(
    ("missing", "instead"),
    [("PGQUEUE_TOKEN", {}), ("PGQUEUE_TOKEN", {"PGQUEUE_TOKEN": ""}), ("POSTGRES_PASSWORD", {})],
)
def test_without_a_secret_compose_says_which_to_set_and_starts_nothing(
    missing: str, instead: dict[str, str]
) -> None:
    given = {name: value for name, value in SECRETS.items() if name != missing} | instead

    done = compose("config", **given)

    assert done.returncode != 0
    assert missing in done.stderr
    assert "set it in .env, see env.example" in done.stderr
    assert re.search(rf"^{missing}=$", (FOLDER / "env.example").read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_takes_a_unit_and_finds_it_well_shut_in(path: Path, tmp_path: Path) -> None:
    analyze = needed("systemd-analyze", "systemd")
    # The program stands where the unit looks for it: in this Python's environment.
    text = path.read_text(encoding="utf-8").replace("/opt/app/venv/bin/", f"{Path(sys.executable).parent}/")
    here = tmp_path / path.name.replace("@", "@mail")
    here.write_text(text, encoding="utf-8")

    verified = subprocess.run(
        [analyze, "verify", "--man=no", str(here)], capture_output=True, text=True, check=False
    )
    shut_in = subprocess.run(
        [analyze, "security", "--offline=true", "--threshold=25", str(here)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")
    assert shut_in.returncode == 0, shut_in.stdout[-400:]


# What they name


def commands() -> Iterator[list[str]]:
    """Yield every command of pgqueue in the files, without `pgqueue`."""
    assert dockerfile("ENTRYPOINT") == ["pgqueue"]
    yield dockerfile("CMD")
    for container in containers():
        yield container["args"]
    for service in compose_file()["services"].values():
        if "command" in service:
            yield service["command"]
    for path in UNITS:
        [start] = unit(path)["ExecStart"]
        program, *arguments = shlex.split(start)
        assert program == "/opt/app/venv/bin/pgqueue"
        yield arguments
    for path in TEXTS:
        for typed in re.findall(r"(?:run --rm worker |`pgqueue )([a-z][^`\n|]*)", path.read_text()):
            yield shlex.split(typed)
    for page in PAGES_TO_DEPLOY:
        for typed in re.findall(r"(?:`|^\$ )pgqueue ([a-z][^`\n|]*)", page.read_text(), re.MULTILINE):
            yield shlex.split(typed)


@pytest.mark.parametrize("arguments", sorted({*map(tuple, commands())}), ids=" ".join)
def test_a_command_in_the_files_is_there_with_its_options(arguments: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*arguments, "--help"])

    assert result.exit_code == 0, result.output


def test_a_variable_in_the_files_is_a_setting() -> None:
    known = {settings.variable(name) for name in (*settings.NAMES, *settings.NOT_IN_FILES)}
    found = {name for path in TEXTS for name in re.findall(r"\bPGQUEUE_[A-Z_]+", path.read_text())}

    assert found <= known
    assert {"PGQUEUE_DSN", "PGQUEUE_TOKEN", "PGQUEUE_METRICS_TOKEN", "PGQUEUE_APP"} <= found


def test_no_service_of_kubernetes_sets_what_pgqueue_reads() -> None:
    names = {each["metadata"]["name"] for each in KUBERNETES if each["kind"] == "Service"}
    names |= set(compose_file()["services"])
    known = {settings.variable(name) for name in settings.NAMES}

    assert not {f"{name.upper().replace('-', '_')}_PORT" for name in names} & known
    assert all(each["spec"]["template"]["spec"]["enableServiceLinks"] is False for each in PODS)


@pytest.mark.parametrize(
    "token",
    [
        each["stringData"][name]
        for each in KUBERNETES
        for name in each.get("stringData", ())
        if "TOKEN" in name
    ],
)
def test_a_token_that_nobody_has_replaced_is_refused(token: str) -> None:
    with pytest.raises(ConfigurationError, match="at least 16 characters"):
        check_token(token)


def test_what_a_manifest_takes_from_a_secret_or_a_deployment_is_there() -> None:
    there = {(each["metadata"]["name"], key) for each in KUBERNETES for key in each.get("stringData", ())}
    taken = {
        (source["name"], source["key"])
        for container in containers()
        for each in container["env"]
        if (source := each.get("valueFrom", {}).get("secretKeyRef"))
    }
    taken |= {
        (source["name"], source["key"]) for each in KEDA for source in each["spec"].get("secretTargetRef", ())
    }
    selectors = [
        each["spec"]["selector"].get("matchLabels", each["spec"]["selector"])
        for each in KUBERNETES
        if "selector" in each.get("spec", {})
    ]
    labels = [each["spec"]["template"]["metadata"]["labels"] for each in PODS]
    [scaled] = [each["spec"] for each in KEDA if each["kind"] == "ScaledObject"]
    [authentication] = [each["metadata"]["name"] for each in KEDA if each["kind"] == "TriggerAuthentication"]

    assert taken == there
    assert all(selector in labels for selector in selectors)
    assert scaled["scaleTargetRef"]["name"] in {each["metadata"]["name"] for each in PODS}
    assert [trigger["authenticationRef"]["name"] for trigger in scaled["triggers"]] == [authentication]


# How they stop


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


def test_whatever_stops_a_worker_waits_longer_than_its_grace() -> None:
    services = compose_file()["services"]
    waits = {
        "compose": (
            services["worker"]["environment"]["PGQUEUE_GRACE"],
            seconds(services["worker"]["stop_grace_period"]),
        )
    }
    [stop] = unit(FOLDER / "systemd/pgqueue-worker@.service")["TimeoutStopSec"]
    waits["systemd"] = (DEFAULT_GRACE, float(stop))
    for each in PODS:
        pod = each["spec"]["template"]["spec"]
        if pod["containers"][0]["args"] == ["worker"]:
            grace = float(values_of(pod["containers"][0])["PGQUEUE_GRACE"] or DEFAULT_GRACE)
            waits["kubernetes"] = (grace, pod["terminationGracePeriodSeconds"])

    assert waits.keys() == {"compose", "systemd", "kubernetes"}
    assert {where: wait for where, (grace, wait) in waits.items() if wait < grace + SLACK} == {}


def test_whatever_stops_the_dashboard_lets_requests_finish() -> None:
    [pod] = [
        each["spec"]["template"]["spec"] for each in PODS if each["metadata"]["name"] == "pgqueue-dashboard"
    ]
    [_, hook] = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    [stop] = unit(FOLDER / "systemd/pgqueue-web.service")["TimeoutStopSec"]

    assert pod["terminationGracePeriodSeconds"] >= float(hook) + GRACE + SLACK
    assert seconds(compose_file()["services"]["web"]["stop_grace_period"]) >= GRACE + SLACK
    assert float(stop) >= GRACE + SLACK


def test_systemd_signals_the_main_process_alone() -> None:
    # The main one tells its own, which take a second signal for "return everything at once".
    assert unit(FOLDER / "systemd/pgqueue-worker@.service")["KillMode"] == ["mixed"]


# What they ask


def probed() -> dict[str, set[tuple[str, str]]]:
    """Return the ports and paths that health is asked at, by command."""
    found: dict[str, set[tuple[str, str]]] = {"worker": set(), "web": set()}
    for container in containers():
        ports = {port["name"]: str(port["containerPort"]) for port in container.get("ports", ())}
        for name in ("startupProbe", "livenessProbe", "readinessProbe"):
            if name in container:
                asked = container[name]["httpGet"]
                found[container["args"][0]].add((ports[asked["port"]], asked["path"]))
    checks = {
        name: service.get("healthcheck", {}).get("test", ())
        for name, service in compose_file()["services"].items()
    }
    for name, check in [("worker", dockerfile("CMD")), *checks.items()]:
        for port, path in re.findall(r"http://127.0.0.1:(\d+)(/\w+)", " ".join(check)):
            found[name].add((port, path))
    return found


async def test_every_health_check_in_the_files_is_answered(dsn: str, tmp_path: Path) -> None:
    asked = probed()
    [check] = [
        json.loads(found)
        for found in re.findall(r"^ +CMD (\[.*\])$", (FOLDER / "Dockerfile").read_text(), re.MULTILINE)
    ]
    assert {path for each in asked.values() for _, path in each} == {"/livez", "/readyz"}
    assert {name: {port for port, _ in each} for name, each in asked.items()} == {
        "worker": {"9100"},
        "web": {"8080"},
    }
    assert "PGQUEUE_METRICS_PORT=9100" in (FOLDER / "Dockerfile").read_text()

    async def ask(command: str, setting: str) -> None:
        port = str(free_port())
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "pgqueue",
            command,
            cwd=FOLDER,
            env=os.environ | {"PGQUEUE_APP": "jobs:pgq", "PGQUEUE_DSN": dsn, setting: port},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            for path in ("/livez", "/readyz"):
                # The check of the image, on another port.
                code = check[2].replace(":9100/livez", f":{port}{path}")
                assert f":{port}{path}" in code
                await eventually(partial(answers, code))
        finally:
            process.terminate()
            _, log = await process.communicate()
        assert process.returncode == 0, log.decode()

    await asyncio.gather(ask("worker", "PGQUEUE_METRICS_PORT"), ask("web", "PGQUEUE_WEB_PORT"))


async def answers(code: str) -> bool:
    """Whether a health check, a program, ends well."""
    try:
        await asyncio.to_thread(exec, code, {})
    except OSError:
        return False
    return True


@pytest.mark.contract("BP11")
async def test_keda_counts_what_there_is_to_do_with_the_rights_of_a_reader(
    pgq: PgQueue, superuser_dsn: str
) -> None:
    [trigger] = [trigger for each in KEDA for trigger in each["spec"].get("triggers", ())]
    release = asyncio.Event()

    @pgq.task
    async def wait() -> None:
        await release.wait()

    async with roles_of(superuser_dsn) as roles:
        reader = await asyncpg.connect(roles.dsn_of("read"))
        try:

            async def counted() -> int:
                return int(await reader.fetchval(trigger["metadata"]["query"]))

            before = await counted()
            jobs = await pgq.enqueue_many(wait.s() for _ in range(3))
            waiting = await counted()
            async with pgq.worker(concurrency=2) as worker:
                await eventually(lambda: holds(worker.running == 2))
                working = await counted()
                release.set()
                for job in jobs:
                    await job.result(timeout=60)
            await wait.enqueue()
            await pgq.pause(queue="default")
            paused = await counted()
        finally:
            await reader.close()

    assert (before, waiting, working, paused) == (0, 3, 3, 0)
    assert (
        trigger["metadata"]["targetQueryValue"]
        == values_of(next(iter(containers_of("worker"))))["PGQUEUE_CONCURRENCY"]
    )
