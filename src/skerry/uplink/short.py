"""Numbers and names of an event in few bytes, each number bit for bit. Pure."""

import math

from skerry.core.errors import CorruptError

Number = int | float | None
"""A decimal of up to seven places as an integer, eight times its digits plus its places (3 bytes for 64.53); else as it is."""
Features = dict[str, float | None]
PackedFeatures = tuple[list[str], list[str], list[Number]]
"""Names of values, names of what is computed of each, the numbers value-major; or whole names, none, the numbers."""
LONGEST_NAME = 512
"""Characters of a feature's name; one with more does not leave."""
_PLACES = 8
_MOST = 1 << 50


def short(value: float | None) -> Number:
    """A number as it is written."""
    if value is None or not math.isfinite(value) or (value == 0 and math.copysign(1, value) < 0):
        return value
    for places in range(_PLACES):
        scaled = value * 10.0**places
        if abs(scaled) >= _MOST:
            break
        digits = round(scaled)
        if digits / 10.0**places == value:
            return digits * _PLACES + places
    return value


def long(number: Number) -> float | None:
    """The number that was written. Raises `CorruptError` for none that was."""
    if not isinstance(number, int):
        return number
    digits, places = divmod(number, _PLACES)
    if abs(digits) > _MOST:
        raise CorruptError(f"{number} is no number of an event")
    return digits / 10.0**places


def pack_features(features: Features) -> PackedFeatures:
    """Features as they are written: `x_mean`, `x_std`, `y_mean`, `y_std` as `x`, `y` and `mean`, `std`."""
    features = {name: value for name, value in features.items() if len(name) <= LONGEST_NAME}
    numbers = [short(value) for value in features.values()]
    parts = [name.rpartition("_") for name in features]
    values, kinds = list(dict.fromkeys(part[0] for part in parts)), list(dict.fromkeys(part[2] for part in parts))
    if kinds and _names(values, kinds) == list(features):
        return values, kinds, numbers
    return list(features), [], numbers


def unpack_features(packed: PackedFeatures) -> Features:
    """The features that were written. Raises `CorruptError`."""
    values, kinds, numbers = packed
    longest = max(map(len, values), default=0) + max(map(len, kinds), default=-1) + 1
    if len(values) * (len(kinds) or 1) != len(numbers) or longest > LONGEST_NAME:
        raise CorruptError("an event of the uplink does not have the features that it names")
    return dict(zip(_names(values, kinds), map(long, numbers), strict=True))


def _names(values: list[str], kinds: list[str]) -> list[str]:
    return [f"{value}_{kind}" for value in values for kind in kinds] if kinds else values
