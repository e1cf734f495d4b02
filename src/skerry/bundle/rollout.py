"""A bundle from node to node of a cluster: whose turn it is, when all have it, and when all go back. Pure.

One record says what the whole cluster is to run. The node that leads brings it on, each node does by itself what the record asks of
it, and one that was away does so when it is back. So whoever dies, the others go on, and all end on the same side.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec


class Rollout(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is to run at all nodes. Times are microseconds; `number` grows with each.

    Attributes:
        id: the bundle that is or was applied; `title` is for people.
        before: what was active before: an id, or empty: skerry.toml alone.
        state: `going` from node to node, `kept` by all that were there, or taken `back`.
        turns: nodes that try it now.
        done: nodes that keep it.
        reason: why it was taken back.
    """

    number: int = 0
    id: str = ""
    title: str = ""
    before: str = ""
    state: Literal["going", "kept", "back"] = "kept"
    probation: str = ""
    dead_letters: int = 0
    at: int = 0
    ended: int = 0
    turns: tuple[str, ...] = ()
    done: tuple[str, ...] = ()
    reason: str = ""

    @property
    def wanted(self) -> str:
        """What all are on when it is over."""
        return self.before if self.state == "back" else self.id


class Word(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a node says: of which rollout it speaks, what is active, in which phase it tries one, why that did not stay."""

    number: int = 0
    active: str = ""
    title: str = ""
    phase: str = ""
    failed: str = ""


def advance(record: Rollout, leader: str, there: Sequence[str], words: Mapping[str, Word], now: int) -> Rollout:
    """What the leader makes of it; the same where there is nothing to do but to wait.

    Args:
        there: nodes that take part now. The leader is first: what its configuration has is what is placed.
    """
    if record.state != "going":
        return record
    known = {node: word for node, word in words.items() if word.number == record.number}
    for node in record.turns:
        if node in known and known[node].failed:
            return taken_back(record, f"{node}: {known[node].failed}", now)
        if node not in there:
            return taken_back(record, f"{node} went away while it tried it", now)
    kept = tuple(node for node in record.turns if _keeps(known.get(node), record.id))
    done, turns = (*record.done, *kept), tuple(node for node in record.turns if node not in kept)
    left = [node for node in there if node not in (*done, *turns)]
    if leader in left:
        turns = (*turns, leader)
    elif left and not turns:
        turns = (left[0],)
    changed = msgspec.structs.replace(record, done=done, turns=turns)
    return changed if turns else msgspec.structs.replace(changed, state="kept", ended=now)


def taken_back(record: Rollout, reason: str, now: int) -> Rollout:
    """All go back to what was before."""
    return msgspec.structs.replace(record, state="back", reason=reason, ended=now, turns=())


def duty(record: Rollout, me: str, active: str, trying: str, failed: bool) -> Literal["", "apply", "back"]:
    """What the record asks of a node now.

    Args:
        trying: the bundle that it tries at this moment, or is about to.
        failed: it has tried this one, and it did not stay.
    """
    if record.state == "back" and record.id in (active, trying):
        return "back"
    if active == record.wanted or trying:
        return ""
    if not record.wanted:
        return "back"
    asked = record.state != "going" or me in record.turns
    return "apply" if asked and not failed else ""


def _keeps(word: Word | None, id: str) -> bool:
    return word is not None and word.active == id and not word.phase
