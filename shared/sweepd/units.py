"""Amounts with a unit, as people write them: `16GB`, `24GiB`, `90s`, `1h30m`.

The standard library only.
"""

from __future__ import annotations

import re
from fractions import Fraction

MIB = 1024**2

_BYTES = {
    "b": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "tb": 1000**4,
    "kib": 1024,
    "mib": 1024**2,
    "gib": 1024**3,
    "tib": 1024**4,
}
_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}

_AMOUNT = r"[0-9]{1,12}(?:\.[0-9]{1,6})?"
SIZE = rf"{_AMOUNT} ?(?:[bB]|[kKmMgGtT][iI]?[bB])"
DURATION = rf"(?=.)(?:{_AMOUNT}d)?(?:{_AMOUNT}h)?(?:{_AMOUNT}m)?(?:{_AMOUNT}s)?"


def size_mib(text: str) -> int:
    """Return *text* ("16GB" is decimal, "16GiB" binary; any case) in MiB, rounded up.

    Raises ValueError for text that is no size.
    """
    if not re.fullmatch(SIZE, text):
        raise ValueError(f"{text!r} is no size such as 16GB or 24GiB")
    number, unit = re.findall(r"[0-9.]+|[a-z]+", text.lower())
    return -(-Fraction(number) * _BYTES[unit] // MIB)


def duration_s(text: str) -> float:
    """Return *text* ("2h", "1h30m", "90s", "1.5d") in seconds.

    Raises ValueError for text that is no duration.
    """
    if not re.fullmatch(DURATION, text):
        raise ValueError(f"{text!r} is no duration such as 2h, 1h30m or 90s")
    return float(
        sum(Fraction(number) * _SECONDS[unit] for number, unit in re.findall(r"([0-9.]+)([dhms])", text))
    )
