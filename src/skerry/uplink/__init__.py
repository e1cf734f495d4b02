"""The uplink: what leaves for the centre, how little of it, what of it never leaves, and the centre's own end."""

from typing import TYPE_CHECKING

from skerry.core.lazy import lazy
from skerry.uplink.config import UplinkConfig

if TYPE_CHECKING:
    from skerry.uplink.commands import Command, Done, Memory, judge, open_command, read_command, sign_command
    from skerry.uplink.credentials import read_credentials
    from skerry.uplink.envelope import MOST_ENVELOPE, Header, digest_of, encode_envelope, read_header
    from skerry.uplink.gather import Gatherer
    from skerry.uplink.item import Item
    from skerry.uplink.key_file import site_key
    from skerry.uplink.library import Uplink
    from skerry.uplink.link import UplinkProcess
    from skerry.uplink.preview import MOST_MESSAGES, Preview, preview_of
    from skerry.uplink.protocol import Assignment, Broker, Report, Tested
    from skerry.uplink.queue import begin_queue
    from skerry.uplink.receive import Receiver, messages_of
    from skerry.uplink.records import Record, decode
    from skerry.uplink.thinning import thin

__getattr__ = lazy(
    __name__,
    {
        "Assignment": "protocol",
        "Broker": "protocol",
        "Command": "commands",
        "Done": "commands",
        "Gatherer": "gather",
        "Header": "envelope",
        "Item": "item",
        "MOST_ENVELOPE": "envelope",
        "MOST_MESSAGES": "preview",
        "Preview": "preview",
        "Memory": "commands",
        "Receiver": "receive",
        "Record": "records",
        "Report": "protocol",
        "Tested": "protocol",
        "Uplink": "library",
        "UplinkProcess": "link",
        "begin_queue": "queue",
        "decode": "records",
        "digest_of": "envelope",
        "encode_envelope": "envelope",
        "preview_of": "preview",
        "judge": "commands",
        "messages_of": "receive",
        "open_command": "commands",
        "read_command": "commands",
        "read_credentials": "credentials",
        "read_header": "envelope",
        "sign_command": "commands",
        "site_key": "key_file",
        "thin": "thinning",
    },
)

__all__ = [
    "MOST_ENVELOPE", "MOST_MESSAGES", "Assignment", "Broker", "Command", "Done", "Gatherer", "Header", "Item", "Memory", "Preview",
    "Receiver",
    "Record", "Report", "Tested", "Uplink", "UplinkConfig", "UplinkProcess", "begin_queue", "decode", "digest_of",
    "encode_envelope", "judge",
    "messages_of", "open_command", "preview_of", "read_command", "read_credentials", "read_header", "sign_command", "site_key",
    "thin",
]  # fmt: skip
