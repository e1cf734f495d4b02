"""What the node itself says to the centre: answers to commands, as events of the pipeline `commands`."""

from functools import cache

from skerry.core.errors import RejectedError
from skerry.pipeline import parse_pipeline
from skerry.uplink.item import Item
from skerry.uplink.notice import encode_event, read_event
from skerry.uplink.redact import Fields, Privacy

PIPELINE = "commands"


@cache
def _fields() -> Fields:
    """Nothing of an answer is a device's: its key is the command's id."""
    spec = parse_pipeline({"name": PIPELINE, "source": {"topic": "node/commands", "values": ["x"]}}, PIPELINE)
    return Fields(spec, Privacy((), None, b""))


def said_item(event: bytes, now: int) -> Item:
    """The item of an event in JSON; it leaves as an alarm does. Raises `RejectedError` for what is none."""
    known = read_event(event)
    if known is None:
        raise RejectedError("what the node says is no event")
    return Item("event", "alarm", known.id, known.pipeline, now, 1, encode_event(known, _fields()))
