"""The demo's `skerry.toml`: pipelines for the pump station and this computer, on the two models of the package."""

import json
from importlib.resources import files
from pathlib import Path

from skerry.demo.computer import COMPUTER_FEATURES, COMPUTER_VALUES
from skerry.demo.pump import PUMP_FEATURES, PUMP_VALUES
from skerry.demo.recordings import RIG_VALUES
from skerry.demo.rig import WINDOW

PUMP_ALARMS = "pump-station"
PUMP_WINDOWS = "pump-windows"
DEVIATION = 1.0
COMPUTER_ALARMS = "this-computer"
PIPELINES: tuple[str, ...] = (PUMP_ALARMS, PUMP_WINDOWS, COMPUTER_ALARMS)


def model_path(name: str) -> Path:
    """The file of a model of the package: `pump`, `computer`, or `unfit`, which gives no number for what pumps measure."""
    return Path(str(files("skerry.demo").joinpath("models", f"{name}.onnx")))


def demo_config(
    data_dir: str,
    mqtt: str,
    api: str,
    *,
    name: str = "demo",
    site: str = "demo",
    sync: str = "1s",
    disk: str = "1GiB",
    recorded: bool = False,
    dashboard: str = "127.0.0.1:0",
) -> str:
    """The TOML text of the demo's node.

    Three pipelines: `pump-station` and `this-computer` raise alarms by a rule; `pump-windows` has no rule, so that each
    window is an event with its score, which is what precision and recall are computed from.

    Args:
        data_dir: where the node keeps its log and state.
        mqtt, api, dashboard: `host:port` to listen on.
        sync: `broker.sync`.
        disk: bound of all that the node keeps on disk.
        recorded: pipelines for recordings of a rig in the place of the pump station; they need no trained model.
    """
    pipelines = _recorded_pipelines() if recorded else _live_pipelines()
    return f"""\
# The demo's node. A copy of this file, with your own topics and models, is a good start: `skerry run --config FILE`.

[node]
name = {_quote(name)}
site = {_quote(site)}
data_dir = {_quote(data_dir)}

[resources]
disk = {_quote(disk)}

[broker]
mqtt = {_quote(mqtt)}
sync = {_quote(sync)}

[api]
listen = {_quote(api)}

[dashboard]
listen = {_quote(dashboard)}

{pipelines}"""


def _live_pipelines() -> str:
    return f"""\
[[models]]
name = "pump"
file = {_quote(str(model_path("pump")))}

[[models]]
name = "computer"
file = {_quote(str(model_path("computer")))}

# an alarm while a pump has a fault: one window fires it, one that is calm clears it
[[pipelines]]
name = {_quote(PUMP_ALARMS)}
{_pump_source()}
model = "pump@active"
rule = {{ field = "score", above = 0.6, clear_below = 0.4, for = 1, severity = "critical" }}
sinks = ["event"]

# the same windows without a rule: each is an event, to be compared with what was true
[[pipelines]]
name = {_quote(PUMP_WINDOWS)}
{_pump_source()}
model = "pump@active"
sinks = ["event"]

# an alarm when this computer is overloaded for two seconds
[[pipelines]]
name = {_quote(COMPUTER_ALARMS)}
source = {{ topic = "devices/+/readings", format = "json", time = "ts", values = {_list(COMPUTER_VALUES)} }}
window = {{ kind = "tumbling", size = "1s", by = "device", lateness = "200ms" }}
features = {_list(COMPUTER_FEATURES)}
model = "computer@active"
rule = {{ field = "score", above = 0.6, clear_below = 0.4, for = 2, severity = "warning" }}
sinks = ["event"]
"""


def _recorded_pipelines() -> str:
    """The last readings of a run at every reading, scored by how far the newest lie from the oldest of them."""
    source = f"""\
source = {{ topic = "devices/+/sensors", format = "json", time = "ts", values = {_list(RIG_VALUES)} }}
window = {{ kind = "count", size = {WINDOW}, every = 1 }}
features = "skerry.demo.rig:deviation"
sinks = ["event"]"""
    rule = f'rule = {{ field = "score", above = {DEVIATION}, clear_below = {DEVIATION / 2}, for = 3 }}'
    return f"""\
[[pipelines]]
name = {_quote(PUMP_ALARMS)}
{source}
{rule}

[[pipelines]]
name = {_quote(PUMP_WINDOWS)}
{source}
"""


def _pump_source() -> str:
    return f"""\
source = {{ topic = "devices/+/sensors", format = "json", time = "ts", values = {_list(PUMP_VALUES)} }}
window = {{ kind = "tumbling", size = "1s", by = "device", lateness = "200ms" }}
features = {_list(PUMP_FEATURES)}"""


def _list(names: tuple[str, ...]) -> str:
    return f"[{', '.join(_quote(name) for name in names)}]"


def _quote(text: str) -> str:
    """A TOML basic string: JSON's escapes are among TOML's; DEL, which JSON leaves as it is, is not allowed in TOML."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
