"""Who may join: what a node and a member say to each other, and the verdict on it. Pure.

On the join port both sides send JSON lines: the member `Hello`, the node `Ask`, the member `Answer`; with `pending` set another
`Answer` follows when a person has decided.
"""

import hashlib
import re
from collections.abc import Iterable

import msgspec

from skerry.cluster.members import EdgeNode, NodeStatus
from skerry.cluster.records import MOST_MEMBERS, check_name
from skerry.core.clock import SECOND
from skerry.core.errors import ConfigError, RejectedError

SKEW_S = 2.0
LONGEST_LINE = 256 * 1024
_VERSION = re.compile(r"(\d+)\.(\d+)")


class Hello(msgspec.Struct, frozen=True):
    """A member introduces itself to whoever asks. `now`: microseconds since the epoch; `ca`: the site's authority, PEM."""

    id: str
    site: str
    version: str
    now: int
    ca: str
    address: str = ""


class Ask(msgspec.Struct, frozen=True):
    """A node wants to join. `request`: for its certificate, PEM; `names`: names and addresses by which it is reached."""

    node: str
    site: str
    version: str
    now: int
    address: str
    names: tuple[str, ...]
    request: str
    token: str = ""


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The verdict.

    Attributes:
        pending: a person has to approve; the code that is shown at both ends.
        share: what all members know, by name.
    """

    error: str = ""
    mend: str = ""
    pending: str = ""
    warnings: tuple[str, ...] = ()
    certificate: str = ""
    members: tuple[EdgeNode, ...] = ()
    share: dict[str, str] = {}


def code_of(request: str) -> str:
    """A short code of a request, for people to compare: `3f9a-77c2-01be`."""
    digest = hashlib.sha256(request.encode()).hexdigest()
    return "-".join(digest[at : at + 4] for at in (0, 4, 8))


def judge(ask: Ask, hello: Hello, members: Iterable[EdgeNode], took_s: float) -> tuple[str, ...]:
    """Warnings, if the node may join; its token is looked at elsewhere. Raises `RejectedError`: the first thing that is wrong.

    Args:
        hello: of the member, with the time when the node's line came.
        took_s: seconds that the exchange took, by which clocks may seem to differ.
    """
    try:
        check_name(ask.node)
    except ConfigError as error:
        raise RejectedError(error.message, where="node.name", mend=error.mend) from error
    if ask.site != hello.site:
        raise RejectedError(
            f"{ask.node} is of the site {ask.site}, this cluster of {hello.site}", mend="set [node] site, or ask another"
        )
    refusal = version_refusal(ask.version, hello.version)
    if refusal:
        raise RejectedError(refusal, mend="install a version that is at most one minor version apart")
    members = list(members)
    same = [node for node in members if node.id == ask.node]
    if same and same[0].status != NodeStatus.OFFLINE:
        raise RejectedError(f"a node called {ask.node} is in the cluster and {same[0].status}", mend="set another [node] name")
    if not same and len(members) >= MOST_MEMBERS:
        raise RejectedError(f"the cluster has {MOST_MEMBERS} members, which is the most", mend="remove one that is gone")
    return skew_warning(ask.now, hello.now, took_s)


def version_refusal(theirs: str, ours: str) -> str:
    """Why two versions do not work together; empty where they do: the same major, minors at most one apart."""
    found = [_VERSION.match(version) for version in (theirs, ours)]
    if found[0] is None or found[1] is None:
        return f"{theirs!r} is no version of skerry"
    (major, minor), (own_major, own_minor) = ((int(each[1]), int(each[2])) for each in found if each)
    if major != own_major or abs(minor - own_minor) > 1:
        return f"it runs skerry {theirs}, which does not work with {ours} here"
    return ""


def skew_warning(theirs: int, ours: int, took_s: float) -> tuple[str, ...]:
    """A sentence where two clocks differ by more than 2 s and what the exchange took."""
    apart = (theirs - ours) / SECOND
    if abs(apart) <= SKEW_S + took_s:
        return ()
    which = "ahead of" if apart > 0 else "behind"
    return (f"its clock is {abs(apart):.1f} s {which} the cluster's: set it, windows of its devices would be late or early",)
