"""Celery's canvas: calls as values, composed by chain, group and chord."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

from pgqueue.compat.celery.exceptions import ImproperlyConfigured
from pgqueue.compat.celery.signature import (
    READERS,
    Part,
    Signature,
    app_of,
    callbacks_of,
    chain,
    maybe_signature,
    pack_all,
    pack_named,
    pack_one,
    part_of,
    signature,
    subtask,
    written,
)

__all__ = [
    "Part",
    "Signature",
    "callbacks_of",
    "chain",
    "chord",
    "chunks",
    "group",
    "maybe_signature",
    "pack_all",
    "pack_named",
    "pack_one",
    "signature",
    "subtask",
    "xmap",
    "xstarmap",
]


class group(Part):  # noqa: N801  # Celery's name
    """Calls that run at the same time. Their results are in the order of the calls."""

    def __init__(self, *tasks: Any, app: Any = None, **options: Any) -> None:
        given: Any = tasks
        if len(tasks) == 1:
            [only] = tasks
            given = only.tasks if isinstance(only, group) else tasks if isinstance(only, Part) else only
        self.tasks: list[Any] = []
        for each in given:
            part = part_of(each, "a group")
            # A group in a group is the same as its calls in it.
            self.tasks += part.tasks if isinstance(part, group) and not part.options else [part]
        self.options = options
        self._app = app or app_of(self.tasks)

    def parts(self) -> Iterator[Part]:
        """Yield its calls."""
        return iter(self.tasks)

    def clone(
        self, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Self:
        """Return a copy whose calls have more arguments."""
        return type(self)(
            [each.clone(args, kwargs) for each in self.tasks], app=self._app, **{**self.options, **options}
        )

    def link(self, callback: Any) -> Any:
        """Call *callback* once the first call has succeeded. It takes no result. Returns it."""
        quiet = callback.clone()
        quiet.set_immutable(True)
        return self.tasks[0].link(quiet)

    def link_error(self, errback: Any) -> Any:
        """Call *errback* for each call that fails."""
        return tuple(each.link_error(errback.clone()) for each in self.tasks)

    def skew(self, start: float = 1.0, stop: float | None = None, step: float = 1.0) -> Self:
        """Have the calls start *step* seconds apart, from *start* on, below *stop*."""
        delay = start
        for each in self.tasks:
            each.set(countdown=delay)
            delay += step
            if stop is not None and delay >= stop:
                delay = start
        return self

    def __json__(self) -> dict[str, Any]:
        """Return it as Celery writes it."""
        return written(self, "celery.group", {"tasks": self.tasks}, "group")

    def _state(self) -> tuple[Any, ...]:
        return self.tasks, self.options

    def __len__(self) -> int:
        return len(self.tasks)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"group({self.tasks!r})"


class chord(Part):  # noqa: N801  # Celery's name
    """Calls that run at the same time, and a body that takes the list of their results."""

    def __init__(self, header: Any, body: Any = None, app: Any = None, **options: Any) -> None:
        self.header = header if isinstance(header, group) else group(header)
        self.body = None if body is None else part_of(body, "the body of a chord")
        self.options = options
        self._app = app or self.header._app  # noqa: SLF001  # of this module

    @property
    def tasks(self) -> list[Any]:
        """The calls of its header."""
        return self.header.tasks

    def parts(self) -> Iterator[Part]:
        """Yield its header and its body."""
        yield self.header
        if self.body is not None:
            yield self.body

    def clone(
        self, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Self:
        """Return a copy whose header's calls have more arguments."""
        body = None if self.body is None else self.body.clone()
        return type(self)(self.header.clone(args, kwargs), body, app=self._app, **{**self.options, **options})

    def __call__(self, body: Any = None, **options: Any) -> Any:
        """Send it, with *body* if it has none yet; return the body's result."""
        whole = (
            self.clone()
            if body is None
            else type(self)(self.header.clone(), body, app=self._app, **self.options)
        )
        return whole.apply_async(**options)

    def __json__(self) -> dict[str, Any]:
        """Return it as Celery writes it."""
        return written(self, "celery.chord", {"header": self.header, "body": self.body}, "chord")

    def _state(self) -> tuple[Any, ...]:
        return self.header, self.body, self.options

    def __repr__(self) -> str:
        return f"chord({self.header.tasks!r}, {self.body!r})"


class chunks(Part):  # noqa: N801  # Celery's name
    """Calls of one task in portions: each job makes *n* of them, one after the other."""

    def __init__(self, task: Any, it: Iterable[Any], n: int) -> None:
        if not isinstance(n, int) or n < 1:
            raise ImproperlyConfigured(f"chunks: n must be a number from 1 on, got {n!r}")
        self.task, self.it, self.n = task, list(it), n
        self.options = {}
        self._app = task._app  # noqa: SLF001  # of one layer

    def group(self) -> group:
        """Return the group of its jobs."""
        items = iter(self.it)
        portions = iter(lambda: list(itertools.islice(items, self.n)), [])
        return group((xstarmap(self.task, portion) for portion in portions), app=self._app, **self.options)

    def as_part(self) -> Part:
        """Return its group."""
        return self.group()

    def __json__(self) -> dict[str, Any]:
        """Return its group as Celery writes it."""
        return self.group().__json__()

    def clone(
        self, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Self:
        """Return a copy."""
        if args or kwargs:
            raise ImproperlyConfigured("chunks take no more arguments")
        copy = type(self)(self.task, self.it, self.n)
        copy.options = {**self.options, **options}
        return copy

    def __call__(self, **options: Any) -> Any:
        """Send its group; return the GroupResult."""
        return self.group().apply_async(**options)


def xmap(task: Any, it: Iterable[Any]) -> Signature:
    """Return one task that calls *task* with each item, one after the other."""
    return Signature("celery.map", (), {"task": task.name, "it": list(it)}, app=task._app, immutable=True)  # noqa: SLF001


def xstarmap(task: Any, it: Iterable[Any]) -> Signature:
    """Return one task that calls *task* with each item's arguments, one after the other."""
    items = [list(each) for each in it]
    return Signature("celery.starmap", (), {"task": task.name, "it": items}, app=task._app, immutable=True)  # noqa: SLF001


READERS["group"] = lambda kwargs, options, app: group(
    [signature(each, app=app) for each in kwargs["tasks"]], app=app, **options
)
READERS["chord"] = lambda kwargs, options, app: chord(
    signature(kwargs["header"], app=app), maybe_signature(kwargs.get("body"), app), app=app, **options
)
