"""What the handler gets equals what the caller gave, or the call is refused and names the argument."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import types
import typing
import uuid
import zoneinfo
from collections.abc import AsyncIterable, AsyncIterator, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

import pytest
from asyncpg.pgproto.pgproto import UUID as AsyncpgUUID  # noqa: N811  # a class, whatever its case
from hypothesis import HealthCheck, assume, given, reject, settings
from hypothesis import strategies as st
from kit import inside
from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Json,
    PrivateAttr,
    RootModel,
    Secret,
    SecretBytes,
    SecretStr,
    SerializeAsAny,
    Strict,
    ValidationError,
    computed_field,
)
from typing_extensions import TypedDict

from pgqueue import InvalidArgumentsError, InvalidTaskError, JobContext
from pgqueue.tasks.arguments import Arguments
from pgqueue.tasks.payload import encode_by_name
from pgqueue.tasks.return_value import Result

pytestmark = pytest.mark.contract("W23")

LIMIT = 1024 * 1024
T = TypeVar("T")


class Camel(BaseModel):
    user_name: str = Field(alias="userName")


class ByName(BaseModel):
    model_config = ConfigDict(populate_by_name=True, extra="forbid")
    user_name: str = Field(alias="userName")


class ReadAs(BaseModel):
    user_name: str = Field(validation_alias=AliasChoices("userName", AliasPath("user", "name")))


class WrittenAs(BaseModel):
    model_config = ConfigDict(serialize_by_alias=True)
    user_name: str = Field(serialization_alias="userName")


class Swapped(BaseModel):
    one: int = Field(alias="two")
    two: int = Field(alias="one")


class Sized(BaseModel):
    model_config = ConfigDict(extra="forbid")
    w: int
    h: int

    @computed_field  # type: ignore[prop-decorator]  # as pydantic's documentation has it
    @property
    def area(self) -> int:
        return self.w * self.h


class Hidden(BaseModel):
    a: int
    token: str = Field("unset", exclude=True)


class Reading(BaseModel):
    celsius: float | None = None


class Animal(BaseModel):
    name: str


class Dog(Animal):
    breed: str = "pug"


class Blob(BaseModel):
    raw: bytes


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: int


class Settings(BaseModel):
    cfg: Json[dict[str, int]]


class Noted(BaseModel):
    a: int
    _note: str = PrivateAttr("")

    def with_note(self, note: str) -> Noted:
        self._note = note
        return self


class Login(BaseModel):
    name: str
    password: SecretStr = Field(alias="passWord")
    others: list[Login] = []
    by_site: dict[str, SecretStr] = {}


class Generated(BaseModel):
    id: uuid.UUID = Field(default_factory=uuid.uuid4)


class Page(BaseModel, Generic[T]):
    items: list[T]


class Ids(RootModel[list[int]]):
    pass


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int


class Fish(BaseModel):
    kind: Literal["fish"] = "fish"
    lives: int


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Number(enum.Enum):
    ONE = 1


class Kinds(enum.Enum):
    ONE = 1
    HALF = 0.5
    TEXT = "text"


class Twins(enum.Enum):
    NUMBER = 1
    TEXT = "1"


class ByNumber(BaseModel):
    by_number: dict[Number, int]


class Once(BaseModel):
    numbers: Iterable[int]


class Perm(enum.IntFlag):
    R = 1
    W = 2


@dataclasses.dataclass
class Point:
    x: float
    y: float | None = None


class Row(TypedDict, total=False):
    id: int
    at: datetime


class Pair(NamedTuple):
    a: int
    b: str


class Place(NamedTuple):
    x: float
    y: float


class Positive(BaseModel):
    n: int = Field(gt=0)


class Letter(enum.StrEnum):
    A = "a"


class Letters(BaseModel):
    by_letter: dict[str, int] = {}


def changed(made: Any, **values: Any) -> Any:
    """Return *made* with fields that were set since it was validated."""
    vars(made).update(values)
    return made


noted = Noted(a=1).with_note("n")
AWARE = datetime(2030, 1, 1, 12, 30, 15, 123456, tzinfo=timezone(timedelta(hours=5, minutes=30)))

CASES: dict[str, tuple[Any, Any, bool]] = {
    "alias": (Camel, Camel(userName="ann"), True),
    "alias, by name too": (ByName, ByName.model_validate({"user_name": "ann"}), True),
    "validation alias": (ReadAs, ReadAs.model_validate({"userName": "ann"}), True),
    "serialization alias": (WrittenAs, WrittenAs(user_name="ann"), True),
    "aliases that are other fields' names": (Swapped, Swapped(two=1, one=2), False),
    "alias of a parameter": (Annotated[int, Field(alias="x")], 1, True),
    "computed field": (Sized, Sized(w=2, h=3), True),
    "excluded field": (Hidden, Hidden(a=1, token="t"), False),
    "excluded field at its default": (Hidden, Hidden.model_validate({"a": 1}), True),
    "secret": (SecretStr, SecretStr("hunter2"), True),
    "secret bytes": (SecretBytes, SecretBytes(b"\xffhunter2"), True),
    "secret date": (Secret[date], Secret[date](date(2026, 1, 2)), True),
    "secrets in a model": (
        Login,
        Login(
            name="a",
            passWord=SecretStr("p"),
            others=[Login(name="b", passWord=SecretStr("q"))],
            by_site={"x.y": SecretStr("r")},
        ),
        True,
    ),
    "secrets in a list": (list[SecretStr | None], [SecretStr("a"), None], True),
    "secret that is asterisks": (SecretStr, SecretStr("**********"), True),
    "bytes": (bytes, b"\x00\xff", True),
    "bytes in a model": (Blob, Blob(raw=b"\xff"), False),
    "ASCII bytes in a model": (Blob, Blob(raw=b"abc"), True),
    "infinity": (float, -math.inf, True),
    "not a number": (list[float | None], [math.nan, None], True),
    "infinity in a model": (Reading, Reading(celsius=math.inf), False),
    "infinity that is strictly a float": (Annotated[float, Strict()], math.inf, False),
    "integer that a float rounds": (float, 2**63 + 1, False),
    "such integers within": (dict[str, list[float | None]], {"a": [1.5, -(2**53) - 1]}, False),
    "such an integer among fields": (Reading, {"celsius": 2**53 + 1}, False),
    "such an integer in a NamedTuple": (Place, (1, 2**53 + 1), False),
    "such an integer in a union": (float | str, 2**53 + 1, False),
    "int or float keeps it": (int | float, 2**53 + 1, True),
    "Decimal that a float rounds": (float, Decimal("0.1"), False),
    "integer that a float rounds, set in a model": (Reading, changed(Reading(), celsius=2**53 + 1), False),
    "Decimal for a float, set in a model": (Reading, changed(Reading(), celsius=Decimal("0.1")), False),
    "True for an int, set in a model": (Sized, changed(Sized(w=1, h=1), w=True), False),
    "Enum for an int, set in a model": (list[Sized], [changed(Sized(w=1, h=1), w=Level.LOW)], False),
    "Enum for a constrained int, set in a model": (Positive, changed(Positive(n=1), n=Level.LOW), False),
    "Enum for a str, set in a model": (Animal, changed(Animal(name="a"), name=Letter.A), False),
    "Enum for a key, set in a model": (Letters, changed(Letters(), by_letter={Letter.A: 1}), False),
    "secret or str, a secret": (SecretStr | str, SecretStr("a"), True),
    "secret or str, a str": (SecretStr | str, "a", False),
    "strs and secrets": (list[SecretStr | str], [SecretStr("a"), "a"], False),
    "str or secret, a str": (str | SecretStr, "a", True),
    "str or secret, a secret": (str | SecretStr, SecretStr("a"), False),
    "date or secret date, a date": (Secret[date] | date, date(2026, 1, 2), False),
    "int for float in a dataclass": (Point, Point(1, 2), True),
    "JSON in JSON": (Settings, Settings.model_validate({"cfg": '{"a": 1}'}), True),
    "subclass": (Animal, Dog(name="rex"), False),
    "subclasses in a list": (list[Animal], [Animal(name="a"), Dog(name="rex")], False),
    "models in a list": (list[Animal], [Animal(name="a"), Animal(name="b")], True),
    "models with more in a list": (list[Open], [Open(a=1), Open(a=2, b=(1,))], False),  # type: ignore[call-arg]
    "invalid model in a list": (list[Animal], [Animal(name="a"), Animal.model_construct(name=b"b")], False),
    "subclass, dumped as any": (SerializeAsAny[Animal], Dog(name="rex"), False),
    "subclass in a union with it": (Dog | Animal, Dog(name="rex"), True),
    "extra fields": (Open, Open(a=1, b=[2]), True),  # type: ignore[call-arg]  # that is the point
    "extra field that JSON has not": (Open, Open(a=1, b=(2,)), False),  # type: ignore[call-arg]  # the same
    "private attribute": (Noted, noted, False),
    "unchecked instance": (Animal, Animal.model_construct(name=5), False),
    "mutated instance": (Reading, Reading.model_construct(celsius="warm"), False),
    "default factory": (Generated, Generated(), True),
    "validator that is not idempotent": (Annotated[int, AfterValidator(lambda n: n * 100)], 5, False),
    "validator that trips over JSON": (
        Annotated[Any, BeforeValidator(lambda when: when.date())],
        AWARE,
        False,
    ),
    "str or bytes": (str | bytes, b"\xff", False),
    "date or str": (date | str, "2026-01-02", False),
    "date or datetime": (date | datetime, date(2026, 1, 2), True),
    "int or float": (int | float, 1.0, True),
    "bool or int": (bool | int, 1, True),
    "Decimal or float": (Decimal | float, 1.5, True),
    "Decimal's digits": (Decimal, Decimal("1.10"), True),
    "Enum": (Colour, Colour.RED, True),
    "Enum keys": (dict[Colour, int], {Colour.RED: 1}, True),
    "int Enum keys": (dict[Level, int], {Level.LOW: 1}, True),
    "keys of an Enum of numbers": (dict[Number, Animal], {Number.ONE: Animal(name="a")}, True),
    "keys of an Enum of kinds": (dict[Kinds, int], dict.fromkeys(Kinds, 1), True),
    "keys of an Enum of which two look alike": (dict[Twins, int], {Twins.NUMBER: 1}, False),
    "literal keys": (dict[Literal[1, "a", True], int], {1: 1, "a": 2}, True),
    "such keys in a model": (ByNumber, ByNumber(by_number={Number.ONE: 1}), True),
    "flags": (Perm, Perm.R | Perm.W, True),
    "int keys": (dict[int, str], {1: "a", -2: "b"}, True),
    "tuple keys": (dict[tuple[int, int], int], {(1, 2): 3}, False),
    "lone surrogate in a key": (dict[str, int], {"\ud800": 1}, False),
    "Any: lone surrogate in a key": (Any, [{"a\ud800": 1}], False),
    "key that stands for another character": (dict[str, Any], {"\ufffd": ["\ufffd"]}, True),
    "big integer": (int, 10**4200, True),
    "integer that Python does not read": (int, 10**4300, False),
    "such an integer within": (dict[str, list[int]], {"a": [-(10**5000)]}, False),
    "annotated model": (Annotated[Animal, "doc"], Animal(name="a"), True),
    "generic model": (Page[Animal], Page[Animal](items=[Animal(name="a")]), True),
    "root model": (Ids, Ids([1]), True),
    "discriminated union": (Annotated[Cat | Fish, Field(discriminator="kind")], Fish(lives=1), True),
    "smart union": (Cat | Fish, Fish(lives=1), True),
    "dataclass": (Point, Point(1.5, 2.5), True),
    "TypedDict": (Row, {"id": 1, "at": AWARE}, True),
    "NamedTuple": (Pair, Pair(1, "x"), True),
    "set": (set[str], {"a", "b", "c"}, True),
    "frozenset of tuples": (frozenset[tuple[int, str]], frozenset({(1, "a")}), True),
    "Sequence": (Sequence[int], [1, 2], True),
    "tuple for Sequence": (Sequence[int], (1, 2), False),
    "Mapping": (Mapping[str, Decimal], {"a": Decimal(1)}, True),
    "datetime with an offset": (datetime, AWARE, True),
    "datetime with an odd offset": (
        datetime,
        datetime(2030, 1, 1, tzinfo=timezone(timedelta(seconds=30))),
        False,
    ),
    "infinite float or Decimal": (list[Decimal | float], [math.inf], True),
    "time": (time, time(1, 2, 3, 4), True),
    "timedelta": (timedelta, timedelta(days=-1, microseconds=7), True),
    "Path": (Path, Path("a/b"), True),
    "UUID": (uuid.UUID, uuid.uuid4(), True),
    "UUID of asyncpg": (uuid.UUID, AsyncpgUUID(bytes(16)), True),
    "None": (None, None, True),
    "Literal": (Literal["a", 1] | None, 1, True),
    "Any: JSON's values": (Any, {"a": [1, -0.5, "x", None, True, {}]}, True),
    "Any: int keys": (Any, {1: "a"}, False),
    "Any: tuple": (Any, [(1, 2)], False),
    "Any: set": (Any, {1}, False),
    "Any: datetime": (Any, AWARE, False),
    "Any: Decimal": (Any, Decimal("1.1"), False),
    "Any: infinity": (Any, math.inf, False),
    "Any: not a number": (Any, [math.nan], False),
    "Any: bytes": (Any, b"a", False),
    "Any: str Enum": (Any, Colour.RED, False),
    "Any: int Enum": (Any, [Level.LOW], False),
    "Any: secret": (Any, SecretStr("a"), False),
    "Any: model": (Any, Animal(name="a"), False),
    "Any: dataclass": (Any, Point(1.0), False),
    "Any: integer that Python does not read": (Any, 10**5000, False),
    "Any: very deep": (Any, json.loads("[" * 80 + "]" * 80), True),
    "dict": (dict, {"a": [1]}, True),
    "dict: int keys": (dict, {1: "a"}, False),
    "list": (list, [1, "a"], True),
    "list: tuple within": (list, [(1,)], False),
    "tuple": (tuple, (1, "a"), True),
    "object": (object, {"a": 1}, True),
    "object: datetime": (object, AWARE, False),
    "dict of Any": (dict[str, Any], {"a": AWARE}, False),
}


def arguments_of(annotation: Any) -> Arguments:
    """Return the parameters of a handler that takes one `value`."""

    def work(value: Any) -> None: ...

    work.__annotations__ = {"value": annotation, "return": type(None)}
    return Arguments("work", work, context_type=JobContext)


def result_of(annotation: Any) -> Result:
    """Return the result of a handler that is annotated so."""

    def work() -> Any: ...

    work.__annotations__ = {"return": annotation}
    return Result("work", work)


def plain(value: Any) -> Any:  # noqa: C901  # one case a kind
    """Return what tells *value* from others of other types or contents, all through: NaN is like itself."""
    match value:
        case BaseModel():
            parts: Any = [(name, plain(getattr(value, name))) for name in type(value).model_fields]
            parts += [plain(value.__pydantic_extra__), plain(value.__pydantic_private__)]
        case SecretStr() | SecretBytes() | Secret():
            parts = plain(value.get_secret_value())
        case enum.Enum():
            parts = value.name
        case Point():
            # An int that stands for a float is that float.
            parts = [repr(None if each is None else float(each)) for each in (value.x, value.y)]
        case dict():
            parts = [(plain(name), plain(each)) for name, each in value.items()]
        case set() | frozenset():
            parts = sorted(repr(plain(each)) for each in value)
        case list() | tuple():
            parts = [plain(each) for each in value]
        case datetime() if value.utcoffset() is not None:
            parts = value.astimezone(UTC)
        case time():
            # Which of two equal hours it is means nothing without a zone.
            parts = repr(value.replace(fold=0))
        case uuid.UUID():
            return (uuid.UUID, str(value))
        case _:
            parts = repr(value)
    return (type(value), parts)


@pytest.mark.parametrize("which", CASES)
def test_an_argument_arrives_as_it_was_or_the_call_names_it(which: str) -> None:
    annotation, value, comes_back = CASES[which]
    arguments = arguments_of(annotation)

    if not comes_back:
        with pytest.raises(InvalidArgumentsError, match="argument 'value") as raised:
            arguments.encode((value,), {}, limit=LIMIT)
        assert raised.value.argument == "value"
        return
    _, kwargs = arguments.decode(arguments.encode((value,), {}, limit=LIMIT))

    assert plain(kwargs["value"]) == plain(value)


@pytest.mark.parametrize("which", [each for each in CASES if each != "alias of a parameter"])
def test_a_result_comes_back_as_it_was_or_is_refused(which: str) -> None:
    annotation, value, comes_back = CASES[which]
    result = result_of(annotation)

    if not comes_back:
        with pytest.raises(ValueError, match=r"^the result "):
            result.encode(value, limit=LIMIT)
        return

    assert plain(result.decode(result.encode(value, limit=LIMIT))) == plain(value)


@pytest.mark.parametrize("which", [each for each in CASES if each.startswith("Any")])
def test_a_call_by_name_alone_takes_jsons_values_alone(which: str) -> None:
    _, value, comes_back = CASES[which]

    if comes_back:
        stored = encode_by_name("far", (), {"value": value}, limit=LIMIT)
        assert plain(arguments_of(Any).decode(stored)[1]["value"]) == plain(value)
        return
    with pytest.raises(InvalidArgumentsError, match="argument 'named'") as raised:
        encode_by_name("far", (), {"named": value}, limit=LIMIT)
    assert raised.value.argument == "named"


def test_who_passes_what_has_no_type_is_told_to_annotate_it() -> None:
    with pytest.raises(InvalidArgumentsError, match=r"datetime becomes str.*annotate it with its type"):
        arguments_of(Any).encode((AWARE,), {}, limit=LIMIT)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Decimal | float, Decimal("-Infinity")),
        (list[float | Decimal | None], [None, Decimal("Infinity")]),
        (Annotated[Decimal | float, "doc"], Decimal("Infinity")),
        (list[bytes | Annotated[str, Field(min_length=2)]], [""]),
        (Annotated[bytes, Field(max_length=1)] | str, b"xy"),
        (Literal["a", 1, True] | Level, Level.LOW),
    ],
)
def test_a_union_takes_no_value_for_one_of_another_of_its_types(annotation: Any, value: Any) -> None:
    with pytest.raises(InvalidArgumentsError, match="should keep its type") as raised:
        arguments_of(annotation).encode((value,), {}, limit=LIMIT)
    assert raised.value.argument == "value"
    with pytest.raises(ValueError, match="should keep its type"):
        result_of(annotation).encode(value, limit=LIMIT)


def test_a_refusal_keeps_the_value_to_itself() -> None:
    class Vault(BaseModel):
        code: SecretStr = Field(exclude=True, default=SecretStr("none"))

    with pytest.raises(InvalidArgumentsError) as raised:
        arguments_of(Vault).encode((Vault(code=SecretStr("hunter2")),), {}, limit=LIMIT)

    assert "hunter2" not in f"{raised.value} {raised.value.__cause__!r} {raised.value.errors}"


@pytest.mark.parametrize(
    "annotation",
    [
        Iterable,
        Iterable[int],
        typing.Iterable[int],
        Iterator[int],
        Generator[int],
        AsyncIterator[int],
        AsyncIterable[int],
        list[Iterable[int]],
        Iterable[int] | None,
        Once,
        list[Once],
    ],
)
def test_what_can_be_read_only_once_is_refused_where_it_is_declared(annotation: Any) -> None:
    for declare in (arguments_of, result_of):
        with pytest.raises(InvalidTaskError, match=r"read only once.*annotate list\[\.\.\.\]"):
            declare(annotation)


def test_json_numbers_that_a_float_rounds_are_refused() -> None:
    arguments = arguments_of(list[float]).for_json()

    with pytest.raises(InvalidArgumentsError, match="float holds exactly"):
        arguments.encode((), {"value": [1.5, 2**53 + 1]}, limit=LIMIT)
    assert arguments.encode((), {"value": [1.5, 2**53]}, limit=LIMIT) == '{"value":[1.5,9007199254740992.0]}'


def test_numbers_and_texts_for_floats_that_hold_them_are_taken() -> None:
    stored = arguments_of(dict[str, list[float]]).encode(
        ({"a": ["1.5", 2, True, 2**63, Decimal("-Infinity")]},), {}, limit=LIMIT
    )

    assert stored == '{"value":{"a":[1.5,2.0,1.0,9.223372036854776e+18,"-Infinity"]}}'


# Types that are made up


def optional(inner: tuple[Any, Any]) -> tuple[Any, Any]:
    return typing.Optional[inner[0]], st.none() | inner[1]  # noqa: UP045  # made at run time


def union(one: tuple[Any, Any], other: tuple[Any, Any]) -> tuple[Any, Any]:
    # A secret takes a str for its own, also where a str could stay one.
    assume(SecretStr not in (one[0], other[0]))
    return typing.Union[one[0], other[0]], one[1] | other[1]  # noqa: UP007  # made at run time


def constructed(made: Any, others: Any) -> Any:
    """Return the strategy of instances that were never validated: fields are missing, or another's."""
    return others.map(lambda given: made.model_construct(**given))


def model_of(fields: list[tuple[Any, Any]], *, kind: str) -> tuple[Any, Any]:
    """Return a type with *fields*, and the strategy of its values."""
    names = [f"f{number}" for number in range(len(fields))]
    values = {name: values for name, (_, values) in zip(names, fields, strict=True)}
    hints = {name: hint for name, (hint, _) in zip(names, fields, strict=True)}
    if kind == "dataclass":
        made: Any = dataclasses.make_dataclass("Made", list(hints.items()))
    elif kind == "typeddict":
        made = TypedDict("Made", hints)  # type: ignore[misc, no-redef]  # made at run time
    elif kind == "namedtuple":
        made = NamedTuple("Made", list(hints.items()))  # type: ignore[misc, no-redef]  # the same
    else:
        space: dict[str, Any] = {"__annotations__": hints, "__module__": __name__}
        if kind == "aliased":
            space |= {name: Field(alias=f"{name}Alias", validation_alias=f"{name}Read") for name in names}
            space["model_config"] = ConfigDict(populate_by_name=True)
        made = types.new_class("Made", (BaseModel,), exec_body=lambda body: body.update(space))
        if kind == "unchecked":
            any_value = st.one_of(*values.values(), *(each for _, each in LEAVES))
            return made, constructed(made, st.dictionaries(st.sampled_from(names), any_value))

    def make(given: dict[str, Any]) -> Any:
        with suppress(ValidationError):
            return made(**given)
        return reject()

    return made, st.fixed_dictionaries(values).map(make)


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)
LEAVES: list[tuple[Any, Any]] = [
    (Annotated[str, Field(min_length=2)], TEXT),
    (Annotated[int, Field(ge=0)], st.integers(-1)),
    (Annotated[Decimal, Field(ge=0)], st.decimals(-1, allow_nan=False)),
    (str, TEXT),
    (int, st.integers()),
    (bool, st.booleans()),
    (float, st.floats()),
    (bytes, st.binary(max_size=5)),
    (Decimal, st.decimals(allow_nan=False)),
    (date, st.dates()),
    (datetime, st.datetimes(timezones=st.timezones())),
    (time, st.times()),
    (timedelta, st.timedeltas()),
    (uuid.UUID, st.uuids()),
    (Colour, st.sampled_from(Colour)),
    (Level, st.sampled_from(Level)),
    (Literal["a", 1, True], st.sampled_from(["a", 1, True])),
    (SecretStr, TEXT.map(SecretStr)),
    (
        Any,
        st.one_of(st.integers(), TEXT, st.floats(), st.binary(max_size=3), st.lists(st.dates(), max_size=2)),
    ),
    (None, st.none()),
]
HASHABLE = [leaf for leaf in LEAVES if leaf[0] not in (Any, SecretStr)]
leaves = st.sampled_from(LEAVES)
hashable = st.sampled_from(HASHABLE)
types_and_values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        inner.map(optional),
        st.builds(union, inner, inner),
        inner.map(lambda of: (types.GenericAlias(list, of[0]), st.lists(of[1], max_size=3))),
        inner.map(lambda of: (types.GenericAlias(Sequence, of[0]), st.lists(of[1], max_size=3))),
        inner.map(
            lambda of: (types.GenericAlias(tuple, (of[0], ...)), st.lists(of[1], max_size=3).map(tuple))
        ),
        hashable.map(lambda of: (types.GenericAlias(set, of[0]), st.sets(of[1], max_size=3))),
        st.builds(
            lambda key, of: (
                types.GenericAlias(dict, (key[0], of[0])),
                st.dictionaries(key[1], of[1], max_size=3),
            ),
            hashable,
            inner,
        ),
        st.builds(
            model_of,
            st.lists(inner, min_size=1, max_size=3),
            kind=st.sampled_from(["model", "aliased", "unchecked", "dataclass", "typeddict", "namedtuple"]),
        ),
    ),
    max_leaves=5,
)


def alike(value: Any) -> Any:
    """Return *value* as `plain` does, through classes that were made up and ints that stand for floats."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return (type(value), [alike(getattr(value, each.name)) for each in dataclasses.fields(value)])
    match value:
        case BaseModel():
            return (type(value), [alike(getattr(value, name, None)) for name in type(value).model_fields])
        case dict():
            # A TypedDict's fields come in its order.
            return (
                type(value),
                sorted(((alike(name), alike(each)) for name, each in value.items()), key=repr),
            )
        case list() | tuple():
            return (type(value), [alike(each) for each in value])
        case set() | frozenset():
            return (type(value), sorted(repr(alike(each)) for each in value))
        case _:
            return plain(value)


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data(), types_and_values)
def test_a_value_of_any_type_arrives_as_it_was_or_is_refused(data: st.DataObject, made: Any) -> None:
    annotation, values = made
    value = data.draw(values)
    arguments = arguments_of(annotation)

    try:
        stored = arguments.encode((), {"value": value}, limit=LIMIT)
    except InvalidArgumentsError as error:
        assert error.argument == "value"  # noqa: PT017  # most calls are not refused
        return

    assert alike(arguments.decode(stored)[1]["value"]) == alike(value)


# What is exact pays nothing


@pytest.mark.parametrize(
    ("annotation", "exact"),
    [
        (int, True),
        (str, True),
        (bool, True),
        (float, True),
        (None, True),
        (uuid.UUID, True),
        (int | None, True),
        (list[set[uuid.UUID]], True),
        (Annotated[int, Field(gt=0)], True),
        (Literal["a", "b"], True),
        (Any, False),
        (list, False),
        (int | str, False),
        (Animal, False),
        (datetime, False),
        (dict[int, str], False),
        (dict[str, int], False),
        (Literal[1, True], False),
        (Annotated[int, AfterValidator(abs)], False),
    ],
)
def test_types_are_exact_or_checked(annotation: Any, exact: bool) -> None:
    assert inside.is_exact(arguments_of(annotation)) is exact


def test_a_call_of_exact_types_is_not_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(number: int, texts: list[str]) -> None: ...

    arguments = Arguments("work", work, context_type=JobContext)
    calls: list[str] = []
    monkeypatch.setattr(arguments, "_from_json", lambda _: calls.append("read"))

    arguments.encode((1, ["a"] * 100), {}, limit=LIMIT)

    assert calls == []


class Line(BaseModel):
    number: int
    price: float
    note: Annotated[str, Field(min_length=1)] | None = None
    of: Camel = Camel(userName="ann")


class Tree(BaseModel):
    name: str
    children: list[Tree] = []
    extra: dict[str, Any] = {}


class Typed(BaseModel):
    at: datetime
    on: date
    took: timedelta
    amount: Decimal
    id: uuid.UUID
    colour: Colour
    one: Annotated[Cat | Fish, Field(discriminator="kind")]


@dataclasses.dataclass
class Spot:
    name: str
    x: float
    near: list[Spot] = dataclasses.field(default_factory=list)


WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))
TYPED = Typed(
    at=WHEN,
    on=date.min,
    took=timedelta(1),
    amount=Decimal(1),
    id=uuid.UUID(int=1),
    colour=Colour.RED,
    one=Cat(lives=1),
)
# What comes back for sure, and what of the same type does not.
SURE: dict[str, tuple[Any, list[Any], list[Any]]] = {
    "models": (
        Line,
        [Line(number=1, price=1.5), Line(number=2, price=0, note="x")],
        [
            Line(number=1, price=math.inf),
            Line.model_construct(number=1),
            Line.model_construct(number=1, price=1, note=""),
            Line.model_construct(number="1", price=1.5),
            Line.model_construct(number=Decimal(1), price=1.5),
            Line(number=1, price=1, of=Camel.model_construct(user_name=5)),
        ],
    ),
    "models of their own kind": (
        Tree,
        [Tree(name="a", children=[Tree(name="b", extra={"a": [1.5]})])],
        [
            Tree(name="a", children=[Tree(name="b", extra={"a": [(1,)]})]),
            Tree(name="a", extra={"a": math.nan}),
            Tree.model_construct(name="a", children=(Tree(name="b"),)),
            Tree.model_construct(name="a", children=[None]),
        ],
    ),
    "subclasses": (Animal, [Animal(name="a")], [Dog(name="a")]),
    "models of values": (
        Typed,
        [TYPED],
        [
            TYPED.model_copy(update={"at": WHEN.replace(year=1800)}),
            TYPED.model_copy(update={"on": WHEN}),
            TYPED.model_copy(update={"amount": Decimal("NaN")}),
            TYPED.model_copy(update={"colour": "red"}),
            TYPED.model_copy(update={"one": Camel(userName="a")}),
        ],
    ),
    "dataclasses": (Spot, [Spot("a", 1.5, [Spot("b", 2.5)])], [Spot("a", 1.5, [Point(1)])]),  # type: ignore[list-item]
    "anything": (
        Any,
        [{"a": [1, None, "x", {"b": -0.0}]}],
        [{"a": [{1: 2}]}, [(1,)], [[-math.inf]], {"a": {1}}],
    ),
    "numbers or text": (int | str | None, [1, "a", None], []),
    "Decimals": (Decimal, [Decimal("1.10")], []),
    "keys that are no text": (dict[uuid.UUID, int], [{uuid.UUID(int=1): 1}], []),
}


@pytest.mark.parametrize("which", SURE)
def test_many_values_of_a_known_type_are_not_read_back(which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, values, _ = SURE[which]
    arguments = arguments_of(list[kind])  # type: ignore[valid-type]  # made at run time
    monkeypatch.setattr(inside.form(arguments), "check", lambda *_: pytest.fail("was read back"))

    stored = arguments.encode((values * 1000,), {}, limit=100 * LIMIT)

    assert plain(arguments.decode(stored)[1]["value"]) == plain(values * 1000)


@pytest.mark.parametrize(("which", "number"), [(each, n) for each in SURE for n in range(len(SURE[each][2]))])
def test_one_of_many_that_does_not_come_back_is_found(which: str, number: int) -> None:
    kind, values, others = SURE[which]

    with pytest.raises(InvalidArgumentsError, match="argument 'value'"):
        arguments_of(list[kind]).encode(([*values, others[number], *values],), {}, limit=LIMIT)  # type: ignore[valid-type]  # made at run time


# Secrets are not shown


@pytest.mark.parametrize(
    ("annotation", "paths"),
    [
        (SecretStr, {("value",)}),
        (list[SecretStr] | None, {("value",)}),
        (dict[str, Secret[date]], {("value", "*")}),
        (int, set()),
        (Point, set()),
    ],
)
def test_secrets_are_found_in_types(annotation: Any, paths: set[tuple[str, ...]]) -> None:
    assert arguments_of(annotation).secrets == paths


def test_secrets_are_found_in_models_that_hold_themselves() -> None:
    found = arguments_of(Login).secrets

    assert {
        ("value", "password"),
        ("value", "passWord"),
        ("value", "by_site", "*"),
        ("value", "**", "password"),
    } <= found
