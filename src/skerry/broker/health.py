"""Whether nats-server serves: its health page and its ports, asked over loopback."""

import asyncio
import re

import msgspec

PATIENCE_S = 2.0
_LOST = re.compile(r"JetStream stream '([^']+)' could not be recovered")


class Health(msgspec.Struct, frozen=True):
    """What `/healthz` said.

    Attributes:
        answered: it said something.
        error: why it is not healthy.
    """

    answered: bool = False
    ok: bool = False
    error: str = ""

    @property
    def lost_stream(self) -> str:
        """`ACCOUNT > NAME` of a stream whose files are there and cannot be read. To be believed only once the server listens."""
        match = _LOST.search(self.error)
        return match[1] if match else ""


class _Page(msgspec.Struct):
    status: str = ""
    error: str = ""


def read_page(answer: bytes) -> Health:
    """The health in an HTTP answer, `answered=False` when it is none."""
    try:
        page = msgspec.json.decode(answer.partition(b"\r\n\r\n")[2], type=_Page)
    except msgspec.MsgspecError:
        return Health()
    return Health(True, page.status == "ok", page.error)


async def look(port: int, *, server_only: bool = False) -> Health:
    """Ask for the health page on a loopback port. `server_only`: without streams and consumers, of which there may be thousands."""
    question = "GET /healthz?js-server-only=true" if server_only else "GET /healthz"
    try:
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(f"{question} HTTP/1.0\r\n\r\n".encode())
                answer = await reader.read()
            finally:
                writer.transport.abort()
    except (OSError, TimeoutError):
        return Health()
    return read_page(answer)


async def listens(host: str, port: int) -> bool:
    """True when a TCP connection is accepted there."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.transport.abort()
    return True
