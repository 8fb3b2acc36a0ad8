"""Calls as values, and what runs one after the other: Signature and chain."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Final, NoReturn, Self

from pgqueue.compat.celery import current
from pgqueue.compat.celery.wire import pack
from pgqueue.compat.missing import Lacking, not_there


def pack_one(value: Any) -> Any:
    """Return an argument as JSON values: a call is a dictionary then, as in Celery. Raises TypeError."""
    return pack(value)


def pack_all(values: Iterable[Any] | None) -> tuple[Any, ...]:
    """Return arguments as JSON values."""
    return tuple(pack_one(each) for each in values or ())


def pack_named(values: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return named arguments as JSON values."""
    return {name: pack_one(value) for name, value in (values or {}).items()}


class Part(Lacking):
    """What is composed: a call, or several."""

    lacking = "read its attributes: a call is a dictionary only as an argument"
    ways: ClassVar[Mapping[str, str]] = {
        "stamp": "pass headers=", "stamp_links": "pass headers=", "id": "send it: ids are made then",
    }  # fmt: skip

    options: dict[str, Any]
    _app: Any = None

    @property
    def app(self) -> Any:
        """The app that sends it."""
        return self._app if self._app is not None else current.find_app()

    def parts(self) -> Iterator[Part]:
        """Yield what it is made of, one level below."""
        return iter(())

    def as_part(self) -> Part:
        """Return what this is in a canvas."""
        return self

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

    def __getitem__(self, name: Any) -> NoReturn:
        """Not there: it is a dictionary only as an argument."""
        raise not_there(
            f"a call's item {name!r}", "read its attributes: .task, .args, .kwargs, .options, .tasks"
        )

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Send it with more arguments; return its result."""
        return self.apply_async(args, **options)

    def __or__(self, other: Any) -> Any:
        return chain(self, other) if isinstance(other, Part) else NotImplemented

    def __invert__(self) -> Any:
        return self.apply_async().get()

    def __json__(self) -> dict[str, Any]:
        """Return what it is as an argument: a dictionary, of which `signature` makes a call again."""
        raise NotImplementedError

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

    def __json__(self) -> dict[str, Any]:
        """Return it as Celery writes it."""
        return written(self, self.task, self.kwargs, None, self.args, immutable=self.immutable)

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
            part = part_of(each, "a chain")
            # What options it has concern it alone.
            self.tasks += part.tasks if isinstance(part, chain) and not part.options else [part]
        self.options = options
        self._app = app or app_of(self.tasks)

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

    def __json__(self) -> dict[str, Any]:
        """Return it as Celery writes it."""
        return written(self, "celery.chain", {"tasks": self.tasks}, "chain")

    def _state(self) -> tuple[Any, ...]:
        return self.tasks, self.options

    def __len__(self) -> int:
        return len(self.tasks)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return " | ".join(map(repr, self.tasks))


def written(
    part: Part,
    task: str,
    kwargs: Mapping[str, Any],
    kind: str | None,
    args: Iterable[Any] = (),
    *,
    immutable: bool = False,
) -> dict[str, Any]:
    """Return a call, or several, as the dictionary that Celery makes of it."""
    return {
        "task": task,
        "args": list(args),
        "kwargs": dict(kwargs),
        "options": part.options,
        "subtask_type": kind,
        "immutable": immutable,
    }


READERS: Final[dict[str, Callable[[Mapping[str, Any], dict[str, Any], Any], Part]]] = {
    "chain": lambda kwargs, options, app: chain(
        *(signature(each, app=app) for each in kwargs["tasks"]), app=app, **options
    )
}
"""Make what is composed of its arguments, its options and an app, by the kind that it is written with."""


def _read(given: Mapping[str, Any], app: Any) -> Any:
    """Return the call that was written as a dictionary."""
    options = dict(given.get("options") or {})
    for name in ("link", "link_error"):
        if options.get(name):
            options[name] = [maybe_signature(each, app=app) for each in _listed(options[name])]
    kind = given.get("subtask_type")
    if kind in READERS:
        return READERS[kind](given.get("kwargs") or {}, options, app)
    if kind is not None or "task" not in given:
        raise not_there(f"a signature of the kind {kind!r}", "pass one that .s(), chain, group or chord made")
    immutable = bool(given.get("immutable"))
    return Signature(
        given["task"], given.get("args"), given.get("kwargs"), options, immutable=immutable, app=app
    )


def signature(varies: Any, *args: Any, **kwargs: Any) -> Any:
    """Return a call by the name of a task; of a call, also one that was an argument, a copy."""
    if isinstance(varies, Mapping):
        varies = _read(varies, kwargs.pop("app", None))
    if isinstance(varies, Part):
        kwargs.pop("app", None)
        return varies.clone(*args, **kwargs)
    return Signature(varies, *args, **kwargs)


def maybe_signature(d: Any, app: Any = None, clone: bool = False) -> Any:
    """Return *d*, a call, as it is; of one that was an argument, a call; None of None."""
    if isinstance(d, Part):
        return d.clone() if clone else d
    return _read(d, app) if isinstance(d, Mapping) else d


subtask = signature


def app_of(parts: Iterable[Part]) -> Any:
    """Return the app that the first of *parts* with one is bound to; None: the current one will do."""
    return next((part._app for part in parts if part._app is not None), None)  # noqa: SLF001  # of this module


def part_of(given: Any, where: str) -> Any:
    """Return what *given* is in a canvas. Raises TypeError."""
    if not isinstance(given, Part):
        raise TypeError(f"{where} is made of calls such as task.s(...), got {given!r}")
    return given.as_part()


def _listed(given: Any) -> list[Any]:
    if given is None:
        return []
    return list(given) if isinstance(given, list | tuple) else [given]


def callbacks_of(options: Mapping[str, Any]) -> tuple[list[Any], list[Any]]:
    """Return the callbacks in *options*: for a success, and for a failure."""
    return _listed(options.get("link")), _listed(options.get("link_error"))
