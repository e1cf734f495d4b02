"""Commands from the centre: signed, for one node, valid for a while, carried out once. Pure.

A command is a frame: `SKCM`, version (1 byte), Ed25519 signature (64 bytes) of `skerry-command-v1`, a zero byte and what follows,
then the msgpack array of `Command`. Who holds the private key of `[uplink] commands.key` may command what `commands.allow` names,
and nobody else may, whoever runs the broker in between.
"""

import secrets
from collections.abc import Sequence
from typing import Literal

import msgspec

from skerry.core.errors import ConfigError, RejectedError
from skerry.pipeline import check_filter, filter_matches
from skerry.trust import SigningKey, verify_strict

MAGIC, VERSION = b"SKCM", 1
CONTEXT = b"skerry-command-v1\0"
MOST_COMMAND = 64 * 1024
LONGEST_US = 7 * 86_400_000_000
AHEAD_US = 60_000_000
"""How far a command's beginning may lie ahead of this node's clock."""
MOST_REMEMBERED = 10_000
_SIGNATURE = 64
Outcome = Literal["done", "refused", "failed"]


class Command(msgspec.Struct, frozen=True, array_like=True):
    """A message to publish on a topic of one node, at QoS 1. Times in microseconds."""

    id: str
    site: str
    node: str
    topic: str
    payload: bytes
    issued: int
    expires: int


class Done(msgspec.Struct, frozen=True, array_like=True):
    """What became of a command, kept until it can come no more."""

    expires: int
    outcome: Outcome
    reason: str = ""


def sign_command(
    key: SigningKey, site: str, node: str, topic: str, payload: bytes, issued: int, lasts: int, identity: str = ""
) -> bytes:
    """A signed command, valid for `lasts` microseconds. Raises `RejectedError` for a topic or a time that will not do."""
    check_topic(topic)
    if not 0 < lasts <= LONGEST_US:
        raise RejectedError("a command is valid for at most 7 days", where="expires", mend="such as 10m")
    body = msgspec.msgpack.encode(Command(identity or secrets.token_hex(12), site, node, topic, payload, issued, issued + lasts))
    if len(body) > MOST_COMMAND - 128:
        raise RejectedError(f"a command of {len(body)} bytes; {MOST_COMMAND - 128} are allowed")
    return MAGIC + bytes([VERSION]) + key.sign(CONTEXT + body) + body


def check_topic(topic: str) -> None:
    """Raise `RejectedError` for what is no topic to publish on."""
    try:
        check_filter(topic)
    except ConfigError as error:
        raise RejectedError(error.message, where="topic") from error
    if "+" in topic or "#" in topic or len(topic) > 512:
        raise RejectedError(f"{topic[:80]!r} is no topic to publish on", where="topic")


def open_command(frame: bytes, public: bytes) -> Command:
    """The command of a frame that the holder of the key has signed. Raises `RejectedError`."""
    start = len(MAGIC) + 1
    command = read_command(frame)
    if not verify_strict(public, CONTEXT + frame[start + _SIGNATURE :], frame[start : start + _SIGNATURE]):
        raise RejectedError("the command is not signed with the centre's key (uplink.commands.key)")
    return command


class Memory(msgspec.Struct, array_like=True):
    """The commands that were carried out, or tried, by id; `horizon`: none that ends before it is remembered any more."""

    done: dict[str, Done] = {}
    horizon: int = 0

    def forget(self, now: int) -> None:
        """Let go of those that have ended; what ends before them is refused from now on, whatever the clock says."""
        ended = [each.expires for each in self.done.values() if each.expires <= now]
        if ended:
            self.horizon = max(self.horizon, *ended)
            self.done = {identity: each for identity, each in self.done.items() if each.expires > now}


def judge(command: Command, site: str, node: str, allow: Sequence[str], memory: Memory, now: int) -> str:
    """Why a command that was not there before is not carried out; empty where it is."""
    if (command.site, command.node) != (site, node):
        return f"it is for {command.site}/{command.node}"
    if now >= command.expires or command.expires <= memory.horizon:
        return "it has expired"
    if command.issued > now + AHEAD_US:
        return "its time is ahead of this node's clock"
    if command.expires - command.issued > LONGEST_US:
        return "it is valid for more than 7 days"
    if len(memory.done) >= MOST_REMEMBERED:
        return f"{MOST_REMEMBERED} commands have not expired yet"
    try:
        check_topic(command.topic)
    except RejectedError as error:
        return error.message
    if not any(filter_matches(each, command.topic) for each in allow):
        return f"{command.topic!r} is not in uplink.commands.allow"
    return ""


def read_command(frame: bytes) -> Command:
    """What a frame says, whoever signed it. Raises `RejectedError`."""
    start = len(MAGIC) + 1
    if len(frame) > MOST_COMMAND or frame[:start] != MAGIC + bytes([VERSION]):
        raise RejectedError("that is no command that this node knows")
    try:
        return msgspec.msgpack.decode(frame[start + _SIGNATURE :], type=Command)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RejectedError("the command cannot be read") from error
