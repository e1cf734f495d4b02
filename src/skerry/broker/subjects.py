"""MQTT topics as nats-server's subjects, and back. Pure.

Rules: nats-server's MQTT documentation: `/` separates levels and becomes `.`, a `.` in a level becomes `//`, an empty level `/`,
`+` becomes `*` and `#` becomes `>`.
"""


def to_subject(topic: str) -> str:
    """The subject of a topic or of a topic filter."""
    levels = [level.replace(".", "//") or "/" for level in topic.split("/")]
    return ".".join({"+": "*", "#": ">"}.get(level, level) for level in levels)


def to_topic(subject: str) -> str:
    """The topic that a subject stands for."""
    return "/".join("" if level == "/" else level.replace("//", ".") for level in subject.split("."))
