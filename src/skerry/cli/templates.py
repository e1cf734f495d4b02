"""What `skerry init` writes. Pure: (template, name, site) → the text of skerry.toml."""

import json

_HEAD = """\
# A skerry node. Start it with `skerry run`, see it with `skerry status`, check this file with `skerry config check`.
# Every key, its value and where it comes from: `skerry config show --origin`. A JSON Schema for editors: `skerry config schema`.
# Each key can also be set by the environment: SKERRY_<SECTION>__<KEY>, such as SKERRY_BROKER__MQTT=0.0.0.0:1883

[node]
name = {name}
site = {site}
data_dir = "./data"           # all that the node keeps; relative to this file

[broker]
mqtt = "127.0.0.1:1883"       # where devices connect; "0.0.0.0:1883" lets other machines in
# anonymous = true            # lets in clients without a user name; else: skerry device add ID --password
# sync = "always"             # fsync before every acknowledgement; "1s" may lose one second over a power cut
# retention = {{ age = "24h", size = "2GiB" }}   # how much may wait while a pipeline is paused

[api]
listen = "127.0.0.1:8080"     # health, metrics, events: http://127.0.0.1:8080/readyz

# [runtime]
# workers = 1                 # processes that run pipelines

# [resources]
# memory = "1GiB"
# disk = "8GiB"
"""

_MODEL = """
# A model is an ONNX file. Name it here, then add `model = "mine@active"` to a pipeline: its input is [N, values x features].
# [[models]]
# name = "mine"
# file = "mine.onnx"
"""

_READINGS = """
# One pipeline: what devices send as {{"value": 21.5}} to devices/<device>/readings, in windows of ten seconds. With no model
# the first feature is the score, and with no rule every window is an event. Send a reading of a device "first":
#   skerry device add first --password
#   mosquitto_pub -u first -P PASSWORD -q 1 -t devices/first/readings -m '{{"value": 21.5}}'
#   skerry data tail --follow
[[pipelines]]
name = "first"
source = {{ topic = "devices/+/readings", format = "json", values = ["value"] }}   # time = "ts" where messages carry one
window = {{ kind = "tumbling", size = "10s", by = "device", lateness = "0s" }}
features = ["mean", "max"]
# rule = {{ field = "value_max", above = 30.0, clear_below = 28.0, for = 2, severity = "warning" }}
sinks = ["event"]             # also: {{ kind = "mqtt", topic = "alarms/{{device}}" }}
"""

_VIBRATION = """
# One pipeline: accelerations as {{"ts": 1764000000.123, "x": 0.1, "y": 0.0, "z": 9.8}} to devices/<device>/vibration, windows of
# one second, and an alarm while the vibration is high for three windows in a row: `skerry data tail --follow` shows it.
[[pipelines]]
name = "vibration"
source = {{ topic = "devices/+/vibration", format = "json", time = "ts", values = ["x", "y", "z"] }}
window = {{ kind = "tumbling", size = "1s", by = "device", lateness = "2s" }}
features = ["mean", "std", "rms", "peak", "crest", "kurtosis"]
# model = "mine@active"       # then the rule may judge its score
rule = {{ field = "x_std", above = 0.8, clear_below = 0.5, for = 3, severity = "warning" }}
sinks = ["event"]
"""

_TEMPLATES = {"readings": _MODEL + _READINGS, "vibration": _MODEL + _VIBRATION, "empty": _MODEL}
NAMES = tuple(_TEMPLATES)
GITIGNORE = "# what the node keeps\n/data/\n"


def toml(template: str, name: str, site: str) -> str:
    """The text of a template: one of `NAMES`."""
    return (_HEAD + _TEMPLATES[template]).format(name=_quote(name), site=_quote(site))


def _quote(text: str) -> str:
    """A TOML basic string: JSON's escapes are among TOML's, but JSON leaves DEL as it is, which TOML does not allow."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
