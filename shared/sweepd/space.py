"""The search space: kinds of parameter, what they allow, and how they are read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Union, cast

import msgspec

from sweepd.errors import SpecError
from sweepd.not_yet import words_of
from sweepd.words import (
    Flag,
    Json,
    Kind,
    ListOf,
    MapOf,
    OneOf,
    Real,
    Section,
    Text,
    Whole,
    Word,
    Wrong,
    found,
    join,
    listed,
    nearest,
)

#: Names of parameters: they stand in `{name}` of a command and in `--name=value`, and a dot in
#: them leads to an attribute of a NeMo recipe.
NAME = r"[A-Za-z_][A-Za-z0-9_.-]{0,199}"

#: Bounds beyond this are not exact as a float, which is what samplers compute with.
WHOLE_LIMIT = 2**53


class Float(msgspec.Struct, frozen=True, tag="float", forbid_unknown_fields=True, omit_defaults=True):
    """A real number in [low, high]; `step` makes it low, low + step, ..., high."""

    low: float
    high: float
    log: bool = False
    step: float | None = None


class Int(msgspec.Struct, frozen=True, tag="int", forbid_unknown_fields=True, omit_defaults=True):
    """A whole number in [low, high]; `step` makes it low, low + step, ..., high."""

    low: int
    high: int
    log: bool = False
    step: int = 1


class Categorical(
    msgspec.Struct, frozen=True, tag="categorical", forbid_unknown_fields=True, omit_defaults=True
):
    """One of `choices`, any JSON values; told apart by value and type, so [1, true, 1.0] are three."""

    choices: list[Any]


Parameter = Union[Float, Int, Categorical]


def check(parameter: Parameter, path: str) -> list[str]:
    """Return what is wrong with *parameter*, one line each; *path* is its place, as `space.lr`."""
    if isinstance(parameter, Categorical):
        return _check_choices(parameter.choices, path)
    problems = _check_bounds(parameter, path)
    step = _step(parameter)
    if not problems and step is not None:
        problems = _check_step(parameter.low, parameter.high, step, path)
    return problems


def contains(parameter: Parameter, value: object) -> bool:
    """Return whether *value* is one that *parameter* allows, by its type too: true is no 1."""
    if isinstance(parameter, Categorical):
        try:
            wanted = identity(value)
        except (TypeError, ValueError):
            return False
        return any(identity(choice) == wanted for choice in parameter.choices)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    if not parameter.low <= value <= parameter.high:
        return False
    if isinstance(parameter, Int):
        return isinstance(value, int) and (value - parameter.low) % parameter.step == 0
    if parameter.step is None:
        return True
    # Samplers compute low + k * step, or round to it: the last digits may differ.
    steps = (value - parameter.low) / parameter.step
    return abs(steps - round(steps)) < 1e-8 * max(1.0, abs(steps))


def from_distribution(data: object, path: str) -> Parameter:
    """Return the parameter that *data* describes with the words of a spec, as in SuggestParameter.

    Raises SpecError with all problems.
    """
    try:
        return PARAMETER.read(data, path)
    except Wrong as wrong:
        raise SpecError(wrong.problems) from None


# --- checks ---------------------------------------------------------------------------------


def _step(parameter: Float | Int) -> float | None:
    """Return the step that somebody asked for."""
    return None if isinstance(parameter, Int) and parameter.step == 1 else parameter.step


def _check_bounds(parameter: Float | Int, path: str) -> list[str]:
    low, high = parameter.low, parameter.high
    if isinstance(parameter, Float) and not (math.isfinite(low) and math.isfinite(high)):
        return [f"{path}: reaches from {low} to {high}; write finite bounds"]
    problems: list[str] = []
    if low > high:
        problems.append(f"{path}.low: is {low}, above high ({high}); exchange them")
    elif isinstance(parameter, Float) and not math.isfinite(high - low):
        problems.append(f"{path}.high: high - low is too large for a number; write narrower bounds")
    if parameter.log and low <= 0:
        least = "1 or more" if isinstance(parameter, Int) else "more than 0"
        problems.append(f"{path}.low: is {low}, and log needs {least}; raise low or remove log")
    if parameter.log and _step(parameter) is not None:
        problems.append(f"{path}.step: is {parameter.step}, and log is true; remove one of the two")
    return problems


def _check_step(low: float, high: float, step: float, path: str) -> list[str]:
    if not step > 0 or not math.isfinite(step):
        return [f"{path}.step: is {step}; write a number of more than 0"]
    # As written, in decimals: 1.0 is ten steps of 0.1, although 0.1 as a float is not a tenth.
    start, end, stride = (Fraction(repr(number)) for number in (low, high, step))
    count, rest = divmod(end - start, stride)
    if rest == 0:
        return []
    if count == 0:
        return [f"{path}.step: is {step}, more than high - low ({_plain(end - start)}); write a smaller one"]
    last = _plain(start + count * stride)
    return [f"{path}.step: is {step}, which leads from low to {last} and not to high; write high: {last}"]


def _plain(number: Fraction) -> str:
    return str(number.numerator) if number.denominator == 1 else repr(float(number))


def _check_choices(choices: list[Any], path: str) -> list[str]:
    try:
        ListOf(Json(), "[16, 32, 64]").read(choices, f"{path}.choices")
    except Wrong as wrong:
        return wrong.problems
    seen: dict[str, int] = {}
    problems: list[str] = []
    for i, choice in enumerate(choices):
        first = seen.setdefault(identity(choice), i)
        if first != i:
            problems.append(
                f"{path}.choices[{i}]: is {found(choice)}, as choices[{first}] is; remove one of the two"
            )
    return problems


def identity(value: object) -> str:
    """Return a text that two values share if they are the same JSON: 1, 1.0, true, "1" do not."""
    return json.dumps(value, sort_keys=True)


# --- reading --------------------------------------------------------------------------------

#: What Optuna, Ray Tune and others call the kinds of parameter.
_FOREIGN = {
    "uniform": "float",
    "loguniform": "float with log: true",
    "log_uniform": "float with log: true",
    "integer": "int",
    "randint": "int",
    "int_uniform": "int",
    "choice": "categorical",
}


class _ParameterKind:
    """A parameter; its word `type` says which section it is read as."""

    def __init__(self, sections: Mapping[str, Section[Parameter]]) -> None:
        self.sections = sections

    def read(self, value: object, place: str) -> Parameter:
        if not isinstance(value, dict):
            raise Wrong([f"{place}: is {found(value)}; write {_instead(value)}"])
        mapping = cast("dict[str, object]", value)
        kind = mapping.get("type")
        if kind is None and mapping and all(isinstance(item, dict) for item in mapping.values()):
            flat = join(place, next(iter(mapping))).removeprefix("space.")
            remedy = f"is known, but not available yet; write {flat}: {{...}}"
            raise Wrong([f"{place}: a group of parameters {remedy}"])
        if not isinstance(kind, str) or kind not in self.sections:
            raise Wrong([_unknown_type(kind, place, list(self.sections))])
        return self.sections[kind].read(value, place)

    def schema(self) -> dict[str, Any]:
        return {
            "type": "object",
            "required": ["type"],
            "properties": {"type": {"enum": list(self.sections)}},
            "allOf": [
                {
                    "if": {"properties": {"type": {"const": name}}, "required": ["type"]},
                    "then": section.schema(),
                }
                for name, section in self.sections.items()
            ],
        }


def _instead(value: object) -> str:
    if isinstance(value, list):
        return "{type: categorical, choices: [...]} with these choices"
    return "a mapping such as {type: float, low: 0.1, high: 1}; what does not vary belongs to the task"


def _unknown_type(kind: object, place: str, known: list[str]) -> str:
    if kind is None:
        return f"{place}.type: is missing; write type: {listed(known)}"
    if isinstance(kind, str):
        meant = _FOREIGN.get(kind.casefold()) or nearest(kind, known)
        if meant:
            return f"{place}.type: is {found(kind)}; did you mean {meant}? Write {listed(known)}"
    return f"{place}.type: is {found(kind)}; write {listed(known)}"


def _section(
    build: type[Parameter], about: str, words: Mapping[str, Word], example: str
) -> Section[Parameter]:
    name = str(build.__struct_config__.tag)
    return Section(
        words={"type": Word(OneOf((name,)), about, missing=f"write type: {name}", kept=False), **words},
        build=build,
        check=check,
        later=words_of("space.*"),
        example=example,
    )


_WHOLE = Whole(-WHOLE_LIMIT, WHOLE_LIMIT)
_LOG = Word(Flag(), "Whether orders of magnitude are equally likely; needs low > 0.", default=False)

PARAMETER: Kind = _ParameterKind(
    {
        "float": _section(
            Float,
            "A real number in [low, high].",
            {
                "low": Word(Real(), "The least value.", missing="write the least value"),
                "high": Word(Real(), "The greatest value.", missing="write the greatest value"),
                "log": _LOG,
                "step": Word(Real(), "Only low, low + step, ..., high. Not together with log."),
            },
            "{type: float, low: 1e-5, high: 1e-2, log: true}",
        ),
        "int": _section(
            Int,
            "A whole number in [low, high].",
            {
                "low": Word(_WHOLE, "The least value.", missing="write the least value"),
                "high": Word(_WHOLE, "The greatest value.", missing="write the greatest value"),
                "log": _LOG,
                "step": Word(
                    Whole(1, WHOLE_LIMIT), "Only low, low + step, ..., high. Not with log.", default=1
                ),
            },
            "{type: int, low: 1, high: 5}",
        ),
        "categorical": _section(
            Categorical,
            "One of several values.",
            {
                "choices": Word(
                    ListOf(Json(), "[16, 32, 64]"),
                    "The values, any JSON, told apart by value and type: [1, true, 1.0] are three.",
                    missing="write a list such as [16, 32, 64]",
                )
            },
            "{type: categorical, choices: [16, 32, 64]}",
        ),
    }
)

SPACE: Kind = MapOf(
    key=Text(
        "a name of letters, digits, _, - and . that begins with a letter or _",
        NAME,
        reserved={"args": "in a command {args} means all parameters; write another name"},
    ),
    item=PARAMETER,
    example="{learning_rate: {type: float, low: 1e-5, high: 1e-2, log: true}}",
)
