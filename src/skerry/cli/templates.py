"""What `skerry init` writes: (template, name, site, with TLS or not) → the text of skerry.toml."""

import json

from skerry.cli import starters

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
{broker_tls}
# anonymous = true            # lets in clients without a user name; else: skerry device add ID --password
# sync = "always"             # fsync before every acknowledgement; "1s" may lose one second over a power cut
# retention = {{ age = "24h", size = "2GiB" }}   # how much may wait while a pipeline is paused

[api]
listen = "127.0.0.1:8080"     # health, metrics, events: {scheme}://127.0.0.1:8080/readyz
# token_file = "data/tokens.json"    # lets in other machines with tokens (skerry token create); then listen may be "0.0.0.0:8080"
{api_tls}
# [dashboard]
# listen = "127.0.0.1:8081"   # the web page; enabled = false leaves it out

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

_PLAIN = {"readings": _MODEL + _READINGS, "empty": _MODEL}
NAMES = ("readings", *starters.NAMES, "empty")
GITIGNORE = "# what the node keeps\n/data/\n"


_NO_TLS = "# TLS, for devices on other machines and for HTTP: `skerry init --tls` makes certificates and writes the lines"
_BROKER_TLS = """\
mqtts = "0.0.0.0:8883"        # where devices connect with TLS, from other machines too; they need data/tls/ca.pem
# websocket = "0.0.0.0:8884"  # the same for MQTT over WebSocket
tls = { cert = "data/tls/server.pem", key = "data/tls/server.key", ca = "data/tls/ca.pem" }   # or your own files"""
_API_TLS = 'tls = { cert = "data/tls/server.pem", key = "data/tls/server.key" }\n'


def toml(template: str, name: str, site: str, tls: bool = False) -> str:
    """The text of a template: one of `NAMES`."""
    head = (_HEAD + _PLAIN.get(template, "")).format(
        name=_quote(name),
        site=_quote(site),
        broker_tls=_BROKER_TLS if tls else _NO_TLS,
        api_tls=_API_TLS if tls else "",
        scheme="https" if tls else "http",
    )
    return head if template in _PLAIN else head + starters.pipeline(template)


def _quote(text: str) -> str:
    """A TOML basic string: JSON's escapes are among TOML's, but JSON leaves DEL as it is, which TOML does not allow."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
