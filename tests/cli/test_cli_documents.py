"""What commands print with --json is what the HTTP API answers; and a name that nothing knows is refused."""

from __future__ import annotations

import inspect
import json
import re
from typing import Any, Final, TypedDict

import pytest
from kit.command_line import Cli
from kit.generated import load_generator
from kit.waiting import eventually, is_over
from kit.web_client import client_of

from pgqueue import JobContext, PgQueue, group
from pgqueue.cli import app
from pgqueue.model.documents import JobDocument, RedriveDocument
from pgqueue.model.limit_documents import LimitDocument
from pgqueue.model.ordered_documents import OrderedGroupDocument
from pgqueue.model.schedule_documents import ScheduleDocument
from pgqueue.model.workflow_documents import WorkflowDocument
from pgqueue.web import status_app
from pgqueue.web.api import outputs

COMMANDS: Final = {
    name.removeprefix("pgqueue "): command for name, command in load_generator("cli").commands(app, "pgqueue")
}
SAME_AS: Final = {
    "jobs": "/jobs",
    "job {job}": "/jobs/{job}",
    "queues list": "/queues",
    "workers --jobs": "/workers",
    "dead list": "/dead-letters",
    "dead groups": "/dead-letters/groups",
    "dead show {dead}": "/dead-letters/{dead}",
    "dead progress {redrive}": "/redrives/{redrive}",
    "limits list": "/limits",
    "limits show mail": "/limits/mail",
    "limits limiters": "/limiters",
    "ordered list": "/ordered-groups",
    "ordered stopped charge": "/ordered-groups/stopped?name=charge",
    "schedules list": "/schedules",
    "schedules show tick": "/schedules/tick",
    "workflow list": "/workflows",
    "workflow show {workflow}": "/workflows/{workflow}",
}
"""Commands that show something, and where the API shows it."""


class Jobs(TypedDict):
    """Jobs that a command has changed, each as the API shows it."""

    jobs: list[JobDocument]


CHANGES: Final[dict[str, tuple[str, Any]]] = {
    "enqueue": ("count [1]", outputs.SubmittedJob),
    "cancel": ("--task=count --yes", outputs.CancelledJobs),
    "requeue": ("--task=charge --yes", outputs.RequeuedJobs),
    "run-now": ("{scheduled}", Jobs),
    "signal": ("{scheduled} paid", outputs.SentEvent),
    "pause": ("default", outputs.QueueSetting),
    "resume": ("default", outputs.QueueSetting),
    "queues purge": ("default --yes", outputs.CancelledJobs),
    "queues remove": ("unused", None),
    "dead redrive": ("--all --yes", RedriveDocument),
    "dead discard": ("--all --yes", outputs.Discarded),
    "dead stop": ("{redrive}", RedriveDocument),
    "limits set": ("mail 3", LimitDocument),
    "limits reset": ("mail", None),
    "limits weight": ("fairly key 2", LimitDocument),
    "ordered resume": ("charge x", outputs.ResumedKey),
    "ordered set": ("charge skip", OrderedGroupDocument),
    "schedules create": ("other count [1] --every=60", ScheduleDocument),
    "schedules edit": ("tick --every=30", ScheduleDocument),
    "schedules pause": ("tick", ScheduleDocument),
    "schedules resume": ("tick", ScheduleDocument),
    "schedules run": ("tick", outputs.RunSchedule),
    "schedules delete": ("other --yes", None),
    "workflow cancel": ("{workflow}", outputs.ChangedWorkflow),
    "workflow retry": ("{workflow}", outputs.ChangedWorkflow),
    "workflow pause": ("{workflow}", WorkflowDocument),
    "workflow resume": ("{workflow}", WorkflowDocument),
}
"""Commands that change something, what they are told, and what the API answers there; None: nothing.

In this order: some need what others have done.
"""
OF_ITS_OWN: Final = frozenset({"top", "status", "demo"})
"""Commands that show what no single document of the API has: all queues and workers, a run of the demo."""


@pytest.fixture
def shell(dsn: str) -> Shell:
    return Shell(dsn)


class Shell:
    """Runs command lines."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    async def __call__(self, line: str) -> tuple[int, str, str]:
        words = line.split()
        group = words[:1] if len(words) > 1 and " ".join(words[:2]) in COMMANDS else []
        return await Cli(self._dsn, *group)(*words[len(group) :])


@pytest.fixture
async def scene(pgq: PgQueue) -> dict[str, Any]:
    """Something of everything that commands show."""
    mail = pgq.limit("mail", slots=2)

    @pgq.task(limits=[mail], ordered_by="line", max_retries=0, tags=["a"])
    async def charge(ctx: JobContext, line: str) -> None:
        raise ValueError(line)

    @pgq.task
    async def count(number: int) -> int:
        return number

    jobs = [await charge.enqueue("x"), await count.enqueue(1)]
    workflow = await group(count.s(1), count.s(2)).enqueue()
    async with pgq.worker():
        for job in jobs:
            await eventually(lambda job=job: is_over(pgq, job.id))  # type: ignore[misc]
        await workflow.join(timeout=60)
    await charge.enqueue("x")
    await pgq.schedules.create("tick", count.s(1), every=3600)
    redrive = await pgq.redrive_many(all=True)
    await redrive.cancel()
    return {"job": jobs[1].id, "dead": jobs[0].id, "workflow": workflow.workflow_id, "redrive": redrive.id}


def alike(document: Any) -> Any:
    """Return *document* without links, and without what differs from one moment to the next."""
    if isinstance(document, dict):
        return {
            name: alike(value)
            for name, value in document.items()
            if not (name.endswith("_url") or name == "next")
        }
    if isinstance(document, list):
        return [alike(each) for each in document]
    return "a number" if isinstance(document, float) else document


def test_every_command_with_json_is_looked_at() -> None:
    printing = {
        name for name, command in COMMANDS.items() if "as_json" in inspect.signature(command).parameters
    }
    shown = {
        max((name for name in COMMANDS if f"{each} ".startswith(f"{name} ")), key=len) for each in SAME_AS
    }

    assert shown | CHANGES.keys() | OF_ITS_OWN == printing


@pytest.mark.contract("P8.3")
async def test_what_commands_print_is_what_the_api_answers(
    shell: Shell, dsn: str, scene: dict[str, Any]
) -> None:
    differing = {}
    # It declares no tasks, as the commands do not: so neither knows how many attempts a job has.
    async with (
        PgQueue(dsn) as stranger,
        client_of(status_app(stranger, local_reading=True, show_tracebacks=True)) as client,
    ):
        for command, path in SAME_AS.items():
            shows = " --show-arguments" if command.startswith(("job ", "dead show")) else ""
            code, text, said = await shell(f"{command.format(**scene)}{shows} --json")
            assert (code, said) == (0, ""), command
            printed = alike(json.loads(text))
            answer = await client.get(path.format(**scene))
            assert answer.status_code == 200, (path, answer.text)
            answered = alike(answer.json())
            missing = {name: value for name, value in answered.items() if printed.get(name) != value}
            if missing:
                differing[command] = missing, {name: printed.get(name) for name in missing}

    assert differing == {}


@pytest.mark.contract("P8.3")
async def test_what_changing_commands_print_is_what_the_api_answers(
    shell: Shell, pgq: PgQueue, scene: dict[str, Any]
) -> None:
    pgq.queue("fairly", fair_by="line")

    @pgq.task(queue="fairly")
    async def share(line: str) -> None: ...

    await share.enqueue("key")
    unused = await pgq.enqueue_by_name("count", 1, options={"queue": "unused"})
    await unused.cancel()
    scheduled = await pgq.enqueue_by_name("other", options={"delay": 3600})
    known = {**scene, "scheduled": scheduled.id}
    missing = {}

    async def print_of(command: str) -> Any:
        code, text, said = await shell(f"{command.format(**known)} --json")
        assert (code, said) == (0, ""), (command, said)
        return json.loads(text)

    # Several jobs are changed at once: each is as the API shows it.
    for command in ("run-now {scheduled}", "requeue {job}", "cancel {job}", "dead redrive {dead}"):
        for job in (await print_of(command))["jobs"]:
            missing[command] = JobDocument.__required_keys__ - job.keys()
    for command, (arguments, document) in CHANGES.items():
        printed = await print_of(f"{command} {arguments}")
        of_api = {"changed"} if document is None else document.__required_keys__
        missing[command] = {each for each in of_api if not each.endswith("_url")} - printed.keys()

    assert {command: names for command, names in missing.items() if names} == {}


@pytest.mark.contract("P8.2")
async def test_the_status_is_one_line(shell: Shell, pgq: PgQueue) -> None:
    empty = await shell("status")
    for delay in (None, None, 3600):
        await pgq.enqueue_by_name("work", options={"delay": delay})
    await pgq.pause(queue="default")
    async with pgq.worker(queues=["other"]) as worker:
        await worker.wait_ready()
        full = await shell("status")
        _, document, _ = await shell("status --json")

    assert empty == (0, "0 queued, 0 running, 0 failed, 0 workers\n", "")
    assert full == (0, "2 queued, 0 running, 0 failed, 1 worker, 1 not ready, 1 queue paused\n", "")
    assert json.loads(document)["queues"][0]["pending"] == {"value": 2, "is_exact": True}
    assert len(json.loads(document)["workers"]) == 1


@pytest.mark.contract("P8.3")
@pytest.mark.usefixtures("scene")
async def test_a_typo_is_refused_by_every_command_and_changes_nothing(shell: Shell, pgq: PgQueue) -> None:
    before = await pgq.settings(), [job.id for job in (await pgq.jobs()).jobs]
    taken = {}

    for command in (
        "jobs --task=chrage",
        "jobs --queue=defalt",
        "cancel --task=chrage --yes",
        "requeue --queue=defalt --yes",
        "dead list --task=chrage",
        "dead groups --task=chrage",
        "dead redrive --task=chrage --yes",
        "dead redrive --queue=defalt --yes",
        "dead discard --task=chrage --yes",
        "pause --task=chrage",
        "resume --task=chrage",
        "pause defalt",
        "resume defalt",
        "queues remove defalt",
        "queues list defalt",
        "limits show mial",
        "limits weight defalt key 2",
        "limits set mial 3",
        "limits set queue/defalt 3",
        "limits reset mial",
        "ordered set chrage skip",
        "ordered stopped lnies",
        "ordered resume lnies key",
        "limits show queue/defalt",
        "schedules show tcik",
        "schedules edit tcik --every=30",
        "schedules pause tcik",
        "schedules resume tcik",
        "schedules run tcik",
        "schedules delete tcik --yes",
    ):
        code, printed, said = await shell(command)
        is_told = said.startswith("pgqueue: ") and said.count("\n") == 1
        meant = re.search(r"did you mean '(charge|default|mail|tick)'\?|\(known: 'charge'\)", said)
        # No limit of that queue is there that could have been meant.
        is_meant = meant is not None or command == "limits show queue/defalt"
        if (code, printed) != (1, "") or not is_told or not is_meant:
            taken[command] = code, printed, said

    assert taken == {}
    assert before == (await pgq.settings(), [job.id for job in (await pgq.jobs()).jobs])


@pytest.mark.contract("P8.3")
async def test_a_task_whose_worker_is_gone_is_what_was_meant(shell: Shell, pgq: PgQueue) -> None:
    elsewhere = PgQueue(pgq.dsn)

    @elsewhere.task(queue="mail")
    async def send_bill(to: str) -> None: ...

    async with elsewhere:
        await send_bill.enqueue("ann")

    said = [await shell(line) for line in ("jobs --task=send_bil", "dead list --task=send_bil")]

    meant = "pgqueue: unknown task 'send_bil'; did you mean 'send_bill'?\n"
    assert said == [(1, "", meant)] * 2


@pytest.mark.contract("P8.3")
async def test_where_workers_say_what_they_declare_a_new_job_of_another_task_is_refused(
    shell: Shell, pgq: PgQueue
) -> None:
    @pgq.task
    async def send_email(to: str) -> None: ...

    before = await shell('enqueue send_emial ["x"]')
    async with pgq.worker() as worker:
        await worker.wait_ready()
        typo = await shell('enqueue send_mail ["x"]')
        queue = await shell('enqueue send_email ["x"] --queue=defalt')
        schedule = await shell("schedules create tick send_mail --every=60")
        made = await shell('schedules create tick send_email ["x"] --every=60')
        edited = await shell('schedules edit tick --task=send_mail --arguments=["x"]')
        anyway = await shell('schedules edit tick --task=send_mail --arguments=["x"] --force')
        right = await shell('enqueue send_email ["x"]')
        forced = await shell('enqueue send_mail ["x"] --force')

    # Nothing was known: any name may be right.
    assert before[0] == 0
    assert (typo[0], typo[2]) == (
        1,
        "pgqueue: unknown task 'send_mail'; did you mean 'send_email'? Pass --force if it is right\n",
    )
    assert (queue[0], schedule[0], made[0], edited[0], anyway[0]) == (1, 1, 0, 1, 0)
    assert edited[2] == typo[2]
    assert (right[0], forced[0]) == (0, 0)
