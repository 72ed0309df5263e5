"""Sizes and durations with their units."""

from __future__ import annotations

import pytest

from sweepd import units


@pytest.mark.parametrize(
    ("text", "mib"),
    [
        ("1MiB", 1),
        ("24GiB", 24 * 1024),
        ("2TiB", 2 * 1024**2),
        ("16GB", 15259),  # 15258.8, rounded up: what was asked for fits
        ("16 gb", 15259),
        ("1.5GiB", 1536),
        ("1B", 1),
        ("0MB", 0),
    ],
)
def test_sizes(text: str, mib: int) -> None:
    assert units.size_mib(text) == mib


@pytest.mark.parametrize(
    "text", ["", "16", "GB", "16G", "16Gi", "-1GB", "1e3MB", "16GB ", "1_0GB", "16 GB RAM"]
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is no size such as 16GB or 24GiB"):
        units.size_mib(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("0.5s", 0.5),
        ("2h", 7200),
        ("1h30m", 5400),
        ("1d12h30m15s", 131415),
        ("1.5d", 129600),
        ("0s", 0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert units.duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "30m1h", "1h1h", "2 h", "-1s", "12:30", "1min"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration such as 2h, 1h30m or 90s"):
        units.duration_s(text)
