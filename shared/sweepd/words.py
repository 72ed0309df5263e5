"""What a person may write at one place of a study file: kinds of value, and sections of words.

Each kind reads a value (:meth:`Kind.read`) and tells editors what it takes (:meth:`Kind.schema`),
so that the parser and the JSON Schema cannot drift apart. A problem is one line:
the place, what was found there, and what to write instead.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar, cast

from sweepd import units

T = TypeVar("T")

INT_LIMIT = 2**63 - 1  #: what JSON readers, Redis and msgspec all carry as a whole number


class Wrong(Exception):
    """What was read cannot be used; `problems` lists all reasons, one line each."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


class Kind(Protocol):
    """What one place takes."""

    def read(self, value: object, place: str) -> Any:
        """Return *value* as the structs keep it; raise :class:`Wrong`."""
        ...

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of what :meth:`read` takes, as near as a schema can say it."""
        ...


def join(place: str, word: str) -> str:
    """Return the place of *word* inside *place*; the whole file is the empty place."""
    return f"{place}.{word}" if place else word


def found(value: object) -> str:
    """Name *value* in a message."""
    if isinstance(value, str):
        return f"the text {_short(repr(value))}"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "a mapping"
    if value is None:
        return "empty"
    if isinstance(value, (bool, int)):
        return _short(json.dumps(value)) if abs(value) <= INT_LIMIT else "a whole number of more than 64 bits"
    return repr(value)


def _short(text: str, limit: int = 60) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _wrong(place: str, value: object, remedy: str) -> Wrong:
    return Wrong([f"{place}: is {found(value)}; {remedy}"])


def listed(words: Sequence[str]) -> str:
    """Return "a", "a or b", "a, b or c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def nearest(word: str, known: Sequence[str]) -> str | None:
    """Return the known word that *word* was probably meant to be."""
    plain = {k.casefold(): k for k in known}
    close = difflib.get_close_matches(word.casefold().replace("-", "_"), list(plain), n=1, cutoff=0.6)
    return plain[close[0]] if close else None


@dataclass(frozen=True)
class Text:
    """Text of the given pattern; `rule` completes "write ...". `reserved`: what is refused, and why."""

    rule: str
    pattern: str
    reserved: Mapping[str, str] = field(default_factory=dict[str, str])

    def read(self, value: object, place: str) -> str:
        if isinstance(value, (bool, int, float)):
            raise _wrong(place, value, f"write {self.rule}, in quotes")
        if not isinstance(value, str):
            raise _wrong(place, value, f"write {self.rule}")
        if "\0" in value:  # no path, argument or variable of a process can have one
            raise _wrong(place, value, "remove the zero character")
        if not re.fullmatch(self.pattern, value):
            raise _wrong(place, value, f"write {self.rule}")
        if value in self.reserved:
            raise _wrong(place, value, self.reserved[value])
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^(?:{self.pattern})$"}


@dataclass(frozen=True)
class OneOf:
    """One of a few texts; `later` are known, but refused with their sentence."""

    options: tuple[str, ...]
    later: Mapping[str, str] = field(default_factory=dict[str, str])

    def read(self, value: object, place: str) -> str:
        if isinstance(value, str):
            if value in self.options:
                return value
            if value in self.later:
                raise Wrong([f"{place}: {value} is known, but not available yet; {self.later[value]}"])
        raise _wrong(place, value, f"write {listed(self.options)}")

    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.options)}


@dataclass(frozen=True)
class Flag:
    """true or false."""

    def read(self, value: object, place: str) -> bool:
        if isinstance(value, bool):
            return value
        raise _wrong(place, value, "write true or false, without quotes")

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@dataclass(frozen=True)
class Whole:
    """A whole number in [low, high]."""

    low: int
    high: int = INT_LIMIT

    def read(self, value: object, place: str) -> int:
        least = f"a whole number of at least {self.low}"
        if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
            raise _wrong(place, value, f"write {int(value)}, a whole number")
        if isinstance(value, bool) or not isinstance(value, int):
            rule = "a whole number" if self.low < 0 else least
            raise _wrong(place, value, f"write {rule}{_unquoted(value)}")
        if value < self.low:
            raise _wrong(place, value, f"write {least}")
        if value > self.high:
            raise _wrong(place, value, f"write a whole number of at most {self.high}")
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True)
class Real:
    """A finite number of at least low."""

    low: float | None = None

    def read(self, value: object, place: str) -> float:
        rule = "a number" if self.low is None else f"a number of at least {self.low:g}"
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _wrong(place, value, f"write {rule}{_unquoted(value)}")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise _wrong(place, value, "write a finite number")
        if self.low is not None and number < self.low:
            raise _wrong(place, value, f"write {rule}")
        return number

    def schema(self) -> dict[str, Any]:
        return {"type": "number"} if self.low is None else {"type": "number", "minimum": self.low}


def _unquoted(value: object) -> str:
    return ", in digits and without quotes" if isinstance(value, str) else ""


@dataclass(frozen=True)
class Size:
    """A number of bytes with its unit, kept as written. A bare number says too little: 16 of what?"""

    def read(self, value: object, place: str) -> str | int:
        if isinstance(value, str) and re.fullmatch(units.SIZE, value):
            return value
        if value == 0 and isinstance(value, int) and not isinstance(value, bool):
            return 0
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= INT_LIMIT:
            raise _wrong(
                place, value, f"add a unit, {value}GB (powers of 1000) or {value}GiB (powers of 1024)"
            )
        raise _wrong(place, value, "write a size such as 16GB (powers of 1000) or 24GiB (powers of 1024)")

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [{"type": "string", "pattern": f"^(?:{units.SIZE})$"}, {"const": 0}]}


@dataclass(frozen=True)
class Duration:
    """A time of more than 0 seconds, kept as written; a number counts seconds."""

    def read(self, value: object, place: str) -> str | float:
        if isinstance(value, str) and re.fullmatch(units.DURATION, value) and units.duration_s(value) > 0:
            return value
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= 10**12:
            return value
        raise _wrong(
            place, value, "write a time of more than 0 such as 2h, 1h30m or 90s; a number counts seconds"
        )

    def schema(self) -> dict[str, Any]:
        text = {"type": "string", "pattern": f"^(?:{units.DURATION})$"}
        return {"anyOf": [text, {"type": "number", "exclusiveMinimum": 0}]}


@dataclass(frozen=True)
class Json:
    """Any value that JSON can carry and give back unchanged."""

    def read(self, value: object, place: str) -> Any:
        try:
            problems = _not_json(value, place)
        except RecursionError:
            problems = [f"{place}: is nested too deeply; write a flatter value"]
        if problems:
            raise Wrong(problems)
        return value

    def schema(self) -> dict[str, Any]:
        return {}


def _not_json(value: object, place: str) -> list[str]:
    if isinstance(value, float) and not math.isfinite(value):
        return [f"{place}: is {value}; write a finite number, or the text {str(value)!r} in quotes"]
    if isinstance(value, int) and not -INT_LIMIT <= value <= INT_LIMIT:
        return [f"{place}: is {found(value)}; write a smaller one, or put it in quotes"]
    if isinstance(value, list):
        items = enumerate(cast("list[object]", value))
        return [line for i, item in items for line in _not_json(item, f"{place}[{i}]")]
    if isinstance(value, dict):
        mapping = cast("dict[object, object]", value)
        strange = [k for k in mapping if not isinstance(k, str)]
        if strange:
            return [f"{place}: has the key {strange[0]!r}; write keys as text, in quotes"]
        return [line for k, item in mapping.items() for line in _not_json(item, f"{place}.{k}")]
    if value is None or isinstance(value, (str, bool, int, float)):
        return []
    return [f"{place}: is of type {type(value).__name__}; write a JSON value"]


@dataclass(frozen=True)
class ListOf:
    """A list of at least one item; `example` completes "write a list such as ..."."""

    item: Kind
    example: str

    def read(self, value: object, place: str) -> list[Any]:
        if not isinstance(value, list) or not value:
            empty = " of at least one item" if value == [] else ""
            raise _wrong(place, value, f"write a list{empty} such as {self.example}")
        read, problems = _read_each(
            {f"{place}[{i}]": item for i, item in enumerate(cast("list[object]", value))}, self.item
        )
        if problems:
            raise Wrong(problems)
        return list(read.values())

    def schema(self) -> dict[str, Any]:
        return {"type": "array", "minItems": 1, "items": self.item.schema()}


@dataclass(frozen=True)
class MapOf:
    """A mapping whose keys its author chooses; `example` completes "write a mapping such as ..."."""

    key: Text
    item: Kind
    example: str

    def read(self, value: object, place: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _wrong(place, value, f"write a mapping such as {self.example}")
        mapping = cast("dict[object, object]", value)
        problems: list[str] = []
        for key in mapping:
            try:
                self.key.read(key, join(place, str(key)))
            except Wrong as wrong:
                problems += wrong.problems
        read, more = _read_each({join(place, str(key)): item for key, item in mapping.items()}, self.item)
        if problems or more:
            raise Wrong(problems + more)
        return dict(zip(cast("dict[str, object]", mapping), read.values(), strict=True))

    def schema(self) -> dict[str, Any]:
        return {
            "type": "object",
            "propertyNames": self.key.schema(),
            "additionalProperties": self.item.schema(),
        }


def _read_each(items: Mapping[str, object], kind: Kind) -> tuple[dict[str, Any], list[str]]:
    """Read the items, which are keyed by their places."""
    read: dict[str, Any] = {}
    problems: list[str] = []
    for place, item in items.items():
        try:
            read[place] = kind.read(item, place)
        except Wrong as wrong:
            problems += wrong.problems
    return read, problems


@dataclass(frozen=True)
class Word:
    """A word of a section. `missing` completes "... is missing; " and makes the word obligatory."""

    kind: Kind
    about: str
    missing: str = ""
    default: object = None  #: told to editors; the struct that is built knows it by itself
    kept: bool = True  #: whether what was read is given to `build`


@dataclass(frozen=True)
class Section(Generic[T]):
    """A mapping of known words.

    `build` makes its value of the words that were written; a word that is left empty (`seed:`)
    is as good as absent. `check` returns the problems of a value that was built. `later`: words
    that are known, but refused with their sentence. `rules`: what JSON Schema can say of `check`.
    """

    words: Mapping[str, Word]
    build: Callable[..., T]
    example: str
    later: Mapping[str, str] = field(default_factory=dict[str, str])
    check: Callable[[T, str], list[str]] = lambda _value, _place: []
    rules: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def read(self, value: object, place: str) -> T:
        read, problems = self.read_words(value, place)
        if not problems:
            built = self.build(**read)
            problems = self.check(built, place)
            if not problems:
                return built
        raise Wrong(problems)

    def read_words(self, value: object, place: str) -> tuple[dict[str, Any], list[str]]:
        """Return what could be read, and the problems of the rest.

        Raises :class:`Wrong` if *value* is no mapping.
        """
        if not isinstance(value, dict):
            raise _wrong(place or "the study", value, f"write a mapping such as {self.example}")
        mapping = cast("dict[object, object]", value)
        read: dict[str, Any] = {}
        problems: list[str] = []
        for name, word in self.words.items():
            if mapping.get(name) is None:
                if word.missing:
                    problems.append(f"{join(place, name)}: is missing; {word.missing}")
                continue
            try:
                item = word.kind.read(mapping[name], join(place, name))
            except Wrong as wrong:
                problems += wrong.problems
            else:
                if word.kept:
                    read[name] = item
        problems += [self._refuse(str(key), place) for key in mapping if key not in self.words]
        return read, problems

    def _refuse(self, word: str, place: str) -> str:
        here = join(place, word)
        if word in self.later:
            return f"{here}: is known, but not available yet; {self.later[word]}"
        inside = [join(place, f"{name}.{word}") for name, w in self.words.items() if _knows(w.kind, word)]
        # Either the right word at the wrong level, or a wrong one.
        near = inside[0] if len(inside) == 1 else nearest(word, [*self.words, *self.later])
        meant = f" did you mean {near}?" if near else ""
        return f"{here}: unknown word;{meant} Known here: {', '.join(self.words)}"

    def schema(self) -> dict[str, Any]:
        properties: dict[str, Any] = {}
        for name, word in self.words.items():
            properties[name] = {"description": word.about, **word.kind.schema()}
            if word.default is not None:
                properties[name]["default"] = word.default
        required = [name for name, word in self.words.items() if word.missing]
        return {
            "type": "object",
            "properties": properties,
            **({"required": required} if required else {}),
            "additionalProperties": False,
            **self.rules,
        }


def _knows(kind: Kind, word: str) -> bool:
    return isinstance(kind, Section) and word in cast("Section[Any]", kind).words
