"""Which topics a device may use, and the subjects that nats-server is told. Pure.

A template is `pub:<topic filter>` or `sub:<topic filter>`; `{device}` stands for the device's id. Subjects follow
nats-server's MQTT rules (`skerry.broker.to_subject`), and `a/#` takes in `a` itself (MQTT 3.1.1, 4.7.1.2).
"""

import re
from collections.abc import Sequence

import msgspec

from skerry.broker import to_subject
from skerry.core.errors import RejectedError

OWN = ("pub:devices/{device}/#", "pub:status/{device}", "sub:commands/{device}/#")
ANONYMOUS = tuple(f"{right}:{root}/#" for right in ("pub", "sub") for root in ("devices", "commands", "events"))
# What the server subscribes to on a client's behalf: deliveries of QoS 1 and 2, and the second half of QoS 2. Clients that
# ask for these topics themselves are refused by the server.
SESSION = ("$MQTT.sub.>", "$MQTT.deliver.pubrel.>")
MOST_TEMPLATES, LONGEST = 32, 256
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_:@-]{0,63}")
# First levels whose subjects are the server's or the node's own.
_RESERVED = re.compile(r"[$_].*|skerry|[+#]", re.DOTALL)


class Permissions(msgspec.Struct, frozen=True):
    """Allowed subjects; what is not listed is refused."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def is_id(device: str) -> bool:
    """Whether the id can stand as one level of a topic, one token of a subject, and a user name."""
    return _ID.fullmatch(device) is not None


def check_id(device: str) -> None:
    """Raise `RejectedError` unless `is_id`, saying what is allowed."""
    if not is_id(device):
        raise RejectedError(
            f"{device[:80]!r} is not a device id", where="device",
            mend="use 1 to 64 of the letters A-Z and a-z, digits, and _ - : @, beginning with a letter, a digit or _",
        )  # fmt: skip


def check_templates(device: str, templates: Sequence[str]) -> None:
    """Raise `RejectedError` naming the first template that will not do for this device, and what would."""
    if len(templates) > MOST_TEMPLATES:
        raise RejectedError(f"{len(templates)} topics are too many", where="topics", mend=f"name at most {MOST_TEMPLATES}")
    for template in templates:
        fault = _fault(template, device)
        if fault:
            raise RejectedError(
                f"{template[:LONGEST]!r}: {fault}", where="topics", mend="write such as pub:alarms/{device}/# or sub:events/#"
            )


def for_device(device: str, templates: Sequence[str] = ()) -> Permissions:
    """Its own topics, and the templates' beside them."""
    return _permissions([template.replace("{device}", device) for template in (*OWN, *templates)])


def for_anonymous() -> Permissions:
    """What a client without a user name may use where `broker.anonymous` is on."""
    return _permissions(ANONYMOUS)


def _permissions(entries: Sequence[str]) -> Permissions:
    publish = [subject for entry in entries if entry.startswith("pub:") for subject in subjects(entry[4:])]
    subscribe = [subject for entry in entries if entry.startswith("sub:") for subject in subjects(entry[4:])]
    return Permissions(tuple(dict.fromkeys(publish)), tuple(dict.fromkeys([*subscribe, *SESSION])))


def subjects(topic_filter: str) -> tuple[str, ...]:
    """The subjects that stand for a topic filter: one, or two where it ends in `/#`."""
    whole = to_subject(topic_filter)
    return (whole, to_subject(topic_filter.removesuffix("/#"))) if topic_filter.endswith("/#") else (whole,)


def _fault(template: str, device: str) -> str:
    right, colon, topic = template.partition(":")
    if not colon or right not in ("pub", "sub"):
        return "it must begin with pub: or sub:"
    if not topic or len(topic.encode("utf-8", "surrogatepass")) > LONGEST:
        return f"a topic has 1 to {LONGEST} bytes"
    bare = topic.replace("{device}", device)
    if "{" in bare or "}" in bare:
        return "the only placeholder is {device}"
    if any(sign.isspace() or not sign.isprintable() for sign in bare):
        return "a topic has no spaces and no control characters"
    levels = bare.split("/")
    if _RESERVED.fullmatch(levels[0]):
        return "the first level must be a name of its own, not a wildcard, not skerry, and not begin with $ or _"
    if "#" in levels[:-1]:
        return "# may only be the last level"
    if any(len(level) > 1 and ("+" in level or "#" in level) for level in levels):
        return "a wildcard fills a whole level"
    if any(sign in bare for sign in "*>"):
        return "* and > are not for topics"
    return ""
