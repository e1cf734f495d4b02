"""What is known of the nodes at the edge: names behind aliases, sequence numbers, who lives, whose birth was missed. Pure."""

from collections.abc import Iterable

import msgspec

from skerry.connector.sparkplug.payload import BadPayload, Metric, Payload, Value, decode

NAMESPACE = "spBv1.0"
KINDS = ("NBIRTH", "NDATA", "NDEATH", "DBIRTH", "DDATA", "DDEATH")
MOST_NODES = 1000
MOST_NAMES = 50_000
"""Metrics of one node at the edge, its devices included."""
ASK_AGAIN_S = 10.0
CONTROL = ("bdSeq", "Node Control/", "Device Control/")


class Row(msgspec.Struct, frozen=True):
    """What a message says of one device (or of the node itself) at one time, in milliseconds."""

    group: str
    edge: str
    device: str
    timestamp: int | None
    values: dict[str, Value]


class Outcome(msgspec.Struct):
    """What comes of a message.

    Attributes:
        rows: values. online: devices that are born (True) or dead (False) now.
        ask: whether the node is to be asked for its birth now. refused: why something was not taken, by reason.
    """

    rows: list[Row] = []
    online: list[tuple[str, str, str, bool]] = []
    ask: bool = False
    refused: dict[str, int] = {}


class _Node:
    """One node at the edge."""

    def __init__(self) -> None:
        self.born = False
        self.seq = 0
        self.bd_seq: Value | None = None
        self.names: dict[int, tuple[str, int]] = {}
        self.types: dict[tuple[str, str], int] = {}
        self.devices: set[str] = set()
        self.asked = -ASK_AGAIN_S


def parse_topic(topic: str) -> tuple[str, str, str, str] | None:
    """Group, kind, edge and device (empty: the node itself) of a topic; None for what carries no metrics."""
    levels = topic.split("/")
    if levels[0] != NAMESPACE or len(levels) not in (4, 5) or levels[2] not in KINDS:
        return None
    device = levels[4] if len(levels) == 5 else ""
    if bool(device) != levels[2].startswith("D"):
        return None
    return levels[1], levels[2], levels[3], device


class Nodes:
    """All nodes that were heard of."""

    def __init__(self) -> None:
        self._nodes: dict[tuple[str, str], _Node] = {}

    def take(self, topic: str, data: bytes, now: float) -> Outcome:
        """One message at `now`, in seconds that only grow."""
        place = parse_topic(topic)
        if place is None:
            return Outcome(refused={"no Sparkplug topic": 1})
        group, kind, edge, device = place
        if (group, edge) not in self._nodes and len(self._nodes) >= MOST_NODES:
            return Outcome(refused={f"more than {MOST_NODES} nodes": 1})
        node = self._nodes.setdefault((group, edge), _Node())
        try:
            payload = decode(data)
        except BadPayload:
            return Outcome(refused={"no Sparkplug payload": 1})
        outcome = Outcome(rows=[], online=[], refused={})
        if kind == "NDEATH":
            self._node_dies(node, payload, (group, edge), outcome)
            return outcome
        if kind == "NBIRTH":
            self._node_is_born(node, payload)
            outcome.online.append((group, edge, "", True))
        elif self._in_sequence(node, payload, outcome):
            if kind == "DBIRTH":
                node.devices.add(device)
                self._learn(node, device, payload.metrics)
                outcome.online.append((group, edge, device, True))
            elif kind == "DDEATH":
                node.devices.discard(device)
                outcome.online.append((group, edge, device, False))
        if kind != "DDEATH":
            self._rows(node, payload, (group, edge, device), outcome)
        if outcome.ask:
            outcome.ask = now - node.asked >= ASK_AGAIN_S
            node.asked = now if outcome.ask else node.asked
        return outcome

    def _node_is_born(self, node: _Node, payload: Payload) -> None:
        node.born, node.seq = True, payload.seq or 0
        node.names.clear()
        node.types.clear()
        node.devices.clear()
        node.bd_seq = next((each.value(0) for each in payload.metrics if each.name == "bdSeq"), None)
        self._learn(node, "", payload.metrics)

    def _node_dies(self, node: _Node, payload: Payload, place: tuple[str, str], outcome: Outcome) -> None:
        """The death that the broker tells is that of the session with its bdSeq: an earlier one may come late."""
        told = next((each.value(0) for each in payload.metrics if each.name == "bdSeq"), None)
        if not node.born or (told is not None and node.bd_seq is not None and told != node.bd_seq):
            return
        outcome.online += [(*place, device, False) for device in ("", *sorted(node.devices))]
        node.born = False
        node.devices.clear()

    def _in_sequence(self, node: _Node, payload: Payload, outcome: Outcome) -> bool:
        """Whether the node is known; a gap means that a birth may have been missed, so one is asked for."""
        if not node.born:
            outcome.refused["no birth yet"] = 1
            outcome.ask = True
            return False
        expected, node.seq = (node.seq + 1) % 256, payload.seq if payload.seq is not None else node.seq
        if payload.seq != expected:
            outcome.refused["gap in the sequence"] = 1
            outcome.ask = True
        return True

    def _learn(self, node: _Node, device: str, metrics: Iterable[Metric]) -> None:
        for each in metrics:
            if each.name and len(node.types) < MOST_NAMES:
                node.types[device, each.name] = each.datatype
                if each.alias is not None:
                    node.names[each.alias] = (each.name, each.datatype)

    def _rows(self, node: _Node, payload: Payload, place: tuple[str, str, str], outcome: Outcome) -> None:
        """Values by their time: metrics of one message may be of several times."""
        if not node.born:
            return
        by_time: dict[int | None, dict[str, Value]] = {}
        for each in payload.metrics:
            name, datatype = each.name, node.types.get((place[2], each.name), 0)
            if not name and each.alias is not None:
                name, datatype = node.names.get(each.alias, ("", 0))
            if not name:
                outcome.refused["unknown alias"] = outcome.refused.get("unknown alias", 0) + 1
                outcome.ask = True
            elif not name.startswith(CONTROL):
                value = each.value(datatype)
                if value is not None:
                    by_time.setdefault(each.timestamp or payload.timestamp, {})[name] = value
                elif not each.null:
                    outcome.refused["kind of value not taken"] = outcome.refused.get("kind of value not taken", 0) + 1
        outcome.rows += [Row(*place, timestamp, values) for timestamp, values in by_time.items()]
