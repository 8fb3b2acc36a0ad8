"""Celery's canvas: calls as values, composed by chain, group and chord; and what they are for pgqueue."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

from pgqueue.compat.celery import current
from pgqueue.compat.celery.exceptions import ImproperlyConfigured
from pgqueue.compat.celery.wire import pack
from pgqueue.compat.missing import not_there


def pack_one(value: Any) -> Any:
    """Return an argument as JSON values. Raises TypeError, NotImplementedError for a call."""
    if isinstance(value, Part):
        raise not_there("a signature as an argument", "pass the name and the arguments, or use link=")
    return pack(value)


def pack_all(values: Iterable[Any] | None) -> tuple[Any, ...]:
    """Return arguments as JSON values."""
    return tuple(pack_one(each) for each in values or ())


def pack_named(values: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return named arguments as JSON values."""
    return {name: pack_one(value) for name, value in (values or {}).items()}


class Part:
    """What is composed: a call, or several."""

    options: dict[str, Any]
    _app: Any = None

    @property
    def app(self) -> Any:
        """The app that sends it."""
        return self._app if self._app is not None else current.find_app()

    def parts(self) -> Iterator[Part]:
        """Yield what it is made of, one level below."""
        return iter(())

    def clone(
        self, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Self:
        """Return a copy with more arguments, and other options."""
        raise NotImplementedError

    def set(self, immutable: bool | None = None, **options: Any) -> Self:
        """Set options here; return this."""
        if immutable is not None:
            self.set_immutable(immutable)
        self.options.update(options)
        return self

    def set_immutable(self, immutable: bool) -> None:
        """Have it take no result, or take one."""
        for part in self.parts():
            part.set_immutable(immutable)

    def link(self, callback: Any) -> Any:
        """Call *callback* with the result. Returns it."""
        self.options["link"] = [*_listed(self.options.get("link")), callback]
        return callback

    def link_error(self, errback: Any) -> Any:
        """Call *errback* if it fails. Returns it."""
        self.options["link_error"] = [*_listed(self.options.get("link_error")), errback]
        return errback

    def on_error(self, errback: Any) -> Self:
        """Call *errback* if it fails. Returns this."""
        self.link_error(errback)
        return self

    def apply_async(
        self, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Send it; return its result."""
        return self.app.send_canvas(self.clone(args, kwargs, **options))

    def delay(self, *args: Any, **kwargs: Any) -> Any:
        """Send it with more arguments; return its result."""
        return self.apply_async(args, kwargs)

    def apply(
        self, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Run it here; return its result."""
        return self.app.run_canvas(self.clone(args, kwargs, **options))

    def freeze(self, *_: Any, **__: Any) -> Any:
        """Not there."""
        raise not_there("freeze()", "send it: ids are made then")

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Send it with more arguments; return its result."""
        return self.apply_async(args, **options)

    def __or__(self, other: Any) -> Any:
        return chain(self, other) if isinstance(other, Part) else NotImplemented

    def __invert__(self) -> Any:
        return self.apply_async().get()

    def _state(self) -> tuple[Any, ...]:
        return (self.options,)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._state() == self._state()

    __hash__ = None  # type: ignore[assignment]  # it can be changed


class Signature(Part):
    """A call of a task as a value: `task.s(...)`."""

    def __init__(
        self,
        task: Any,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        *,
        immutable: bool = False,
        app: Any = None,
        **more: Any,
    ) -> None:
        self.task: str = task if isinstance(task, str) else task.name
        self.args = tuple(args or ())
        self.kwargs = dict(kwargs or {})
        self.options = {**(options or {}), **more}
        self.immutable = immutable
        self._app = app

    @property
    def name(self) -> str:
        """The name of the task."""
        return self.task

    @property
    def type(self) -> Any:
        """The task."""
        return self.app.tasks[self.task]

    def clone(
        self, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Self:
        """Return a copy with *args* before its own, *kwargs* over its own; an immutable one takes none."""
        given, named = ((), {}) if self.immutable else (tuple(args or ()), dict(kwargs or {}))
        return type(self)(
            self.task,
            (*given, *self.args),
            {**self.kwargs, **named},
            {**self.options, **options},
            immutable=self.immutable,
            app=self._app,
        )

    def set_immutable(self, immutable: bool) -> None:
        """Have it take no result, or take one."""
        self.immutable = immutable

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the task here, with more arguments."""
        call = self.clone(args, kwargs)
        return self.type(*call.args, **call.kwargs)

    def _state(self) -> tuple[Any, ...]:
        return self.task, self.args, self.kwargs, self.options, self.immutable

    def __repr__(self) -> str:
        given = [*map(repr, self.args), *(f"{name}={value!r}" for name, value in self.kwargs.items())]
        return f"{self.task}({', '.join(given)})"


class chain(Part):  # noqa: N801  # Celery's name
    """Calls that run one after the other, each with the result of the one before."""

    def __init__(self, *tasks: Any, app: Any = None, **options: Any) -> None:
        given = tasks[0] if len(tasks) == 1 and not isinstance(tasks[0], Part) else tasks
        self.tasks: list[Any] = []
        for each in given:
            part = _part(each, "a chain")
            # What options it has concern it alone.
            self.tasks += part.tasks if isinstance(part, chain) and not part.options else [part]
        self.options = options
        self._app = app or _app_of(self.tasks)

    def parts(self) -> Iterator[Part]:
        """Yield its calls."""
        return iter(self.tasks)

    def clone(
        self, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Self:
        """Return a copy whose first call has more arguments."""
        tasks = [each.clone() for each in self.tasks]
        if tasks and (args or kwargs):
            tasks[0] = tasks[0].clone(args, kwargs)
        return type(self)(*tasks, app=self._app, **{**self.options, **options})

    def _state(self) -> tuple[Any, ...]:
        return self.tasks, self.options

    def __len__(self) -> int:
        return len(self.tasks)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return " | ".join(map(repr, self.tasks))


class group(Part):  # noqa: N801  # Celery's name
    """Calls that run at the same time. Their results are in the order of the calls."""

    def __init__(self, *tasks: Any, app: Any = None, **options: Any) -> None:
        given: Any = tasks
        if len(tasks) == 1:
            [only] = tasks
            given = only.tasks if isinstance(only, group) else tasks if isinstance(only, Part) else only
        self.tasks: list[Any] = []
        for each in given:
            part = _part(each, "a group")
            # A group in a group is the same as its calls in it.
            self.tasks += part.tasks if isinstance(part, group) and not part.options else [part]
        self.options = options
        self._app = app or _app_of(self.tasks)

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

    def skew(self, start: float = 1.0, stop: float | None = None, step: float = 1.0) -> Self:
        """Have the calls start *step* seconds apart, from *start* on, below *stop*."""
        delay = start
        for each in self.tasks:
            each.set(countdown=delay)
            delay += step
            if stop is not None and delay >= stop:
                delay = start
        return self

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
        self.body = None if body is None else _part(body, "the body of a chord")
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


def signature(varies: Any, *args: Any, **kwargs: Any) -> Any:
    """Return a call by the name of a task; of a call, a copy."""
    if isinstance(varies, Part):
        return varies.clone(*args, **kwargs)
    if isinstance(varies, Mapping):
        raise not_there(
            "a signature as a dictionary", "pass the name and the arguments: signature(name, args)"
        )
    return Signature(varies, *args, **kwargs)


subtask = maybe_signature = signature


def _app_of(parts: Iterable[Part]) -> Any:
    """Return the app that the first of *parts* with one is bound to; None: the current one will do."""
    return next((part._app for part in parts if part._app is not None), None)  # noqa: SLF001  # of this module


def _part(given: Any, where: str) -> Any:
    if isinstance(given, chunks):
        return given.group()
    if not isinstance(given, Part):
        raise TypeError(f"{where} is made of calls such as task.s(...), got {given!r}")
    return given


def _listed(given: Any) -> list[Any]:
    if given is None:
        return []
    return list(given) if isinstance(given, list | tuple) else [given]


def callbacks_of(options: Mapping[str, Any]) -> tuple[list[Any], list[Any]]:
    """Return the callbacks in *options*: for a success, and for a failure."""
    return _listed(options.get("link")), _listed(options.get("link_error"))
