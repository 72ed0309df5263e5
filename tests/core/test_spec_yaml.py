"""Study files are YAML 1.2's core schema, and what would surprise is an error with its place."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweepd import strict_yaml
from sweepd.errors import SpecError

SCALARS = {
    # numbers
    "1": 1,
    "+1": 1,
    "-12": -12,
    "010": 10,
    "0o10": 8,
    "0x1F": 31,
    "1e-5": 1e-5,
    "2E+3": 2000.0,
    "1e5": 100000.0,
    ".5": 0.5,
    "1.": 1.0,
    "-.inf": -math.inf,
    ".Inf": math.inf,
    # null, true, false
    "": None,
    "~": None,
    "null": None,
    "true": True,
    "False": False,
    # text
    "1_000": "1_000",
    "on": "on",
    "off": "off",
    "yes": "yes",
    "no": "no",
    "y": "y",
    "12:30": "12:30",
    "2024-01-01": "2024-01-01",
    "2024-01-01T10:00:00Z": "2024-01-01T10:00:00Z",
    "1e5e": "1e5e",
    "0b11": "0b11",
    "+0x1F": "+0x1F",
    "inf": "inf",
    "nan": "nan",
    "=": "=",
    "'1e-5'": "1e-5",
    '"true"': "true",
    "!!str 5": "5",
    "!!float 1": 1.0,
}


@pytest.mark.parametrize(("text", "value"), SCALARS.items())
def test_scalars(text: str, value: object) -> None:
    read = strict_yaml.load(f"a: {text}\n")
    assert read == {"a": value}
    assert isinstance(read, dict)
    assert type(read["a"]) is type(value)


def test_not_a_number_is_a_number() -> None:
    read = strict_yaml.load("[.nan, .NaN]")
    assert isinstance(read, list)
    assert all(math.isnan(item) for item in read)


def test_anchors() -> None:
    assert strict_yaml.load("a: &x [1, 2]\nb: *x\n") == {"a": [1, 2], "b": [1, 2]}


@pytest.mark.parametrize("text", ["", "\n", "# nothing but a comment\n"])
def test_an_empty_document_is_none(text: str) -> None:
    assert strict_yaml.load(text) is None


ERRORS = {
    "a: 1\nb: 2\na: 3\n": "line 3, column 1: the key a is already in line 1; remove one of the two",
    "s:\n  x: 1\n  'x': 1\n": "line 3, column 3: the key x is already in line 2; remove one of the two",
    "<<: {a: 1}": "line 1, column 1: merge keys (<<) are not part of YAML 1.2; write the words out",
    "1: a": "line 1, column 1: the key 1 is not text; put it in quotes",
    "true: a": "line 1, column 1: the key true is not text; put it in quotes",
    "? [1]\n: a": "line 1, column 3: a list or mapping is used as a key; write text before the colon",
    "a: &x [*x]": "line 1, column 4: this value contains itself through an alias; write it out",
    "a: *x": "line 1, column 4: found undefined alias 'x'; "
    "put text that begins with * in quotes, or define the anchor above",
    "a: !!python/object:os.system x": "line 1, column 4: "
    "the tag !!python/object:os.system is not allowed; remove it",
    "a: !mine [1]": "line 1, column 4: the tag !mine is not allowed; remove it",
    "a: !!binary aGk=": "line 1, column 4: the tag !!binary is not allowed; remove it",
    "a: !!int five": "line 1, column 4: 'five' is no int; remove the tag",
    "a: 1e999": "line 1, column 4: 1e999 is too large for a number; the largest is about 1.8e308",
    f"a: {'9' * 1001}": "line 1, column 4: a whole number of 1001 digits; put it in quotes if it is text",
    'a: "\\ud800"': "line 1, column 4: half of a surrogate pair; write the character itself",
    "a:\n\tb: 1": "line 2, column 1: found character '\\t' that cannot start any token; "
    "indent with spaces, not with tabs",
    "a: 1\nb: \x07": "line 2, column 4: the character U+0007 is not allowed; remove it",
    "a: 1\n---\nb: 2": "line 2, column 1: but found another document; write one study in a file",
    "a: b: c": "line 1, column 5: mapping values are not allowed here; "
    "put text that has a colon in quotes, or mend the indentation",
    "a: [1, 2": "line 1, column 9: expected ',' or ']', but got '<stream end>'; "
    "separate the items by commas, and close the list with ]",
    "a: 'x": "line 1, column 6: found unexpected end of stream; close the quotes",
    "a: @x": "line 1, column 4: found character '@' that cannot start any token; put the text in quotes",
    "- a\nb: c": "line 2, column 1: expected <block end>, but found '?'; mend the indentation",
    "a: -": "line 1, column 4: sequence entries are not allowed here",
    "%YAML 9.0\n--- a": "line 1, column 1: found incompatible YAML document (version 1.* is required)",
    "[" * 5000: "line 1, column 1: lists and mappings are nested too deeply; write a flatter file",
}


@pytest.mark.parametrize(("text", "problem"), ERRORS.items(), ids=lambda text: text[:20])
def test_errors_name_line_and_column(text: str, problem: str) -> None:
    with pytest.raises(SpecError) as caught:
        strict_yaml.load(text, "study.yaml")
    assert caught.value.problems == [problem]
    assert str(caught.value).startswith("study.yaml: 1 error\n")


def test_all_duplicates_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        strict_yaml.load("a: 1\na: 2\nb: {c: 1, c: 2}\n")
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "line 2, column 1",
        "line 3, column 11",
    ]


def test_aliases_cannot_fill_the_memory() -> None:
    layers = "\n".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]" for i in range(1, 12))
    with pytest.raises(SpecError, match="aliases counted each time") as caught:
        strict_yaml.load(f"l0: &l0 [1]\n{layers}\n")
    assert len(caught.value.problems) == 1


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(min_codepoint=32, max_codepoint=126)),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(min_codepoint=32, max_codepoint=126)), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(JSON)
def test_json_is_yaml(value: object) -> None:
    text = msgspec.json.encode(value).decode()
    again = strict_yaml.load(text)
    assert msgspec.json.encode(again) == msgspec.json.encode(value)
