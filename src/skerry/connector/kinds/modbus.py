"""Modbus TCP: registers of devices, asked from time to time, become one JSON object an answer."""

import math
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from skerry.connector.contract import Batch, Connector, Place
from skerry.connector.mapping import check_template, fill
from skerry.connector.polling import Polled, Value, look, poll
from skerry.core.errors import ConfigError, UnavailableError
from skerry.core.units import at_key, parse_duration

if TYPE_CHECKING:
    from pymodbus.client import AsyncModbusTcpClient

Table = Literal["holding", "input", "coil", "discrete"]
_FORMATS = {
    "int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "int64": "q", "uint64": "Q", "float32": "f", "float64": "d",
}  # fmt: skip
MOST_WORDS, MOST_BITS = 120, 1900
"""In one request; the protocol allows 125 and 2000."""
MOST_DEVICES, MOST_REGISTERS = 250, 1000


class Register(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One value: where it is, what it is, and `value × scale + offset` as it is given on.

    Attributes:
        address: as the protocol has it, from 0 on (40001 of a manual is `holding` 0).
        words: which word of two or four comes first; bytes in a word are as the protocol has them.
    """

    name: str
    address: int
    type: Literal["int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64", "bool"] = "uint16"
    table: Table = "holding"
    scale: float = 1.0
    offset: float = 0.0
    words: Literal["big", "little"] = "big"
    unit: str = ""

    def __post_init__(self) -> None:
        if not self.name or self.name == "ts":
            raise ConfigError(f"{self.name!r} is no name of a value", where="name")
        if not 0 <= self.address <= 65_536 - self.size:
            raise ConfigError(f"{self.address} is out of range", where="address", allowed=f"0 to {65_536 - self.size}")
        if (self.type == "bool") != (self.table in ("coil", "discrete")):
            allowed = "bool for coil and discrete, else numbers"
            raise ConfigError(f"{self.table} holds no {self.type}", where="type", allowed=allowed)
        if not (math.isfinite(self.scale) and math.isfinite(self.offset) and self.scale):
            raise ConfigError("must be a number, and no scale of 0", where="scale")

    @property
    def size(self) -> int:
        """Words (or bits)."""
        return 1 if self.type == "bool" else struct.calcsize(_FORMATS[self.type]) // 2

    def value(self, words: Sequence[int | bool]) -> Value | None:
        """Of its words; None for a float that is not a number."""
        if self.type == "bool":
            return bool(words[0])
        ordered = words if self.words == "big" else words[::-1]
        raw = struct.unpack(f">{_FORMATS[self.type]}", struct.pack(f">{len(ordered)}H", *ordered))[0]
        scaled = raw if (self.scale, self.offset) == (1.0, 0.0) else raw * self.scale + self.offset
        return scaled if math.isfinite(scaled) else None


class Device(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One device. `unit`: behind a gateway, its number there."""

    name: str
    host: str
    port: int = 502
    unit: int = 1

    def __post_init__(self) -> None:
        if not self.name or not self.host:
            raise ConfigError("a device has a name and a host", where="host" if self.name else "name")
        if not 1 <= self.port <= 65_535 or not 0 <= self.unit <= 255:
            raise ConfigError("is out of range", where="port", allowed="port 1 to 65535, unit 0 to 255")


class ModbusSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Devices that have the same registers; `{device}` of `topic` is their name."""

    devices: tuple[Device, ...]
    registers: tuple[Register, ...]
    topic: str = "devices/{device}/registers"
    poll: str = "1s"
    timeout: str = "3s"

    def __post_init__(self) -> None:
        check_template(self.topic, "topic", ("device", "name"))
        for key, few, most in (("devices", self.devices, MOST_DEVICES), ("registers", self.registers, MOST_REGISTERS)):
            if not 1 <= len(few) <= most:
                raise ConfigError(f"{len(few)} are out of range", where=key, allowed=f"1 to {most}")
            names = [each.name for each in few]
            if len(set(names)) < len(names):
                raise ConfigError("a name is there twice", where=key)
        for key, text in (("poll", self.poll), ("timeout", self.timeout)):
            if not 50_000 <= at_key(key, parse_duration, text) <= 3_600_000_000:
                raise ConfigError(f"{text} is out of range", where=key, allowed="50ms to 1h")


def spans(registers: Sequence[Register]) -> list[tuple[Table, int, int, list[Register]]]:
    """What is asked in one request: table, first address, count, and the registers in it; what is not wanted is never read."""
    found: list[tuple[Table, int, int, list[Register]]] = []
    for each in sorted(registers, key=lambda one: (one.table, one.address)):
        most = MOST_BITS if each.type == "bool" else MOST_WORDS
        if found:
            table, begin, count, members = found[-1]
            end = max(begin + count, each.address + each.size)
            if table == each.table and each.address <= begin + count and end - begin <= most:
                members.append(each)
                found[-1] = (table, begin, end - begin, members)
                continue
        found.append((each.table, each.address, each.size, [each]))
    return found


class _Asked:
    """One device over a connection of its own."""

    def __init__(self, device: Device, plan: list[tuple[Table, int, int, list[Register]]], timeout_s: float) -> None:
        self._device = device
        self._plan = plan
        self._timeout = timeout_s
        self._client: AsyncModbusTcpClient | None = None

    async def ask(self) -> Mapping[str, Value]:
        """All registers. Raises `UnavailableError` where it is not there, or refuses."""
        from pymodbus import ModbusException  # late: an extra

        try:
            client = await self._connected()
            found: dict[str, Value] = {}
            for table, begin, count, registers in self._plan:
                words = await self._read(client, table, begin, count)
                for each in registers:
                    value = each.value(words[each.address - begin : each.address - begin + each.size])
                    if value is not None:
                        found[each.name] = value
        except ModbusException as error:
            raise UnavailableError(str(error)) from error
        return found

    async def _connected(self) -> "AsyncModbusTcpClient":
        from pymodbus.client import AsyncModbusTcpClient  # late: an extra

        if self._client is None:
            device = self._device
            self._client = AsyncModbusTcpClient(
                device.host, port=device.port, timeout=self._timeout, retries=0, reconnect_delay=0, name=device.name
            )
            if not await self._client.connect():
                raise UnavailableError(f"{device.host}:{device.port} does not take a connection")
        return self._client

    async def _read(self, client: "AsyncModbusTcpClient", table: Table, begin: int, count: int) -> Sequence[int | bool]:
        reads: dict[Table, Any] = {
            "holding": client.read_holding_registers, "input": client.read_input_registers,
            "coil": client.read_coils, "discrete": client.read_discrete_inputs,
        }  # fmt: skip
        answer = await reads[table](begin, count=count, device_id=self._device.unit)
        if answer.isError():
            raise UnavailableError(f"it refuses {table} {begin} to {begin + count - 1}: {answer}")
        found: Sequence[int | bool] = answer.bits if table in ("coil", "discrete") else answer.registers
        if len(found) < count:
            raise UnavailableError(f"{len(found)} instead of {count} of {table} {begin}")
        return found

    def let_go(self) -> None:
        """Close; the next question connects again."""
        client, self._client = self._client, None
        if client is not None:
            client.close()


class ModbusIn(Connector):
    """Asks each device every `poll`."""

    Settings = ModbusSettings

    def __init__(self, settings: ModbusSettings, place: Place) -> None:
        """Raises `ConfigError` where the extra is missing."""
        super().__init__(settings, place)
        try:
            import pymodbus  # noqa: F401 - whether it is there: late, an extra
        except ImportError as error:
            raise ConfigError("kind modbus needs pymodbus", mend="install it: pip install 'skerry[modbus]'") from error
        self.settings: ModbusSettings = settings
        self._timeout = parse_duration(settings.timeout) / 1e6

    def _devices(self) -> list[Polled]:
        plan = spans(self.settings.registers)
        found = []
        for each in self.settings.devices:
            topic = fill(self.settings.topic, {"device": each.name, "name": self.place.name})
            asked = _Asked(each, plan, self._timeout)
            found.append(Polled(each.name, topic or "", asked.ask, asked.let_go))
        return found

    async def read(self, cursor: bytes) -> AsyncIterator[Batch]:
        """What is not stored when the process ends is asked again: there is nothing to acknowledge to."""
        async for batch in poll(self, self._devices(), parse_duration(self.settings.poll) / 1e6, self._timeout):
            yield batch

    async def test(self) -> str:
        return await look(self._devices(), self._timeout)
