"""The page about study files tells every word, and every default as it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sweepd import spec, strict_yaml
from sweepd.not_yet import NOT_YET

PAGE = (Path(__file__).parents[2] / "docs" / "spec.md").read_text(encoding="utf-8")
ROWS = {
    row[0].strip("*` "): [cell.strip() for cell in row[1:]]
    for row in re.findall(r"^\|([^|]+)\|([^|]+)\|([^|]*)\|$", PAGE, flags=re.MULTILINE)
}


def words(schema: dict[str, Any], place: str = "") -> dict[str, Any]:
    """Return the schema of every word by its place; parameters have a table of their own."""
    found: dict[str, Any] = {}
    for name, inner in schema["properties"].items():
        here = f"{place}.{name}" if place else name
        found[here] = inner
        if "properties" in inner:
            found |= words(inner, here)
        elif "properties" in inner.get("items", {}):
            found |= words(inner["items"], f"{here}[0]")
    return found


def test_the_table_has_exactly_the_words_that_there_are() -> None:
    told = set(ROWS) - {"word", "---"}
    assert told == set(words(spec.json_schema()))


def test_the_defaults_are_right() -> None:
    wrong: dict[str, str] = {}
    for place, schema in words(spec.json_schema()).items():
        default, told = schema.get("default"), ROWS[place][1]
        if default is not None and told != f"`{str(default).lower()}`":
            wrong[place] = told
    assert wrong == {}


def test_the_words_that_are_needed_are() -> None:
    schema = spec.json_schema()
    needed = set(schema["required"]) | {"budget.trials", "objectives[0].metric", "objectives[0].direction"}
    assert {place for place, row in ROWS.items() if row[1] == "needed"} == needed


def test_the_study_on_the_page_is_one() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
    assert spec.parse(strict_yaml.load(text)).scheduler.rungs == (1, 3, 9)


def test_what_is_not_available_yet_is_told() -> None:
    table = PAGE.partition("## Not available yet")[2]
    told = {
        (row[0].strip("` "), word)
        for row in re.findall(r"^\|([^|]+)\|([^|]+)\|$", table, flags=re.MULTILINE)
        for word in re.findall(r"`([^`]+)`", row[1])
    }
    expected: set[tuple[str, str]] = set()
    for key in NOT_YET:
        place, _, value = key.partition("=")
        section, _, word = place.rpartition(".")
        if place == "on_disconnect":
            expected.add(("the file", f"{place}: {value}"))
        elif value:
            expected.add((place, value))
        else:
            expected.add((section.removesuffix(".*") or "the file", word))
    assert told == expected
