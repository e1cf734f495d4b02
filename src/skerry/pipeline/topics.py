"""MQTT topics, the subjects of the log that stand for them, and keys out of them. Pure."""

import re

from skerry.broker import to_subject, to_topic
from skerry.core.errors import ConfigError

MQTT_PREFIX = "$MQTT.msgs."
QOS0_PREFIX = "skerry.q0."
RETRY_PREFIX = "skerry.retry."
WINDOW_TAIL = "$window"
"""Stands behind the prefix of retries for a window: no topic of a device that a filter matches."""
MAX_SUBJECT = 2048
"""Bytes of a subject that can still be written under a longer one: the server takes lines of 4 KiB."""
MAX_KEY = 256
"""Bytes of a key, since it becomes a token of a subject, thrice as long at most."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_KEY_PART = re.compile(r"\{([^{}]*)\}")
_NO_LEVEL = re.compile(r"[\x00-\x20\x7f+#/]")
_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_:@")


def check_name(name: str, where: str) -> None:
    """Raise `ConfigError` unless the name can stand in a topic, a subject and a file name."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is not a name", where=where, allowed="1 to 64 letters, digits, - and _")


def check_filter(topic: str) -> None:
    """Raise `ConfigError` for what is not an MQTT topic filter (MQTT 3.1.1, 4.7)."""
    levels = topic.split("/")
    for at, level in enumerate(levels):
        if level == "#" and at != len(levels) - 1:
            raise ConfigError(f"{topic!r}: # may only be the last level", where="topic")
        if level not in ("+", "#") and any(mark in level for mark in "+#\0"):
            raise ConfigError(f"{topic!r}: a wildcard fills a whole level", where="topic")
        if level in ("*", ">"):
            raise ConfigError(f"{topic!r}: {level} is no wildcard of MQTT", where="topic", allowed="+ and # as wildcards")
    if not topic or topic.startswith("$") or " " in topic:
        raise ConfigError(f"{topic!r} is not a topic filter", where="topic", allowed="such as devices/+/vibration")


def subjects_of(topic: str) -> list[str]:
    """Subjects on which messages for a topic filter come: `a/#` means `a` as well, `a.>` does not."""
    subject = to_subject(topic)
    return [subject, subject.removesuffix(".>")] if topic.endswith("/#") else [subject]


def topic_of(subject: bytes) -> str:
    """The topic of a message in the log."""
    text = subject.decode()
    if text.startswith(RETRY_PREFIX):
        text = text.removeprefix(RETRY_PREFIX).partition(".")[2]
    else:
        text = text.removeprefix(MQTT_PREFIX).removeprefix(QOS0_PREFIX)
    return to_topic(text)


def filter_matches(topic_filter: str, topic: str) -> bool:
    """Whether an MQTT topic filter matches a topic."""
    wanted, levels = topic_filter.split("/"), topic.split("/")
    for at, level in enumerate(wanted):
        if level == "#":
            return len(levels) >= at
        if at >= len(levels) or level not in ("+", levels[at]):
            return False
    return len(wanted) == len(levels)


def may_match(topic_filter: str, template: str) -> bool:
    """Whether a topic made of a template (`alarms/{device}`) may match a filter; each field is taken as one level."""
    wanted = topic_filter.split("/")
    made = [level if "{" not in level else wanted[min(at, len(wanted) - 1)] for at, level in enumerate(template.split("/"))]
    return filter_matches(topic_filter, "/".join("x" if level in ("+", "#") else level for level in made))


class KeyTemplate:
    """`{2}` or `{1}-{3}`: levels of the topic, 1 the first; `{.field}`: a field of the payload."""

    def __init__(self, template: str, topic: str) -> None:
        self.template = template
        self.fields = [part[1:] for part in _KEY_PART.findall(template) if part.startswith(".")]
        self.levels = [part for part in _KEY_PART.findall(template) if not part.startswith(".")]
        if not all(level.isdecimal() and int(level) > 0 for level in self.levels) or not (self.fields or self.levels):
            raise ConfigError(f"{template!r} is not a key", where="key", allowed="such as {2}, {1}-{3} or {.device}")
        wanted = topic.split("/")
        if wanted[-1] != "#" and any(int(level) > len(wanted) for level in self.levels):
            raise ConfigError(f"{template!r} names a level that {topic!r} does not have", where="key")

    def from_topic(self, topic: str) -> str | None:
        """The key that a topic gives (payload fields left in), or None where a level is missing."""
        levels = topic.split("/")
        if any(int(level) > len(levels) or not levels[int(level) - 1] for level in self.levels):
            return None
        return _KEY_PART.sub(lambda match: str(match[0]) if match[1].startswith(".") else levels[int(match[1]) - 1], self.template)


def key_token(key: str) -> str:
    """A key as one token of a subject: bytes other than letters, digits and `-_:@` as `=XX`."""
    return "".join(chr(byte) if byte in _SAFE else f"={byte:02X}" for byte in key.encode()) or "="


def topic_level(text: str) -> str:
    """A text as one level of a topic to publish on: what a level may not hold, or the server refuses, becomes `_`."""
    return "_" if text in ("*", ">") else _NO_LEVEL.sub("_", text)


def event_topic(pipeline: str, key: str) -> str:
    """MQTT topic of an event."""
    return f"events/{pipeline}/{topic_level(key)}"
