"""The readings of this computer as a device of the demo: their names, on the wire and in words. Pure."""

from collections.abc import Mapping

from skerry.demo.faults import NORMAL

COMPUTER = "this-computer"
COMPUTER_VALUES: tuple[str, ...] = ("cpu", "memory", "disk", "network")
COMPUTER_UNITS: dict[str, str] = {"cpu": "%", "memory": "%", "disk": "MiB/s", "network": "MiB/s"}
COMPUTER_FEATURES: tuple[str, ...] = ("mean", "std", "min", "max", "slope", "last")
OVERLOAD = "overload"
COMPUTER_LABELS: tuple[str, ...] = (NORMAL, OVERLOAD)


def sensors_topic(device: str) -> str:
    """Where a pump publishes."""
    return f"devices/{device}/sensors"


def readings_topic(device: str = COMPUTER) -> str:
    """Where a computer publishes."""
    return f"devices/{device}/readings"


def message(ts_us: int, values: Mapping[str, float]) -> dict[str, float]:
    """The JSON object of one reading: `ts` in Unix seconds (to the microsecond), values rounded to three decimals."""
    return {"ts": ts_us / 1e6, **{name: round(value, 3) for name, value in values.items()}}


def in_words(values: Mapping[str, float]) -> str:
    """`cpu 12 % · memory 40 % · disk 0.2 MiB/s · network 0.0 MiB/s`."""
    shown = (f"{name} {values[name]:.{0 if unit == '%' else 1}f} {unit}" for name, unit in COMPUTER_UNITS.items() if name in values)
    return " · ".join(shown)
