"""Messages of the log that nobody can read: made by a QoS 1 publish to a topic of more than 64 KiB as a subject.

nats-server 2.15 keeps the length of a subject in 16 bits. Such a message is stored and acknowledged, and readers pass over it; but
where the server has to read its files anew after a crash, it drops all that stands behind it in the same file. The server writes a
file anew, without its head, when it is larger than 2 MiB and most of it has been trimmed. So it is made that large.
"""

from skerry.broker.jetstream import api
from skerry.broker.reader import LOG
from skerry.broker.streams import FILLER
from skerry.broker.wire import WireClient

RECLAIMED = 2 * 1024 * 1024
ROOM = 512 * 1024


async def push_out(client: WireClient, sequence: int) -> bool:
    """Let the next trims rid the log of a message that did not come, if it is there and not merely trimmed; answers whether it is.

    Raises `UnavailableError`, `RejectedError`."""
    info = await api(client, f"STREAM.INFO.{LOG}", {"deleted_details": True})
    state, longest = info["state"], int(info["config"]["max_msg_size"])
    if not int(state["first_seq"]) <= sequence <= int(state["last_seq"]) or sequence in (state.get("deleted") or ()):
        return False
    piece = bytes(min(ROOM, longest) if longest > 0 else ROOM)
    for _ in range(RECLAIMED // len(piece) + 1):
        await client.request(FILLER, piece)
    return True
