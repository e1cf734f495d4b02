"""Values with units, as the configuration writes them: `"64MiB"`, `"5s"`, `"256KiB/s"`."""

import re
from collections.abc import Callable

from skerry.core.errors import ConfigError

_DURATIONS = {
    "us": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000,
    "w": 604_800_000_000, "y": 31_557_600_000_000,
}  # fmt: skip
_SIZES = {
    "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip
_MOST = 2.0**63 - 1024
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-zµ]+)")


def _parse(text: str, units: dict[str, int], what: str) -> int:
    match = _QUANTITY.fullmatch(text.strip())
    if match is None or match[2] not in units:
        raise ConfigError(f"{text!r} is not a {what}", allowed=f"a number and one of {', '.join(units)}")
    number = float(match[1]) * units[match[2]]
    if number > _MOST:
        raise ConfigError(f"{text!r} is too large a {what}")
    return round(number)


def parse_duration(text: str) -> int:
    """Microseconds of `"500ms"`, `"5s"`, `"2m"`, `"24h"`, `"7d"`. Raises `ConfigError`."""
    return _parse(text, _DURATIONS, "duration")


def parse_signed_duration(text: str) -> int:
    """As `parse_duration`, with a leading `-` or `+` allowed."""
    text = text.strip()
    return -parse_duration(text[1:]) if text.startswith("-") else parse_duration(text.removeprefix("+"))


def parse_size(text: str) -> int:
    """Bytes of `"64MiB"`, `"1GB"`, `"512B"`. Raises `ConfigError`."""
    return _parse(text, _SIZES, "size")


def parse_rate(text: str) -> int:
    """Bytes per second of `"256KiB/s"`. Raises `ConfigError`."""
    if not text.strip().endswith("/s"):
        raise ConfigError(f"{text!r} is not a rate", allowed="a size per second, such as 256KiB/s")
    return _parse(text.strip().removesuffix("/s"), _SIZES, "rate")


def at_key(key: str, parse: Callable[[str], int], text: str) -> int:
    """What `parse` makes of a text; its error names the key."""
    try:
        return parse(text)
    except ConfigError as error:
        raise error.at(key) from error


def show_size(size: float) -> str:
    """`1.5 MiB`, for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def counted(number: object, noun: str) -> str:
    """`1 message`, `2,000 messages`; a dash for what is no number."""
    if not isinstance(number, int | float):
        return f"- {noun}s"
    plural = "" if number == 1 or noun.endswith("series") else "s"
    return f"{number:,.0f} {noun}{plural}"


def show_duration(microseconds: float) -> str:
    """`1.2 s`, `340 ms`, `2 h 5 m`, for people."""
    seconds = microseconds / 1e6
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, hours = divmod(round(seconds / 60), 60)[::-1]
    return f"{minutes} m" if not hours else f"{hours} h {minutes} m"
