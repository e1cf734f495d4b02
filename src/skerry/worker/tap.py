"""The tap of QoS 0: what is published without an acknowledgement is put into the log, by one worker of all that listen."""

from collections.abc import Iterable

from skerry.broker import Frame, WireClient
from skerry.pipeline import MAX_SUBJECT, QOS0_PREFIX, subjects_of

QUEUE = b"skerry-qos0"
MARKS = (b"NATS/1.0\r\nNmqtt-Pub:0\r\n", b"NATS/1.0\r\nNmqtt-Pub: 0\r\n")


def tap_qos0(client: WireClient, topics: Iterable[str]) -> None:
    """QoS 0 is not in the log: put it there, each message by one worker only. What is lost before that, MQTT allows.

    The queue group reaches over all servers of a cluster, which prefer a worker of their own: a message comes to one worker of one
    node, whoever runs the unit that it is for.
    """

    def take(frames: list[Frame]) -> None:
        for subject, _, _, payload in frames:
            if len(subject) <= MAX_SUBJECT:  # a longer one has no room in a line, and the server would end the connection
                client.publish(QOS0_PREFIX.encode() + subject, payload)

    wanted = {subject for topic in topics for subject in subjects_of(topic)}
    for subject in sorted(_widest(wanted)):
        client.subscribe(subject.encode(), take, QUEUE, MARKS)


def _widest(subjects: set[str]) -> set[str]:
    """The subjects less those that another one covers: the server refuses filters that overlap."""
    return {
        subject
        for subject in subjects
        if not any(other != subject and _covers(other.split("."), subject.split(".")) for other in subjects)
    }


def _covers(wide: list[str], narrow: list[str]) -> bool:
    for at, level in enumerate(wide):
        if level == ">":
            return len(narrow) > at
        if at >= len(narrow) or narrow[at] == ">" or level not in ("*", narrow[at]):
            return False
    return len(wide) == len(narrow)
