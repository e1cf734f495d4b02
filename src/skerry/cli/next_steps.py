"""What to do after `skerry run`, as lines that work when they are pasted."""

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from skerry.core.errors import SkerryError
from skerry.device import recorded_devices
from skerry.pipeline import SourceSpec

_DEVICE = "first"
_RECORDINGS = ("recorded.csv", "recorded.jsonl")
"""What `skerry init --template` puts beside skerry.toml."""


def next_steps(sources: Sequence[SourceSpec], config: Path | None, mqtt: tuple[str, int] | None) -> list[str]:
    """Commands that let a device in, publish for the first source that a line can serve, and look at what came of it.

    `mqtt`: where the node takes MQTT without TLS, if it does; `config`: the file, where it is not ./skerry.toml.
    """
    skerry = "skerry" if config is None else f"skerry --config {shlex.quote(str(config))}"
    served = ((_topic(source.topic), _message(source)) for source in sources)
    topic, message = next(((topic, message) for topic, message in served if topic and message), ("", ""))
    look = [f"{skerry} status", f"{skerry} data tail --follow"]
    if mqtt is None:
        return look
    replayed = _replayed(skerry, sources, config)
    if replayed or not topic:
        return [*replayed, *look]
    secret = f"{_DEVICE}.password"
    return [
        f"{skerry} device add {_DEVICE} --password --out {secret}",
        f'mosquitto_pub -h {mqtt[0]} -p {mqtt[1]} -u {_DEVICE} -P "$(cat {secret})" -q 1 -t {shlex.quote(topic)} -m "{message}"',
        *look,
    ]


def _replayed(skerry: str, sources: Sequence[SourceSpec], config: Path | None) -> list[str]:
    """Lines that let a device of the template's recording in and send what it sent; none where there is no such file.

    It is the last device of the recording: that of a template has the fault."""
    beside = Path() if config is None else config.parent
    recording = next((beside / name for name in _RECORDINGS if (beside / name).is_file()), None)
    channels = [source.topic.split("/")[2] for source in sources if re.fullmatch(r"devices/\+/[^/+#]+", source.topic)]
    if recording is None or not channels:
        return []
    try:
        device = (recorded_devices(recording) or [_DEVICE])[-1]
    except SkerryError:
        return []
    channel, secret = channels[0], shlex.quote(f"{device}.password")
    how = f"--password-file {secret} --channel {shlex.quote(channel)} --file {shlex.quote(str(recording))} --rate 50"
    return [
        f"{skerry} device add {shlex.quote(device)} --password --out {secret}",
        f"{skerry} device simulate {shlex.quote(device)} {how}",
    ]


def _topic(topic_filter: str) -> str:
    """A topic of the filter that the device may publish to; empty where there is none."""
    levels = topic_filter.split("/")
    if levels[0] != "devices" or len(levels) < 2 or levels[1] not in ("+", "#", _DEVICE):
        return ""
    return "/".join(["devices", _DEVICE, *({"+": "any", "#": "any"}.get(level, level) for level in levels[2:] or ["any"])])


def _message(source: SourceSpec) -> str:
    """A payload as it stands between double quotes of a shell; empty for a format that no line can hold."""
    if source.format == "string":
        return "INFO hello"
    if source.format == "text":
        return ", ".join("1.0" for _ in source.names)
    if source.format != "json":
        return ""
    payload: dict[str, Any] = {}
    for field in (*([source.time] if source.time else []), *source.values):
        *parents, last = field.split(".")
        place = payload
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = "NOW" if field == source.time else 1.0
    return json.dumps(payload).replace('"NOW"', "$(date +%s)").replace('"', '\\"')
