"""Types for the tests of values: one of each kind that a user may declare."""

from __future__ import annotations

import datetime as dt
import enum
import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, TypedDict, TypeVar
from uuid import UUID

import msgspec
import pydantic

T = TypeVar("T")


def shown(case: Any) -> str:
    """The name of a case: the same in every process, for tests that run in several are told apart by it."""
    if isinstance(case, set):
        return f"{{{', '.join(sorted(map(repr, case)))}}}"
    return re.sub(r" at 0x[0-9a-f]+", "", str(case))


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclass
class Stop:
    city: str
    when: dt.datetime
    colour: Colour = Colour.RED
    notes: dict[int, bytes] = field(default_factory=dict)


@dataclass
class Leg:
    stops: list[Stop]


@dataclass
class LongStop(Stop):
    nights: int = 0


@dataclass
class Tree:
    name: str
    kids: list[Tree] = field(default_factory=list)


@dataclass
class Box(Generic[T]):
    item: T


@dataclass(eq=False)
class Quiet:
    level: int


@dataclass
class Loose:
    payload: Any


class Point(NamedTuple):
    x: int
    y: float


class Ticket(TypedDict):
    seat: str
    price: NotRequired[Decimal]


class Card(msgspec.Struct, tag="card"):
    number: str


class Cash(msgspec.Struct, tag="cash"):
    amount: Decimal


class Hotel(pydantic.BaseModel):
    name: str
    rooms: list[int] = []
    rating: float | None = None


class Cat(pydantic.BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(pydantic.BaseModel):
    kind: Literal["dog"] = "dog"
    name: str = "Rex"


class BigDog(Dog):
    weight: int = 50


Pet = Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]


class Page(pydantic.BaseModel, Generic[T]):
    items: list[T]


class Aliased(pydantic.BaseModel):
    async_: int = pydantic.Field(alias="async")
    out: str = pydantic.Field(default="", serialization_alias="OUT")
    back: str = pydantic.Field(default="", validation_alias=pydantic.AliasChoices("b1", "b2"))


def fresh():
    """A clock in small: another value at each call."""
    global _count  # noqa: PLW0603
    _count += 1
    return UUID(int=_count)


_count = 0


class Stamped(pydantic.BaseModel):
    id: UUID = pydantic.Field(default_factory=fresh)


class Private(pydantic.BaseModel):
    name: str
    _cache: int = pydantic.PrivateAttr(default=0)

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def shout(self) -> str:
        return self.name.upper()


class Locked(pydantic.BaseModel):
    token: pydantic.SecretStr


@dataclass
class Trip:
    hotel: Hotel
    pets: list[Pet]
