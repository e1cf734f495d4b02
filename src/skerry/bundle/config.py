"""`[bundles]`: whose signatures count on this node, and how a bundle is tried."""

import msgspec

from skerry.core.errors import ConfigError
from skerry.core.units import at_key, parse_duration

MOST_TRUSTED = 32
MOST_KEPT = 50


class BundlesConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom a node takes bundles of, and how long a new one is watched.

    Attributes:
        trusted: files with Ed25519 public keys in PEM, relative to the configuration file; nobody is trusted where there is none.
        probation: how long the node watches a bundle that it was not told a time for, before it keeps it.
        come_up: how long pipelines may take to run after the switch.
        keep: bundles that stay on the node, besides the active one and those that a rollback goes to.
    """

    trusted: tuple[str, ...] = ()
    probation: str = "30s"
    come_up: str = "60s"
    keep: int = 5

    def __post_init__(self) -> None:
        if len(self.trusted) > MOST_TRUSTED:
            raise ConfigError(f"{len(self.trusted)} keys are too many", where="trusted", allowed=f"at most {MOST_TRUSTED}")
        if not 1 <= self.keep <= MOST_KEPT:
            raise ConfigError(f"{self.keep} is out of range", where="keep", allowed=f"1 to {MOST_KEPT}")
        check_probation(at_key("probation", parse_duration, self.probation), "probation")
        if not parse_duration("1s") <= at_key("come_up", parse_duration, self.come_up) <= parse_duration("1h"):
            raise ConfigError(f"{self.come_up} is out of range", where="come_up", allowed="1s to 1h")

    @property
    def probation_us(self) -> int:
        """Microseconds."""
        return parse_duration(self.probation)

    @property
    def come_up_us(self) -> int:
        """Microseconds."""
        return parse_duration(self.come_up)


def check_probation(duration: int, where: str) -> int:
    """The microseconds of a probation. Raises `ConfigError` for a time that none may take."""
    if not parse_duration("1s") <= duration <= parse_duration("7d"):
        raise ConfigError("is out of range", where=where, allowed="1s to 7d")
    return duration
