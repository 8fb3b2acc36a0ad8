"""The alert rules and the dashboard that are shipped: they hold, and ask only for what is exported."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import yaml
from kit.alerts import ALERTS, MONITORING, ROOT, rules
from kit.metrics import are_running
from kit.programs import find_program
from kit.snippets import run, snippets
from kit.waiting import eventually
from typer.testing import CliRunner

from pgqueue import PgQueue
from pgqueue.cli import app
from pgqueue.metrics import Metrics

if TYPE_CHECKING:
    from conftest import Connection

DASHBOARD = MONITORING / "grafana.json"
CASES = Path(__file__).parent / "alerts_test.yml"

NAME = re.compile(r"\bpgqueue_\w+")


def exported() -> dict[str, set[str]]:
    """Return the samples that pgqueue exports, by metric."""
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""]}
    registry = Metrics(PgQueue("postgresql://nowhere/")).registry
    return {
        metric.name: {metric.name + suffix for suffix in suffixes[metric.type]}
        for metric in registry.collect()
    }


def samples() -> set[str]:
    return set().union(*exported().values())


def dashboard() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return document


def queries() -> Iterator[str]:
    """Yield what the dashboard asks, with its variables filled in."""
    values = {"$namespace": ".*", "$queue": ".*", "$__rate_interval": "1m"}
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"]
            for variable, value in values.items():
                query = query.replace(variable, value)
            assert "$" not in query
            yield query


def promtool(*arguments: str) -> str:
    done = subprocess.run(
        [find_program("promtool", "prometheus"), *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.contract("BP11")
def test_promtool_finds_nothing_wrong_with_the_rules() -> None:
    printed = promtool("check", "rules", str(ALERTS))

    assert f"{len(rules())} rules found" in printed


@pytest.mark.contract("BP11")
def test_the_rules_fire_and_resolve_as_their_series_say() -> None:
    promtool("test", "rules", str(CASES))


@pytest.mark.contract("BP11")
def test_every_rule_is_tested_with_a_case_in_which_it_fires() -> None:
    tests = yaml.safe_load(CASES.read_text(encoding="utf-8"))["tests"]

    cases = [case for test in tests for case in test["alert_rule_test"]]

    assert {case["alertname"] for case in cases if case["exp_alerts"]} == {rule["alert"] for rule in rules()}


@pytest.mark.contract("BP11")
def test_there_is_a_rule_for_every_kind_of_trouble() -> None:
    by_name = {rule["alert"]: rule for rule in rules()}

    assert by_name.keys() >= {
        *("PgqueueBacklogDeep", "PgqueueBacklogOld", "PgqueueBacklogGrowing", "PgqueueDeadLetters"),
        *("PgqueueNoWorker", "PgqueueJobStuck", "PgqueueDatabaseDown", "PgqueueLoopBlocked"),
    }
    for rule in by_name.values():
        assert rule["for"], rule
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert rule["annotations"].keys() == {"summary", "description", "runbook"}


@pytest.mark.contract("BP11")
@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_a_rule_asks_for_what_is_exported_and_names_its_runbook(rule: dict[str, Any]) -> None:
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^#+ (.*)$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)

    assert set(NAME.findall(rule["expr"])) <= samples()
    assert anchor == rule["alert"].lower()
    assert anchor in {heading.lower() for heading in headings}


@pytest.mark.contract("BP10")
def test_the_dashboard_asks_for_what_is_exported() -> None:
    asked = {name for query in queries() for name in NAME.findall(query)}

    assert asked <= samples()
    # And all of it is to be seen there.
    assert {metric for metric, names in exported().items() if not names & asked} == set()


@pytest.mark.contract("BP10")
def test_promtool_understands_every_query_of_the_dashboard(tmp_path: Path) -> None:
    records = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries())]
    file = tmp_path / "queries.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": records}]}))

    printed = promtool("check", "rules", str(file))

    assert f"{len(records)} rules found" in printed


def test_the_dashboard_is_valid_for_grafana() -> None:
    document = dashboard()
    panels = document["panels"]
    variables = {variable["name"] for variable in document["templating"]["list"]}

    assert {"title", "uid", "schemaVersion", "time", "refresh"} <= document.keys()
    assert document["id"] is None
    assert variables == {"datasource", "namespace", "queue"}
    assert len({panel["id"] for panel in panels}) == len(panels)
    covered: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & covered, panel["title"]
        assert place["x"] + place["w"] <= 24
        covered |= cells
        if panel["type"] != "row":
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert panel["description"]
            references = [target["refId"] for target in panel["targets"]]
            assert references
            assert len(set(references)) == len(references)


@pytest.mark.parametrize(("command", "file"), [("alerts", ALERTS), ("dashboard", DASHBOARD)])
def test_the_command_prints_what_is_shipped(command: str, file: Path) -> None:
    result = CliRunner().invoke(app, ["monitoring", command])

    assert (result.exit_code, result.stdout) == (0, file.read_text(encoding="utf-8"))


async def test_a_service_shows_pgqueue_in_its_own_registry_as_documented(pgq: PgQueue) -> None:
    names: dict[str, Any] = {"pgq": pgq}

    [code] = snippets("how-to/monitor.md", "python")
    await run(code, names)

    assert b"pgqueue_jobs_enqueued_total" in names["page"]


@pytest.mark.contract("BP11")
async def test_an_autoscaler_can_read_the_amount_of_work_from_the_database(
    pgq: PgQueue, db: Connection
) -> None:
    @pgq.task(queue="mail")
    async def send(until: bool) -> None:
        await release.wait()

    @pgq.task(queue="other")
    async def other() -> None: ...

    release = anyio.Event()
    [query] = snippets("how-to/monitor.md", "sql")
    before = await db.fetchval(query)
    jobs = await pgq.enqueue_many([*(send.s(True) for _ in range(3)), other.s(), other.s()])
    waiting = await db.fetchval(query)
    async with pgq.worker(queues=["mail"], concurrency=2) as worker:
        await eventually(lambda: are_running(worker, 2))
        working = await db.fetchval(query)
        release.set()
        for job in jobs[:3]:
            await job.result(timeout=60)
    await pgq.enqueue_many([send.s(True)])
    await pgq.pause(queue="mail")
    paused = await db.fetchval(query)

    assert (before, waiting, working, paused) == (0, 3, 3, 0)
