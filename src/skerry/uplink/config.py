"""`[uplink]`: the link to the centre, what goes over it, and what never does."""

import math
import re
from typing import Literal

import msgspec

from skerry.core.errors import ConfigError
from skerry.core.units import at_key, parse_duration, parse_rate, parse_size
from skerry.pipeline import Level, check_levels

FIELD = re.compile(r"[^\s\0]{1,256}")
FIXED = ("time", "pipeline", "start", "end", "site", "node")
"""What an envelope cannot do without: who sent what kind of thing, and when. (An event's own `node` can be withheld.)"""
SCHEMES = {"mqtt": ("mqtt", "mqtts", "ws", "wss"), "http": ("http", "https"), "nats": ("nats", "tls"), "file": ()}
"""What `url` begins with; of the kind file it is a directory."""
How = Literal["drop", "hash", "round", "generalise"]


class RedactRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How fields are kept from leaving as they are: `{ field = "gps.*", how = "round", to = 0.1 }`.

    Attributes:
        field: a field's path, or a pattern with `*` and `?`; `key` is the device.
        how: drop (it does not leave), hash (HMAC-SHA256 with the site's key), round (numbers, to the nearest multiple of `to`),
            generalise (numbers: the lower end of the class of width `to`; text: the class that `into` names).
        to: for numbers. into: for text, patterns and what stands for them; what fits none is dropped.
    """

    field: str
    how: How = "drop"
    to: float = 0.0
    into: dict[str, str] = {}

    def __post_init__(self) -> None:
        check_field(self.field, "redact.field")
        if self.to and not 0 < self.to < math.inf:
            raise ConfigError(f"{self.to} is no width", where="redact.to", allowed="a number above 0")
        if self.how == "round" and not self.to:
            raise ConfigError("say what to round to", where="redact.to", allowed="a number above 0, such as 0.1")
        if self.how == "generalise" and not self.to and not self.into:
            raise ConfigError("say what stands in its place", where="redact.into", allowed='to = 10.0, or into = {"a*" = "A"}')
        if (self.to and self.how in ("drop", "hash")) or (self.into and self.how != "generalise"):
            raise ConfigError(f"{self.how} takes no such key", where=f"redact.{'to' if self.to else 'into'}", mend="leave it out")


class BatchSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When an envelope is closed: with so many messages or bytes, or after so long.

    Attributes:
        alarms: an alarm leaves at once; those that come so soon after it leave together when this is over.
    """

    messages: int = 1000
    bytes: str = "256KiB"
    delay: str = "5s"
    alarms: str = "1s"

    def __post_init__(self) -> None:
        if not 1 <= self.messages <= 10_000:
            raise ConfigError(f"{self.messages} is out of range", where="messages", allowed="1 to 10000")
        if not 1024 <= at_key("bytes", parse_size, self.bytes) <= 1024 * 1024:
            raise ConfigError(f"{self.bytes} is out of range", where="bytes", allowed="1KiB to 1MiB")
        if not 10_000 <= at_key("delay", parse_duration, self.delay) <= parse_duration("1d"):
            raise ConfigError(f"{self.delay} is out of range", where="delay", allowed="10ms to 1d")
        if not 0 <= at_key("alarms", parse_duration, self.alarms) <= parse_duration("1h"):
            raise ConfigError(f"{self.alarms} is out of range", where="alarms", allowed="0s to 1h")


class QueueSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much waits for the link."""

    size: str = "256MiB"

    def __post_init__(self) -> None:
        if at_key("size", parse_size, self.size) < parse_size("4MiB"):
            raise ConfigError(f"{self.size} is too small", where="size", allowed="4MiB or more")


class CommandsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Commands from the centre: the file of its public key, and filters of topics that it may send to; none without both."""

    key: str = ""
    allow: tuple[str, ...] = ()


class UplinkConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[uplink]`: enabled by `url`. `select` counts for pipelines whose sink says nothing else; `redact` and `allow` for all."""

    kind: Literal["mqtt", "http", "nats", "file"] = "mqtt"
    url: str = ""
    topic: str = ""
    credentials: str = ""
    ca: str = ""
    batch: BatchSection = BatchSection()
    compression: Literal["none", "zstd"] = "zstd"
    select: tuple[Level, ...] = ("event", "1m")
    redact: tuple[str | RedactRule, ...] = ()
    allow: tuple[str, ...] | None = None
    rate: str = ""
    queue: QueueSection = QueueSection()
    receive: bool = False
    commands: CommandsSection = CommandsSection()

    def __post_init__(self) -> None:
        schemes = SCHEMES[self.kind]
        if self.url and schemes and not self.url.startswith(tuple(f"{scheme}://" for scheme in schemes)):
            shown = self.url.rpartition("@")[2]  # without a password
            allowed = " or ".join(f"{scheme}://host:port" for scheme in schemes)
            raise ConfigError(f"{shown!r} is not of the kind {self.kind}", where="url", allowed=allowed)
        if self.commands.allow and not self.commands.key:
            raise ConfigError("say who may command", where="commands.key", mend="name the file with the centre's public key (PEM)")
        check_levels(self.select)
        if self.rate:
            at_key("rate", parse_rate, self.rate)
        for at, rule in enumerate(self.redact):
            check_field(rule if isinstance(rule, str) else rule.field, f"redact[{at}]")
        for at, field in enumerate(self.allow or ()):
            check_field(field, f"allow[{at}]", fixed=())

    @property
    def scheme(self) -> str:
        """What `url` begins with; of a directory nothing."""
        return self.url.partition("://")[0] if SCHEMES[self.kind] else ""

    @property
    def in_clear(self) -> bool:
        """Whether the link leaves this machine without TLS."""
        host = self.url.partition("://")[2].rpartition("@")[2]
        here = host.startswith(("127.", "localhost", "[::1]"))
        return bool(self.url) and self.scheme in ("mqtt", "ws", "http", "nats") and not here

    def rules(self) -> tuple[RedactRule, ...]:
        """The rules; a field alone is dropped."""
        return tuple(RedactRule(rule) if isinstance(rule, str) else rule for rule in self.redact)


def check_field(field: str, where: str, fixed: tuple[str, ...] = FIXED) -> None:
    """Raises `ConfigError` for what is no path of a field, or one that cannot be withheld."""
    if not FIELD.fullmatch(field):
        raise ConfigError(f"{field!r} is no field", where=where, allowed='a path such as "gps.lat" or "gps.*"')
    if field in fixed and field != "node":
        raise ConfigError(
            f"{field!r} cannot be withheld: the centre could not tell what it got",
            where=where,
            mend="name the site or pipeline otherwise",
        )
