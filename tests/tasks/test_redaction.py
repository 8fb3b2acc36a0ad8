"""What the option `redact` names is shown nowhere; all else is shown as it is."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.web_client import client_of
from starlette.applications import Starlette

from pgqueue import JobContext, PgQueue, RedactedArgumentsError
from pgqueue.model.documents import job_details_document
from pgqueue.tasks.redaction import MAX_DEPTH, REDACTED, Parameters, find_mark, redact
from pgqueue.web import status_app

TOKEN = "correct-horse-battery"
SECRET = "hunter2-hunter2-hunter2"
NAMES = st.sampled_from(["a", "b", "c", "*"])
leaves = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
documents = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=20,
)
arguments = st.dictionaries(NAMES, documents, max_size=3) | st.lists(documents, max_size=3)
paths = st.lists(
    st.lists(st.sampled_from(["a", "b", "c", "*", "**"]), min_size=1, max_size=4)
    .filter(lambda parts: parts[-1] != "**")
    .map(".".join),
    max_size=3,
)
any_parameters = st.builds(
    Parameters,
    st.lists(st.sampled_from(["a", "b", "d"]), unique=True, max_size=3),
    st.none() | st.just("rest"),
    st.none() | st.just("c"),
)


@pytest.mark.parametrize(
    ("paths", "shown"),
    [
        (["user"], {"user": REDACTED, "cards": [{"number": 1, "name": "x"}], "n": 1}),
        (["cards.number"], {"user": {"name": "Ada"}, "cards": [{"number": REDACTED, "name": "x"}], "n": 1}),
        (["*.name"], {"user": {"name": REDACTED}, "cards": [{"number": 1, "name": REDACTED}], "n": 1}),
        (["**.number"], {"user": {"name": "Ada"}, "cards": [{"number": REDACTED, "name": "x"}], "n": 1}),
        (["**.n"], {"user": {"name": "Ada"}, "cards": [{"number": 1, "name": "x"}], "n": REDACTED}),
        (["*"], {"user": REDACTED, "cards": REDACTED, "n": REDACTED}),
        (["nobody", "user.nothing", "n.deeper"], None),
    ],
)
def test_paths_name_what_is_hidden(paths: list[str], shown: Any) -> None:
    stored = {"user": {"name": "Ada"}, "cards": [{"number": 1, "name": "x"}], "n": 1}

    assert redact(stored, paths) == (shown or stored)


@pytest.mark.contract("W27")
@pytest.mark.parametrize(
    "key",
    [
        "password",
        "Password",
        "PASSWORD",
        "user.password",
        "a.b.Password",
        "user-password",
        "x.y-password",
    ],
)
def test_a_key_is_found_in_any_case_and_by_its_last_word(key: str) -> None:
    assert redact({key: SECRET, "n": 1}, ["password"]) == {key: REDACTED, "n": 1}
    assert redact({"a": [{key: SECRET}], "n": 1}, ["a.PassWord"]) == {"a": [{key: REDACTED}], "n": 1}
    assert redact({"a": [{key: SECRET}], "n": 1}, ["**.password"]) == {"a": [{key: REDACTED}], "n": 1}
    assert redact({"a": {key: SECRET}}, [], secrets=frozenset({("a", "password")})) == {"a": {key: REDACTED}}


@pytest.mark.contract("W27")
@pytest.mark.parametrize(
    ("path", "key"),
    [("api_key", "api-key"), ("api-key", "API_Key"), ("user.password", "user.password"), ("a.b.c", "a.b")],
)
def test_dashes_and_dots_in_keys_are_those_of_paths(path: str, key: str) -> None:
    stored = {key: {"c": SECRET} if path == "a.b.c" else SECRET, "n": 1}

    assert SECRET not in json.dumps(redact(stored, [path]))


@pytest.mark.parametrize("key", ["passwords", "password.hint", "my_password", "pass-word", "pass.word"])
def test_other_words_are_other_keys(key: str) -> None:
    assert redact({key: "x"}, ["password"]) == {key: "x"}


def test_arguments_by_position_are_named_by_the_signature() -> None:
    parameters = Parameters(["to", "password"], rest="more")

    assert redact(["ada", SECRET, 1], ["password"], parameters=parameters) == ["ada", REDACTED, 1]
    assert redact(["ada", "x", SECRET], ["more"], parameters=parameters) == ["ada", "x", REDACTED]
    assert redact({"*": ["ada", SECRET], "n": 1}, ["password"], parameters=parameters) == {
        "*": ["ada", REDACTED],
        "n": 1,
    }


def test_arguments_by_position_whose_names_nobody_knows_are_hidden() -> None:
    assert redact([SECRET, 1], ["password"]) == [REDACTED, REDACTED]
    assert redact({"*": [SECRET], "n": 1}, ["password"]) == {"*": [REDACTED], "n": 1}
    assert redact(["a", SECRET], ["password"], parameters=Parameters(["to"])) == ["a", REDACTED]


def test_arguments_that_a_task_takes_by_any_name_are_found_by_it() -> None:
    parameters = Parameters(named_rest="options")

    assert redact({"options": {"password": SECRET, "n": 1}}, ["password"], parameters=parameters) == {
        "options": {"password": REDACTED, "n": 1}
    }


@pytest.mark.parametrize("stored", [SECRET, 7, None, True])
def test_what_is_no_arguments_at_all_is_hidden(stored: Any) -> None:
    assert redact(stored, ["password"]) == REDACTED


def test_what_is_too_deep_to_look_through_is_hidden() -> None:
    deep: Any = {"password": SECRET}
    for _ in range(10 * MAX_DEPTH):
        deep = [deep]

    shown = redact({"a": deep}, ["a.password"])

    for _ in range(MAX_DEPTH):
        [shown] = shown["a"] if isinstance(shown, dict) else shown
    assert shown == REDACTED


@given(arguments)
def test_without_paths_nothing_changes(stored: Any) -> None:
    assert redact(stored, []) is stored


@given(arguments, paths, any_parameters)
def test_what_is_stored_stays_as_it_is(stored: Any, given: list[str], parameters: Parameters) -> None:
    before = json.dumps(stored)

    redact(stored, given, parameters=parameters)

    assert json.dumps(stored) == before


@given(arguments, paths, any_parameters)
def test_what_is_shown_is_what_is_stored_or_redacted(
    stored: Any, given: list[str], parameters: Parameters
) -> None:
    def fits(shown: Any, real: Any) -> bool:
        if shown == REDACTED:
            return True
        if isinstance(real, dict):
            return shown.keys() == real.keys() and all(fits(shown[name], real[name]) for name in real)
        if isinstance(real, list):
            return len(shown) == len(real) and all(map(fits, shown, real))
        return bool(shown == real)

    assert fits(redact(stored, given, parameters=parameters), stored)


@given(
    st.dictionaries(st.sampled_from(["a", "b", "c"]), documents, max_size=3), st.sampled_from(["a", "b", "c"])
)
def test_no_value_of_a_name_that_is_hidden_anywhere_is_left(stored: Any, name: str) -> None:
    def values(document: Any) -> list[Any]:
        if isinstance(document, list):
            return [each for element in document for each in values(element)]
        if isinstance(document, dict):
            below = [each for element in document.values() for each in values(element)]
            return below + ([document[name]] if name in document else [])
        return []

    assert set(map(str, values(redact(stored, [f"**.{name}"])))) <= {REDACTED}


@given(arguments, paths, paths, any_parameters)
def test_more_paths_hide_no_less(
    stored: Any, given: list[str], more: list[str], parameters: Parameters
) -> None:
    both = redact(stored, [*given, *more], parameters=parameters)

    assert redact(both, given, parameters=parameters) == both


@pytest.mark.parametrize(
    ("given", "before", "found"),
    [
        ({"a": REDACTED}, {"a": SECRET}, "a"),
        ({"a": {"b": [1, REDACTED]}}, {"a": {"b": [1, 2]}}, "a.b.1"),
        ({"a": [REDACTED, REDACTED]}, {"a": [REDACTED]}, "a.1"),
        ({"a": REDACTED}, {"a": REDACTED}, None),
        ({"a": REDACTED}, [REDACTED], "a"),
        ({"a": f"{REDACTED} it was"}, {"a": SECRET}, None),
        ({REDACTED: 1}, {}, None),
        ({}, {"a": SECRET}, None),
    ],
)
def test_a_mark_is_found_where_there_was_none(given: Any, before: Any, found: str | None) -> None:
    assert find_mark(given, before) == found


@given(arguments, arguments)
def test_nothing_else_is_taken_for_a_mark(given: Any, before: Any) -> None:
    assert find_mark(given, before) is None


# The option


async def test_all_levels_add_up_and_a_task_that_is_not_known_has_those_of_the_pgqueue(dsn: str) -> None:
    pgq = PgQueue(dsn, redact=["password"])
    pgq.queue("mail", redact=["to"])

    @pgq.task(queue="mail", redact=["card.number"])
    async def pay(to: str, password: str, card: dict[str, str], n: int) -> None: ...

    async with pgq:
        job = await pay.enqueue("ada", SECRET, {"number": SECRET, "name": "Ada"}, 7)
        known = await pgq.get(job.id)
        other = await pgq.get((await pgq.enqueue_by_name("other", password=SECRET, n=7)).id)

    assert known.arguments["password"] == SECRET
    assert pgq.shown_arguments(known) == {
        "to": REDACTED,
        "password": REDACTED,
        "card": {"number": REDACTED, "name": "Ada"},
        "n": 7,
    }
    assert pgq.shown_arguments(other) == {"password": REDACTED, "n": 7}
    assert PgQueue(dsn).shown_arguments(other) == {"password": SECRET, "n": 7}


async def test_a_dead_letter_hides_them_in_its_payload_too(pgq: PgQueue) -> None:
    @pgq.task(redact=["password"], max_retries=0)
    async def fail(password: str, n: int) -> None:
        raise ValueError("no")

    job = await fail.enqueue(SECRET, 7)
    async with pgq.worker():
        await pgq.wait(job.id)
    details = await pgq.dead_letter(job.id)

    shown = pgq.shown_details(details)

    assert SECRET in details.payload
    assert json.loads(shown.payload) == shown.job.arguments == {"password": REDACTED, "n": 7}


async def test_what_needs_no_hiding_is_shown_exactly_as_it_is_stored(pgq: PgQueue) -> None:
    @pgq.task(max_retries=0)
    async def fail(password: str) -> None:
        raise ValueError("no")

    job = await fail.enqueue(SECRET)
    async with pgq.worker():
        await pgq.wait(job.id)
    details = await pgq.dead_letter(job.id)

    assert pgq.shown_details(details) is details


@pytest.mark.contract("P5.5")
async def test_arguments_copied_from_where_they_are_not_shown_are_no_new_ones(pgq: PgQueue) -> None:
    @pgq.task(redact=["password"], max_retries=0)
    async def fail(password: str, n: int) -> None:
        raise ValueError("no")

    job = await fail.enqueue(SECRET, 7)
    async with pgq.worker():
        await pgq.wait(job.id)
    copied = pgq.shown_arguments(await pgq.get(job.id))

    with pytest.raises(
        RedactedArgumentsError, match=r"argument 'password' is the '\[redacted\]' placeholder"
    ) as raised:
        await pgq.redrive(job.id, arguments={**copied, "n": 8})
    app = status_app(pgq, token=SECRET)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        client.headers["Authorization"] = f"Bearer {SECRET}"
        refused = await client.post(f"/dead-letters/{job.id}/redrive", json={"arguments": copied})
    unchanged = await pgq.get(job.id)
    await pgq.redrive(job.id, arguments={"password": "other", "n": 8})

    assert raised.value.argument == "password"
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "arguments.password")
    assert (unchanged.status, unchanged.arguments) == ("failed", {"password": SECRET, "n": 7})
    assert (await pgq.get(job.id)).arguments == {"password": "other", "n": 8}


async def test_tracebacks_are_shown_only_where_that_was_said(pgq: PgQueue) -> None:
    @pgq.task(redact=["password"], max_retries=0)
    async def fail(password: str) -> None:
        raise ValueError("no")

    job = await fail.enqueue(SECRET)
    async with pgq.worker():
        await pgq.wait(job.id)
    fingerprint = (await pgq.dead_letter(job.id)).letter.fingerprint
    paths = [
        f"/jobs/{job.id}",
        "/jobs",
        f"/dead-letters/{job.id}",
        f"/jobs/{job.id}/attempts",
        f"/dashboard/jobs/{job.id}",
        f"/dashboard/dead-letters/{fingerprint}",
    ]

    async def shown(app: Starlette) -> list[bool]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            answers = [await client.get(path) for path in paths]
        assert [answer.status_code for answer in answers] == [200] * len(paths)
        assert not any(SECRET in answer.text for answer in answers)
        return ["raise ValueError" in answer.text for answer in answers]

    assert await shown(status_app(pgq, local_reading=True)) == [False] * len(paths)
    # Polls and lists never show one.
    assert await shown(status_app(pgq, local_reading=True, show_tracebacks=True)) == [
        False,
        False,
        True,
        True,
        True,
        True,
    ]


async def test_http_and_the_dead_letter_api_show_no_secret(pgq: PgQueue) -> None:
    @pgq.task(redact=["password"], max_retries=0)
    async def fail(password: str) -> None:
        raise ValueError("no")

    job = await fail.enqueue(SECRET)
    async with pgq.worker():
        await pgq.wait(job.id)
    app = status_app(pgq, token=SECRET)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        client.headers["Authorization"] = f"Bearer {SECRET}"
        letter = await client.get(f"/dead-letters/{job.id}")
        shown = [await client.get(path) for path in (f"/jobs/{job.id}", "/jobs", "/dead-letters")]

    assert letter.json()["job"]["arguments"] == {"password": REDACTED}
    assert [each.status_code for each in shown] == [200, 200, 200]
    assert SECRET not in "".join(each.text for each in [letter, *shown])


@pytest.mark.contract("W27")
async def test_headers_that_are_named_are_shown_nowhere_and_given_to_the_handler(pgq: PgQueue) -> None:
    seen: list[dict[str, str]] = []

    @pgq.task(redact=["api_key", "token"])
    async def work(context: JobContext) -> None:
        seen.append(context.headers)

    given = {"X-Api-Key": "one " + SECRET, "api-key": SECRET, "auth.Token": SECRET, "origin": "web"}
    job = await work.options(headers=given).enqueue()
    async with pgq.worker():
        await job.result(timeout=60)
    async with client_of(
        status_app(pgq, token=TOKEN), headers={"authorization": f"Bearer {TOKEN}"}
    ) as client:
        page = await client.get(f"/dashboard/jobs/{job.id}")
    found = await job.refresh()
    document = job_details_document(found, arguments=None, attempts=[], actions=[])

    assert seen == [given]
    assert found.headers == given
    assert document["headers"] == {**dict.fromkeys(given, REDACTED), "origin": "web"}
    assert (page.status_code, SECRET in page.text, REDACTED in page.text) == (200, False, True)
