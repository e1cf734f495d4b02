"""The one file: all of it parses, what is not there yet is refused with a sentence, and whatever is wrong is named."""

import json
import re
from pathlib import Path

import msgspec
import pytest

from skerry.config import LISTS, NodeConfig, Sections, find, load, show, socket_path
from skerry.core.errors import ConfigError

WHOLE = """
[node]
name = "quay-1"
site = "quay"
data_dir = "./here"
capabilities = ["gpu", "camera"]
[runtime]
workers = 2
worker_threads = 1
max_blocking_threads = 16
keep_versions = 3
thread_stack_size = "1MiB"
[resources]
memory = "1GiB"
cpu = 2.0
network = "1MiB/s"
disk = "8GiB"
[broker]
mqtt = "127.0.0.1:1883"
sync = "always"
retention = { age = "24h", size = "2GiB" }
max_payload = "1MiB"
max_connections = 10000
anonymous = false
[devices]
challenge_ttl = "30s"
token_ttl = "1h"
[storage]
path = "./data/store"
max_size = "2GiB"
compression = "zstd"
[history]
keep = { raw = "7d", "1m" = "90d", "1h" = "5y" }
topics = ["devices/#"]
max_size = "2GiB"
max_series = 10000
[api]
listen = "127.0.0.1:8080"
loopback = "read"
[dashboard]
enabled = false
listen = "127.0.0.1:8081"
[cluster]
enabled = false
name = "c"
listen = "0.0.0.0:7000"
advertise = "10.0.0.1:7000"
replicas = 3
discovery = "both"
seeds = ["10.0.0.2:7000"]
[uplink]
kind = "http"
credentials = "file"
batch = { messages = 1000, delay = "5s" }
compression = "zstd"
select = ["event", "1m"]
redact = ["operator", "gps.*"]
rate = "256KiB/s"
[[models]]
name = "bearing"
file = "old.onnx"
version = "1"
[[models]]
name = "bearing"
file = "bearing.onnx"
version = "2"
optimize = "all"
max_batch = "auto"
max_delay = "0ms"
memory = "256MiB"
[[pipelines]]
name = "bearing-health"
source = { topic = "devices/+/vibration", format = "json", time = "ts", values = ["x", "y", "z"] }
window = { kind = "tumbling", size = "1s", by = "device", lateness = "2s" }
features = ["mean", "std", "rms", "peak", "crest", "kurtosis"]
model = "bearing@active"
rule = { field = "score", above = 0.8, clear_below = 0.5, for = 3, severity = "warning" }
sinks = ["event", { kind = "mqtt", topic = "alarms/{device}" }, { kind = "file", path = "events.jsonl" }]
resources = { memory = "256MiB", cpu = 0.5, network = "64KiB/s" }
[[pipelines]]
name = "raw"
source = { topic = "devices/+/raw", format = "float32", rate = 100.0 }
window = { kind = "count", size = 32, every = 8 }
features = "my_module:features"
model = "bearing@1"
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "skerry.toml"
    file.write_text(text)
    return file


def test_the_whole_file_parses(tmp_path: Path) -> None:
    config = load(written(tmp_path, WHOLE))
    assert (config.node.name, config.node.capabilities) == ("quay-1", ("gpu", "camera"))
    assert config.data_dir == tmp_path.resolve() / "here"
    assert [model.version for model in config.models] == ["1", "2"]
    spec = config.pipeline("bearing-health")
    assert [sink.kind for sink in spec.sinks] == ["event", "mqtt", "file"]
    assert spec.rule is not None
    assert (spec.rule.for_, spec.rule.above) == (3, 0.8)
    assert (spec.columns or [])[:7] == ["x_mean", "x_std", "x_rms", "x_peak", "x_crest", "x_kurtosis", "y_mean"]
    assert config.pipeline("raw").columns is None
    assert len(config.pipeline_tables()) == 2


def test_an_empty_file_and_none_at_all_are_enough(tmp_path: Path) -> None:
    for config in (load(written(tmp_path, "")), load(None)):
        assert (config.pipelines, config.models, config.runtime.workers) == ((), (), 1)
        assert config.broker.mqtt == "127.0.0.1:1883"
        assert config.node.name


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "data/tokens.json"),
        ('[node]\ndata_dir = "else"', "else/tokens.json"),
        ('[node]\ndata_dir = "else"\n[api]\ntoken_file = "keys/t.json"', "keys/t.json"),
        ('[api]\ntoken_file = "/etc/skerry/t.json"', "/etc/skerry/t.json"),
    ],
)
def test_where_tokens_are_kept(tmp_path: Path, text: str, place: str) -> None:
    assert load(written(tmp_path, text)).token_file == tmp_path.resolve() / place


WRONG = [
    ('[cluster]\nlisten = "here"', "cluster.listen: 'here' is not an address; allowed: host:port"),
    ('[cluster]\nname = "a b"', "cluster.name: 'a b' is no name for a cluster; allowed: letters, digits, - and _"),
    ('[cluster]\nadvertise = "0.0.0.0:7443"', "cluster.advertise: others cannot reach '0.0.0.0:7443'; name an address and a port"),
    ('[cluster]\nadvertise = "10.0.0.1:0"', "cluster.advertise: others cannot reach '10.0.0.1:0'; name an address and a port"),
    ('[cluster]\nroutes = "x"', "cluster.routes: 'x' is not an address"),
    ("[cluster]\nreplicas = 2", "cluster.replicas: 2 is no number of replicas; allowed: 1, 3 or 5"),
    ('[cluster]\nseeds = ["10.0.0.1:7443", "10.0.0.2"]', "cluster.seeds[1]: '10.0.0.2' is not an address"),
    ('[cluster]\nseeds = ["10.0.0.1:0"]', "cluster.seeds[0]: '10.0.0.1:0' has no port; name a member's cluster.listen"),
    ('[cluster]\ndiscovery = "dns"', "cluster.discovery: "),
    ('[uplink]\nurl = "http://a:b@centre"', "uplink.url: 'centre' is not of the kind mqtt; allowed: mqtt://host:port or mqtts://"),
    ('[uplink]\ncommands = { allow = ["commands/#"] }', "uplink.commands.key: say who may command"),
    (
        '[[pipelines]]\nname = "p"\nsource = { topic = "a/+", values = ["x"] }\nsinks = ["event", { kind = "uplink" }]',
        "pipelines[0].sinks[1]: the sink 'uplink' has no centre; set uplink.url",
    ),
    ("[nod]", "unknown section 'nod', did you mean 'node'?"),
    ('[node]\nnmae = "x"', "node: unknown key 'nmae', did you mean 'name'?"),
    ('[node]\nname = "a b"', "node.name: 'a b' is not a node name"),
    ('[node]\ncapabilities = ["gpu", "a b"]', "node.capabilities[1]: 'a b' is not a name"),
    ("[node]\nname = 5", "node.name: must be a text in quotes, not 5"),
    ("node = 5", "node: must be a table, not 5"),
    ("[[node]]", "node: must be a table"),
    ("[runtime]\nworkers = 0", "runtime.workers: 0 is out of range; allowed: 1 to 256"),
    ("[runtime]\nkeep_versions = -1", "runtime.keep_versions: -1 is out of range; allowed: 0 to 1000"),
    ('[runtime]\nstall = "10ms"', "runtime.stall: must be 1s or more"),
    ('[resources]\nmemory = "64 apples"', "resources.memory: '64 apples' is not a size"),
    ('[resources]\nnetwork = "1MiB"', "resources.network: '1MiB' is not a rate"),
    ("[resources]\ncpu = nan", "resources.cpu: "),
    ("[resources]\ncpu = inf", "resources.cpu: "),
    ("[resources]\ncpu = -1", "resources.cpu: "),
    ('[broker]\nmqtt = "1883"', "broker.mqtt: '1883' is not an address"),
    ('[broker]\nretention = { age = "0s" }', "broker.retention.age: must be more than 0"),
    ('[broker]\nretention = { size = "1KiB" }', "broker.retention.size: must be 16MiB or more"),
    ('[broker]\nmax_payload = "9MiB"', "broker.max_payload: 9MiB is out of range"),
    ('[storage]\ncompression = "gzip"', "storage.compression: 'gzip' is not known; allowed: none, lz4, zstd"),
    ('[history]\nkeep = { "2m" = "1d" }', "history.keep: unknown level '2m'"),
    ('[history]\nkeep = { raw = "1m" }', "history.keep.raw: 1m is too short; allowed: 1h or more"),
    ('[history]\ntopics = ["a/#", "b/#/c"]', "history.topics[1]: 'b/#/c': # may only be the last level"),
    ('[history]\nmax_size = "1MiB"', "history.max_size: 1MiB is too small; allowed: 32MiB or more"),
    ("[history]\nmax_series = 0", "history.max_series: 0 is out of range"),
    ('[uplink]\nkind = "pigeon"', "uplink.kind: "),
    ("models = 5", "models: must be written as [[models]]"),
    ("[models]\nname = 1", "models: must be written as [[models]]"),
    ('[[models]]\nname = "m"', "models[0]: needs the key 'file'"),
    ('[[models]]\nname = "m@1"\nfile = "f"', "models[0].name: 'm@1' is not a model name"),
    ('[[models]]\nname = "m"\nfile = "f"\n' * 2, "m@1 is there twice"),
    ("pipelines = [5]", "pipelines[0]: must be a table"),
    ('[[pipelines]]\nname = "p"', "pipelines[0]: needs the key 'source'"),
    ('[[pipelines]]\nname = "p"\nsource = "s"', "pipelines[0].source: must be a table"),
    ('[[pipelines]]\nname = "p.q"\nsource = { topic = "a/+", values = ["x"] }', "pipelines[0].name: 'p.q' is not a name"),
]
P = '[[pipelines]]\nname = "p"\nsource = { topic = "a/+", values = ["x"] }\n'
WRONG += [
    (P + P, "pipelines: pipeline 'p' is there twice"),
    (P + 'capabilities = [""]', "pipelines[0].capabilities[0]: '' is not a name"),
    (P + 'sinks = "event"', "pipelines[0].sinks: "),
    (P + "sinks = 5", "pipelines[0].sinks: "),
    (P + 'sinks = ["evnt"]', "pipelines[0].sinks[0].kind: 'evnt' is not known, did you mean 'event'?"),
    (P + "sinks = [5]", "pipelines[0].sinks[0]: must be a table, not 5"),
    (P + 'sinks = [{ kind = "mqtt", topic = "a/#" }]', "pipelines[0].sinks[0].topic: "),
    (P + 'model = "m"', "pipelines[0].model: there is no model 'm'"),
    (P + 'features = ["maen"]', "did you mean 'mean'?"),
    (P + 'window = { kind = "tumbling" }', "pipelines[0].window.size: "),
    (P + 'window = { knd = "none" }', "pipelines[0].window: unknown key 'knd', did you mean 'kind'?"),
    (P + "rule = { above = 1, below = 0 }", "pipelines[0].rule.above: "),
    (P + 'rule = { above = 1, field = "x_mean" }', "pipelines[0].rule.field: "),
    (P + "rule = { above = nan }", "pipelines[0].rule.above: "),
    (P + "resources = { cpu = nan }", "pipelines[0].resources.cpu: "),
    (P + "resources = { cpu = 0 }", "pipelines[0].resources.cpu: "),
]


@pytest.mark.parametrize(("text", "words"), WRONG)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, words: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert words in str(caught.value)
    assert str(caught.value).startswith(str(file))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for name, content in (("broken", b"[node\n"), ("latin", b'[node]\nname = "\xff"')):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ConfigError, match="is not valid TOML"):
            load(tmp_path / name)
    for missing in (tmp_path / "none", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            load(missing)


def test_the_environment_goes_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path, WHOLE)
    given_values = {
        "SKERRY_NODE__SITE": "pier",
        "SKERRY_RUNTIME__WORKERS": "3",
        "SKERRY_BROKER__RETENTION__AGE": "2h",
        "SKERRY_BROKER__ANONYMOUS": "true",
        "SKERRY_NODE__CAPABILITIES": '["lamp"]',
        "SKERRY_BROKER__MQTT": "127.0.0.1:0",
        "SKERRY_LOG": "debug",
        "SKERRY_CONFIG": "elsewhere",
    }
    for name, value in given_values.items():
        monkeypatch.setenv(name, value)
    config = load(file)
    assert (config.node.site, config.runtime.workers, config.node.capabilities) == ("pier", 3, ("lamp",))
    assert (config.broker.retention.age, config.broker.retention.size) == ("2h", "2GiB")
    assert (config.broker.anonymous, config.broker.address) == (True, ("127.0.0.1", 0))
    origins = {key: origin for key, _, origin in show(file)}
    assert origins["node.site"] == "SKERRY_NODE__SITE"
    assert origins["node.name"] == str(file)
    assert origins["runtime.stall"] == "default"
    assert origins["broker.retention"] in (str(file), "SKERRY_BROKER__RETENTION__AGE")
    assert origins["pipelines[0].name"] == str(file)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("SKERRY_NOD__NAME", "x", "unknown section 'nod'"),
        ("SKERRY_NODE__NMAE", "x", "unknown key 'nmae'"),
        ("SKERRY_NODE__NAME__DEEP", "x", "node.name.deep is not inside a table"),
        ("SKERRY_MODELS__FILE", "x", "models.file is not inside a table"),
        ("SKERRY_RUNTIME__WORKERS", "many", "SKERRY_RUNTIME__WORKERS: runtime.workers: must be a whole number, not 'many'"),
        ("SKERRY_PIPELINES", "5", None),
        ("SKERRY_NODE__", "5", "unknown key ''"),
    ],
)
def test_a_wrong_variable_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str | None
) -> None:
    monkeypatch.setenv(name, value)
    file = written(tmp_path, WHOLE)
    if words is None:
        load(file)
        return
    with pytest.raises(ConfigError, match=re.escape(words)):
        load(file)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[broker]\n\n[node]\nname = 5", ":4: node.name: must be a text in quotes"),
        ("[node]\nsite = '[x'\nnmae = 5", ":3: node: unknown key 'nmae'"),
        ("\n[nod]", ":2: unknown section 'nod'"),
        ("[node]\nname = ,", ":2: is not valid TOML: Invalid value, column 8"),
        ("[uplink]\nselect = [\n    'evnt',\n]", ":2: uplink.select[0]: 'evnt' is not known, did you mean 'event'?"),
    ],
)
def test_the_line_of_what_is_wrong_is_named(tmp_path: Path, text: str, words: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert str(caught.value).startswith(f"{file}{words}")


def test_a_node_may_be_made_of_variables_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SKERRY_NODE__NAME", "quay-7")
    config = load(None)
    assert config.node.name == "quay-7"
    assert config.data_dir == tmp_path.resolve() / "data"
    assert ("node.name", "quay-7", "SKERRY_NODE__NAME") in show(None)
    with pytest.raises(ConfigError, match="there is no pipeline 'p'; allowed: none"):
        config.pipeline("p")


def test_which_file_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SKERRY_CONFIG", raising=False)
    assert find(None) in (None, Path("/etc/skerry/skerry.toml"))
    written(tmp_path, "")
    assert find(None) == Path("skerry.toml")
    monkeypatch.setenv("SKERRY_CONFIG", "of-the-environment.toml")
    assert find(None) == Path("of-the-environment.toml")
    assert find(Path("named.toml")) == Path("named.toml")


def test_show_has_every_key_and_can_be_written_as_json(tmp_path: Path) -> None:
    rows = show(written(tmp_path, WHOLE))
    keys = [key for key, _, _ in rows]
    assert len(set(keys)) == len(keys)
    for section in msgspec.structs.fields(Sections):
        if section.name not in LISTS:
            wanted = {f"{section.name}.{field.encode_name}" for field in msgspec.structs.fields(section.type)}
            assert wanted <= set(keys)
    assert {"models[0].name", "models[1].file", "pipelines[0].rule", "pipelines[1].features"} <= set(keys)
    json.dumps(rows)


def test_the_socket_of_a_deep_directory_is_short(tmp_path: Path) -> None:
    def at(folder: Path) -> NodeConfig:
        folder.mkdir(parents=True, exist_ok=True)
        return load(written(folder, ""))

    near, far = at(Path("/tmp") / tmp_path.name), at(tmp_path / ("deep" * 20) / ("deeper" * 20))
    try:
        assert socket_path(near) == near.data_dir / "skerry.sock"
        assert len(str(socket_path(far))) < 100
        assert socket_path(far) == socket_path(far)
        assert socket_path(far) != socket_path(at(tmp_path / ("deep" * 20) / ("other" * 20)))
    finally:
        (Path("/tmp") / tmp_path.name / "skerry.toml").unlink()
        (Path("/tmp") / tmp_path.name).rmdir()
