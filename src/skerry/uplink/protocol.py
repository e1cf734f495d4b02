"""What agent and uplink process say to each other: JSON lines down on stdin and up on stdout."""

from typing import Any

import msgspec

from skerry.uplink.config import UplinkConfig


class Assignment(msgspec.Struct, frozen=True):
    """All that the uplink needs but for where the log is; the first line it reads.

    Attributes:
        pipelines: the configuration's tables of those with an uplink sink.
        base: what relative paths start from. data_dir: where the key is kept that fields are hashed with.
    """

    node: str
    site: str
    config: UplinkConfig
    base: str
    data_dir: str
    pipelines: list[dict[str, Any]] = []
    paused: bool = False


class Broker(msgspec.Struct, frozen=True, tag="broker"):
    """Where the log is, and how to log in there."""

    host: str
    port: int
    user: str
    password: str


class Pause(msgspec.Struct, frozen=True, tag="pause"):
    """Send no more, or go on; what is to leave is gathered all the same."""

    paused: bool


class LinkTest(msgspec.Struct, frozen=True, tag="test"):
    """Send an envelope without items, and report how long it took under this number."""

    number: int


class Said(msgspec.Struct, frozen=True, tag="said"):
    """An answer to a command, to be queued for the centre as an alarm: an event in JSON."""

    event: bytes


Order = Broker | Pause | LinkTest | Said


class Tested(msgspec.Struct, frozen=True):
    """How a link test went."""

    number: int = 0
    ok: bool = False
    round_trip_ms: float = 0.0
    sentence: str = ""


class LaneReport(msgspec.Struct):
    """One lane: what waits, and what was acknowledged and failed since the start."""

    waiting: int = 0
    envelopes: int = 0
    items: int = 0
    bytes: int = 0
    failed: int = 0
    unreadable: int = 0


class Report(msgspec.Struct):
    """A line from the uplink, about twice a second.

    Attributes:
        cursor: of the log, stored; -1 while it is not known. holds: whether it needs the log at all.
        caught_up: whether log and events had nothing more for it a moment ago.
        lanes: by priority. queue_bytes, queue_limit: what the queue takes.
        sent: bytes acknowledged by the centre, ever. last: microseconds of the last acknowledgement, 0: none since the start.
        saved: what each pipeline gave and each rule saved, see `Gatherer.counts`.
        thinned, dropped: items of a full queue that were replaced by roll-ups, or given up.
        trouble: why nothing is sent now. gathering: why nothing is gathered now.
        commands: from the centre, since the last report.
        spent, held: by pipeline with `resources.network`: bytes of items since the start, and items that wait for it.
    """

    cursor: int = -1
    holds: bool = True
    caught_up: bool = False
    where: str = ""
    paused: bool = False
    lanes: dict[str, LaneReport] = {}
    queue_bytes: int = 0
    queue_limit: int = 0
    sent: int = 0
    last: int = 0
    saved: dict[str, Any] = {}
    thinned: int = 0
    dropped: int = 0
    trouble: str = ""
    gathering: str = ""
    tested: Tested = Tested()
    commands: list[bytes] = []
    spent: dict[str, int] = {}
    held: dict[str, int] = {}
