"""Topics made of topics on the other side, and of payloads: `{2}` is a level, `{rest}` what `#` is, `{.field}` of it. Pure."""

import re
from collections.abc import Mapping

import msgspec

from skerry.core.errors import ConfigError
from skerry.pipeline import check_filter, filter_matches, topic_level

_PART = re.compile(r"\{([^{}]*)\}")
_FIELD = re.compile(r"\.?[A-Za-z_][A-Za-z0-9_. -]*")


class TopicMap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`{ from = "zigbee2mqtt/+", to = "devices/{2}/state" }`; without `to` the topic stays as it is."""

    source: str = msgspec.field(name="from")
    to: str = ""

    def __post_init__(self) -> None:
        try:
            check_filter(self.source)
        except ConfigError as error:
            raise ConfigError(error.message, where="from", mend=error.mend) from error
        if not self.to:
            return
        levels = self.source.split("/")
        check_template(self.to, "to", ())
        for part in _PART.findall(self.to):
            if part == "rest" and levels[-1] == "#":
                continue
            if not part.isdecimal() or not int(part) >= 1 or (levels[-1] != "#" and int(part) > len(levels)):
                allowed = "{1}, {2} … for levels, {rest} for what # is"
                raise ConfigError(f"{{{part}}} names nothing of {self.source!r}", where="to", allowed=allowed)

    def apply(self, topic: str) -> str | None:
        """The other side's topic; None where this one is not meant, or lacks a level."""
        if not filter_matches(self.source, topic):
            return None
        if not self.to:
            return topic
        levels = topic.split("/")
        fields = {str(at): level for at, level in enumerate(levels, 1)}
        if self.source.endswith("#"):
            fields["rest"] = "/".join(levels[self.source.count("/") :])
        return fill(self.to, fields, split=True)


def check_template(template: str, where: str, known: tuple[str, ...]) -> None:
    """Raises `ConfigError` for what cannot become a topic; with `known`, for other fields (`.x` is of a payload)."""
    plain = _PART.sub("x", template)
    if not plain or any(mark in plain for mark in "{}+# \0") or plain.startswith("$"):
        raise ConfigError(f"{template!r} is no topic", where=where, allowed="such as devices/{2}/state")
    for part in _PART.findall(template) if known else ():
        if part not in known and not (part.startswith(".") and _FIELD.fullmatch(part)):
            raise ConfigError(f"{{{part}}} is not known", where=where, allowed=", ".join(f"{{{each}}}" for each in known))


def fields_of(template: str) -> list[str]:
    """The names between braces."""
    return _PART.findall(template)


def fill(template: str, fields: Mapping[str, str], *, split: bool = False) -> str | None:
    """The topic with its fields put in, each made fit for a topic; None where one is missing or empty.

    Args:
        split: whether a `/` in a field parts levels.
    """
    missing = False

    def put(match: re.Match[str]) -> str:
        nonlocal missing
        value = fields.get(match[1], "")
        missing = missing or not value
        return "/".join(map(topic_level, value.split("/"))) if split else topic_level(value)

    found = _PART.sub(put, template)
    return None if missing else found
