"""What clients do: they enqueue, in transactions of their own that they commit or roll back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from kit.whole_store.calls import WINDOW, Kind
from kit.whole_store.oracle import Key, Known
from kit.whole_store.world import Session, World, see
from pgqueue import chain, chord, group
from pgqueue.errors import DuplicateKeyError
from pgqueue.tasks.signature import Signature

NUMBERS = st.integers(0, 47)
KEYED = ("plain", "delayed", "limited", "skip")
CONFLICTS = ("return", "raise", "replace", "debounce", "throttle", "coalesce")
SPANS = ("pending", "started", "terminal", "success", "window", "forever")
UPSTREAM = """
with recursive before (node, upstream) as (
    select downstream, upstream from pgqueue.edge where downstream = any($1)
    union
    select before.node, edge.upstream from before join pgqueue.edge on edge.downstream = before.upstream
    where exists (select from pgqueue.barrier where id = before.upstream and is_join)
)
select node, upstream from before join pgqueue.job on job.id = upstream
"""


class Enqueuing:
    """Rules of clients."""

    world: World
    job: Callable[[int], UUID | None]

    def client(self, number: int) -> Session:
        """Return a client."""
        return self.world.sessions[f"client-{number % 2}"]

    def kind(self, number: int) -> Kind:
        """Return a kind of call."""
        kinds = list(self.world.kinds.values())
        return kinds[number % len(kinds)]

    @precondition(lambda self: len(self.world.oracle.jobs) < 30)
    @rule(numbers=st.lists(NUMBERS, min_size=1, max_size=6), who=st.integers(0, 1))
    def enqueue(self, numbers: list[int], who: int) -> None:
        """Enqueue calls of several kinds at once, all or nothing."""
        kinds = [self.kind(number) for number in numbers]
        calls = [kind.make(number // 3) for kind, number in zip(kinds, numbers, strict=True)]
        self.world.go(self._enqueue(self.client(who), kinds, calls))

    async def _enqueue(self, client: Session, kinds: list[Kind], calls: list[Signature[Any]]) -> list[UUID]:
        world, connection = self.world, client.connection
        within = None if client.transaction is None else connection
        done, handles = await world.attempt(client, world.pgq.enqueue_many(calls, connection=within))
        if not done:
            return []
        assert handles is not None
        ids = [handle.id for handle in handles]
        for job_id, kind, call in zip(ids, kinds, calls, strict=True):
            job = kind.known(world.oracle.now, call)
            client.then(partial(world.oracle.jobs.__setitem__, job_id, job))
        return ids

    @precondition(lambda self: len(self.world.oracle.jobs) < 30)
    @rule(
        number=NUMBERS,
        who=st.integers(0, 1),
        key=st.sampled_from("kl"),
        on_conflict=st.sampled_from(CONFLICTS),
        span=st.sampled_from(SPANS),
    )
    def enqueue_keyed(self, number: int, who: int, key: str, on_conflict: str, span: str) -> None:
        """Enqueue a call with an idempotency key, which somebody may have."""
        client = self.client(who)
        if key not in client.keys:
            kind = self.world.kinds[KEYED[number % len(KEYED)]]
            self.world.go(self._enqueue_keyed(client, kind, number, key, on_conflict, span))

    async def _enqueue_keyed(
        self, client: Session, kind: Kind, number: int, key: str, on_conflict: str, span: str
    ) -> None:
        world, oracle = self.world, self.world.oracle
        options, span = _options(kind, key, on_conflict, span)
        signature = kind.make(number // 3).set(**options)
        expected = _expected(oracle, key, on_conflict)
        delay = options.get("delay", kind.delay)
        within = None if client.transaction is None else client.connection
        wait: Any = {} if within is not None else {"key_wait": 0.04}
        try:
            done, handles = await world.attempt(
                client, world.pgq.enqueue_many([signature], connection=within, **wait)
            )
        except DuplicateKeyError as error:
            see(expected == ("raise", error.job_id), f"a key was refused that is {expected}")
            if client.transaction is not None:
                # The statements were carried out; the call was not.
                await world.end(client, commits=False)
            return
        if not done:
            return
        assert handles is not None
        [handle] = handles
        if client.transaction is not None:
            client.keys.add(key)
        what, holder = expected
        world.tally[f"key {what}"] += 1
        until = oracle.now + WINDOW if span == "window" else None
        if what in ("made", "follows"):
            assert handle.created, f"the key was free ({expected}), and nothing was made"
            job = kind.known(oracle.now, signature)
            if delay and not kind.delay:
                job.place, job.due = "scheduled", oracle.now + delay
            job.run_at = job.due
            if what == "follows":
                job.place, job.follows = "following", holder

            def make() -> None:
                oracle.jobs[handle.id] = job
                oracle.keys[key] = Key(handle.id, span, until)

            client.then(make)
            return
        assert not handle.created, f"the key was held ({expected}), and another job was made"
        assert handle.id == holder, "the key is another job's"
        assert handle.replaced == (what == "replaced"), f"{handle.replaced} of {expected}"
        if what == "replaced":
            client.then(
                lambda: self._replace(
                    holder, kind, signature, delay, key, Key(holder, span, until), on_conflict
                )
            )

    def _replace(
        self,
        holder: UUID | None,
        kind: Kind,
        signature: Any,
        delay: float,
        key: str,
        row: Key,
        on_conflict: str,
    ) -> None:
        oracle = self.world.oracle
        assert holder is not None
        oracle.keys[key] = row
        job, new = oracle.jobs[holder], kind.known(oracle.now, signature)
        job.kind, job.expires, job.losses_allowed = new.kind, new.expires, new.losses_allowed
        job.limited, job.may_drop, job.task = new.limited, new.may_drop, new.task
        job.queue, job.priority = new.queue, new.priority
        start = job.run_at if on_conflict == "throttle" else (oracle.now + delay if delay else None)
        job.run_at = start
        if job.place in ("following", "suspended", "joined"):
            job.due = start
        elif start is not None and start > oracle.now:
            job.place, job.due = "scheduled", start
        else:
            job.wait()

    @precondition(lambda self: len(self.world.oracle.jobs) < 26)
    @rule(
        numbers=st.lists(NUMBERS, min_size=2, max_size=6),
        who=st.integers(0, 1),
        shape=st.sampled_from(("chord", "chain", "group")),
    )
    def enqueue_workflow(self, numbers: list[int], who: int, shape: str) -> None:
        """Enqueue a chain, a group, or a group with a callback."""
        kinds = [self.world.kinds[("plain", "limited", "skip", "fragile")[number % 4]] for number in numbers]
        calls = [kind.make(number // 4) for kind, number in zip(kinds, numbers, strict=True)]
        self.world.go(self._enqueue_workflow(self.client(who), kinds, calls, shape))

    async def _enqueue_workflow(
        self, client: Session, kinds: list[Kind], calls: list[Any], shape: str
    ) -> None:
        world, pgq = self.world, self.world.pgq
        canvas: Any
        match shape:
            case "chain":
                canvas = chain(*calls)
            case "group":
                canvas = group(*calls)
            case _:
                canvas = chord(calls[:-1], calls[-1])
        within = None if client.transaction is None else client.connection
        done, handle = await world.attempt(client, pgq.enqueue_workflow(canvas, connection=within))
        if not done:
            return
        assert handle is not None
        connection = client.connection
        rows = await connection.fetch(
            "select id, task, (select priority from pgqueue.lane where lane.id = job.lane) as priority "
            "from pgqueue.job where workflow_id = $1",
            handle.workflow_id,
        )
        before: dict[UUID, set[UUID]] = {row["id"]: set() for row in rows}
        for row in await connection.fetch(UPSTREAM, list(before)):
            before[row["node"]].add(row["upstream"])
        for row in rows:
            kind = world.kinds[row["task"]]
            job = Known(
                "joined" if before[row["id"]] else "queued",
                f"{kind.name} of a {shape}",
                before=before[row["id"]],
                losses_allowed=kind.losses_allowed,
                limited=kind.limited,
                task=kind.name,
                priority=row["priority"],
                member=True,
            )
            client.then(partial(world.oracle.jobs.__setitem__, row["id"], job))

    @precondition(lambda self: self.world.oracle.jobs)
    @rule(number=NUMBERS, other=NUMBERS, who=st.integers(0, 1), whatever=st.booleans())
    def enqueue_behind(self, number: int, other: int, who: int, whatever: bool) -> None:
        """Enqueue a call that depends on jobs that are there."""
        parents = sorted({each for each in (self.job(number), self.job(other)) if each is not None})
        if parents and len(self.world.oracle.jobs) < 30:
            self.world.go(self._enqueue_behind(self.client(who), parents, whatever))

    async def _enqueue_behind(self, client: Session, parents: list[UUID], whatever: bool) -> None:
        world = self.world
        call = world.kinds["plain"].make(0).set(depends_on=parents, allow_failure=whatever)
        within = None if client.transaction is None else client.connection
        done, handle = await world.attempt(client, world.pgq.enqueue(call, connection=within))
        if not done:
            return
        assert handle is not None
        job = Known("joined", "behind", before=set(parents), runs_anyway=whatever, task="plain", member=True)
        client.then(lambda: world.oracle.jobs.__setitem__(handle.id, job))

    # Transactions

    @rule(who=st.integers(0, 1), really=st.booleans())
    def begin(self, who: int, really: bool) -> None:
        """Begin a transaction."""
        client = self.client(who)
        if client.transaction is None and really:
            self.world.go(self.world.start(client))

    @precondition(lambda self: self.client(0).transaction or self.client(1).transaction)
    @rule(who=st.integers(0, 1), commits=st.booleans())
    def end(self, who: int, commits: bool) -> None:
        """Commit a transaction, or roll it back."""
        client = self.client(who) if self.client(who).transaction else self.client(who + 1)
        if client.transaction is not None:
            self.world.go(self.world.end(client, commits=commits))


def _options(kind: Kind, key: str, on_conflict: str, span: str) -> tuple[dict[str, Any], str]:
    """Return the options of a call with a key, and the span for which it holds the key."""
    options: dict[str, Any] = {
        "idempotency_key": key, "idempotency_scope": "global", "on_conflict": on_conflict,
        "idempotency_fingerprint": False,
    }  # fmt: skip
    if on_conflict in ("debounce", "throttle") and not kind.delay:
        options["delay"] = 1000.0
    if on_conflict == "coalesce":
        span = "terminal"
    elif span == "window":
        options["idempotency_window"] = WINDOW
    else:
        options["idempotency_while"] = span
    return options, span


def _expected(oracle: Any, key: str, on_conflict: str) -> tuple[str, UUID | None]:
    """Say what a call with *key* has to come to, and who has the key."""
    held = oracle.holder(key)
    if held is None:
        return "made", None
    job = oracle.jobs.get(held.job)
    if on_conflict == "raise":
        return "raise", held.job
    if on_conflict == "coalesce":
        if job is not None and job.place in ("held", "running"):
            return "follows", held.job
        if job is None or job.place in ("succeeded", "failed", "cancelled", "expired"):
            return "made", None
        return "returned", held.job
    if on_conflict in ("replace", "debounce", "throttle"):
        waits = job is not None and job.place in ("queued", "scheduled", "following", "suspended", "joined")
        if waits and not job.has_run:
            return "replaced", held.job
    return "returned", held.job
