"""Plain values to JSON and back: the base of everything that the control API takes and gives.

A message is a frozen dataclass of texts, numbers, tuples and other messages. Reading is forgiving
where versions differ (unknown keys are ignored, missing ones take their default) and strict about
types. Light on purpose (the CLI loads it): no pydantic.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass
from typing import Any, Self, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Message:
    """Base of all answers."""

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and text."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """The inverse of ``to_json``; unknown keys are ignored, missing ones take their default.

        ValueError when ``data`` is not of this shape at all.
        """
        return _build(cls, data)


def _build(cls: type[T], data: Any) -> T:
    if not isinstance(data, dict):
        raise _mismatch(cls.__name__, data)
    hints = hints_of(cls)
    values = {key: _convert(hints[key], value) for key, value in data.items() if key in hints}
    try:
        return cls(**values)
    except TypeError as error:
        raise ValueError(f"{cls.__name__}: {error}") from None


def _convert(hint: Any, value: Any) -> Any:
    origin = typing.get_origin(hint)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise _mismatch("list", value)
        return tuple(_convert(typing.get_args(hint)[0], item) for item in value)
    if origin is types.UnionType:
        if value is None:
            return None
        return _convert(next(a for a in typing.get_args(hint) if a is not types.NoneType), value)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _build(hint, value)
    if hint is float and isinstance(value, int):
        return float(value)
    if not isinstance(value, hint):
        raise _mismatch(hint.__name__, value)
    return value


def hints_of(cls: type) -> dict[str, Any]:
    """The types of a message's fields."""
    # ``bytes`` is a field of several classes, so annotations are resolved in the module alone.
    return typing.get_type_hints(cls, localns={})


def _mismatch(expected: str, value: object) -> ValueError:
    return ValueError(f"{value!r:.60} where a {expected} was expected")


# --- types of fields -----------------------------------------------------------------------------


def is_many(hint: Any) -> bool:
    """Whether it is a list in JSON."""
    return typing.get_origin(hint) is tuple


def is_optional(hint: Any) -> bool:
    """Whether it may be null in JSON."""
    return typing.get_origin(hint) is types.UnionType


def inner_type(hint: Any) -> Any:
    """What a list has, or what is there where it is not null; else the type itself."""
    arguments = [each for each in typing.get_args(hint) if each is not types.NoneType]
    return arguments[0] if is_many(hint) or is_optional(hint) else hint
