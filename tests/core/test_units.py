"""Values with units: what is read, what is refused, and what people are shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.core.errors import ConfigError
from skerry.core.units import (
    at_key,
    counted,
    parse_duration,
    parse_rate,
    parse_signed_duration,
    parse_size,
    show_duration,
    show_size,
)


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("5us", 5), ("500ms", 500_000), ("1s", 1_000_000), ("1.5s", 1_500_000), ("2m", 120_000_000), ("24h", 86_400_000_000),
        ("7d", 604_800_000_000), ("1w", 604_800_000_000), (" 3 s ", 3_000_000), ("0s", 0), ("0.0000005s", 0), ("0.1s", 100_000),
        ("5y", 157_788_000_000_000),
    ],
)  # fmt: skip
def test_durations(text: str, micros: int) -> None:
    assert parse_duration(text) == micros


@pytest.mark.parametrize(
    ("text", "size"), [("64MiB", 64 << 20), ("1GB", 10**9), ("512B", 512), ("1.5KiB", 1536), ("2 TiB", 2 << 40)]
)
def test_sizes_and_rates(text: str, size: int) -> None:
    assert parse_size(text) == size
    assert parse_rate(f"{text}/s") == size


@pytest.mark.parametrize(
    "text", ["", "5", "s", "-5s", "5 s s", "5S", "1e3s", "5kb", "nan s", "٣s", "5s\n5s", "1.s", ".5s", "9" * 400 + "s"]
)
def test_what_is_no_quantity_is_refused(text: str) -> None:
    for parse in (parse_duration, parse_size, parse_rate):
        with pytest.raises(ConfigError):
            parse(text)


@pytest.mark.parametrize(
    ("parse", "allowed"), [(parse_duration, "us, ms, s, m, h, d"), (parse_size, "KiB, MiB"), (parse_rate, "256KiB/s")]
)
def test_a_refusal_says_what_is_allowed(parse: object, allowed: str) -> None:
    assert callable(parse)
    with pytest.raises(ConfigError, match=f"'lots' is not a .*{allowed}"):
        parse("lots")


def test_a_sign_is_read_where_it_makes_sense() -> None:
    assert [parse_signed_duration(text) for text in ("-1h", "+1s", " -2ms", "3s")] == [-3_600_000_000, 1_000_000, -2000, 3_000_000]


def test_an_error_names_the_key() -> None:
    assert at_key("gap", parse_duration, "1s") == 1_000_000
    with pytest.raises(ConfigError, match=r"^gap: 'soon' is not a duration") as caught:
        at_key("gap", parse_duration, "soon")
    assert caught.value.where == "gap"


@given(st.integers(0, 10**9), st.sampled_from(["us", "ms", "s", "m"]))
def test_whole_numbers_are_exact(number: int, unit: str) -> None:
    assert parse_duration(f"{number}{unit}") == number * {"us": 1, "ms": 1000, "s": 10**6, "m": 6 * 10**7}[unit]


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB"), (3 << 50, "3072.0 TiB")],
)
def test_sizes_for_people(size: float, text: str) -> None:
    assert show_size(size) == text


@pytest.mark.parametrize(
    ("micros", "text"),
    [
        (0, "0 ms"),
        (340_000, "340 ms"),
        (1_200_000, "1.2 s"),
        (119_000_000, "119.0 s"),
        (150_000_000, "2 m"),
        (3_600_000_000, "1 h 0 m"),
        (7_500_000_000, "2 h 5 m"),
    ],
)
def test_durations_for_people(micros: float, text: str) -> None:
    assert show_duration(micros) == text


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [(0, "item", "0 items"), (1, "item", "1 item"), (2000, "message", "2,000 messages"), (1, "series", "1 series"),
     (3, "series", "3 series"), (None, "event", "- events")],
)  # fmt: skip
def test_one_of_a_thing_is_one(number: object, noun: str, text: str) -> None:
    assert counted(number, noun) == text
