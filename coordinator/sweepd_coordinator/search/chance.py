"""Chance as a function: the same (seed, trial number, parameter) gives the same bits for ever.

The bits are a BLAKE2b digest of the three, not the state of a generator. So they depend neither
on the order of the questions nor on Python's version or hash seed, and a parameter that is
added to a space moves none of the others.
"""

from __future__ import annotations

from hashlib import blake2b

BITS = 128  #: how many :func:`bits` returns: enough to divide into any range of whole numbers evenly


def bits(seed: int, number: int, name: str) -> int:
    """Return the bits of parameter *name* of trial *number*, in [0, 2**BITS)."""
    return int.from_bytes(blake2b(f"{seed}:{number}:{name}".encode(), digest_size=BITS // 8).digest(), "big")


def unit(drawn: int) -> float:
    """Return *drawn* as a fraction in [0, 1), a multiple of 2**-53."""
    return (drawn >> (BITS - 53)) * 2.0**-53


def below(drawn: int, count: int) -> int:
    """Return *drawn* as a whole number in [0, count)."""
    return drawn * count >> BITS


def numpy_seed(seed: int, number: int, name: str | None = None) -> int:
    """Return a 32-bit seed for a generator that suggests trial *number*, or one parameter of it."""
    key = f"{seed}:{number}" if name is None else f"{seed}:{number}:{name}"
    return int.from_bytes(blake2b(key.encode(), digest_size=4).digest(), "big")
