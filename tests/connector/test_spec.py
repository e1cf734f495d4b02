"""`[[connectors]]`: what is accepted, how what is wrong is named, and kinds of other packages."""

from pathlib import Path
from typing import Any

import pytest

from skerry.config import load, schema, show
from skerry.connector import Place, open_connector, parse_connector, parse_connectors
from skerry.connector.spec import twins_of
from skerry.core.errors import ConfigError
from tests.connector.rig import PLUGIN, installed

IN = {"name": "hall", "kind": "mqtt", "direction": "in", "url": "mqtt://b:1884", "topics": [{"from": "zigbee2mqtt/+"}]}
OUT = {"name": "up", "kind": "mqtt", "direction": "out", "url": "mqtt://b:1884"}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"kind": "mqt"}, r"c.kind: 'mqt' is not known, did you mean 'mqtt'\?"),
        ({"direction": "inn"}, "c.direction: 'inn' is not known"),
        ({"direction": None}, "say whether it brings in or out; allowed: in, out"),
        ({"name": "a b"}, "c.name: 'a b' is not a name"),
        ({"urll": "x"}, r"c: unknown key 'urll', did you mean 'url'\?; allowed: name, kind, direction, enabled, "),
        ({"url": "http://b"}, "c.url: 'http://b' is no such address; allowed: mqtt://host:port or "),
        ({"url": "mqtt://ann:pw@b"}, "c.url: carries a log-in that everybody could see; use username and password_file"),
        ({"url": "mqtt://b:x"}, "c.url: is no URL"),
        ({"topics": []}, "c.topics: say what to read"),
        ({"topics": [{"from": "a/#/b"}]}, "may only be the last level"),
        ({"qos": 2}, "c.qos: 2 cannot be received"),
        ({"password_file": "x"}, "c.username: a password needs a username"),
        ({"keep_alive": 0}, "c.keep_alive: 0 is out of range"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], complaint: str) -> None:
    table = {key: value for key, value in {**IN, **change}.items() if value is not None}
    with pytest.raises(ConfigError, match=complaint):
        parse_connector(table, "c")


def test_what_goes_out_is_checked_too() -> None:
    for change, complaint in (
        ({"events": "a/{pipelin}"}, r"\{pipelin\} is not known"),
        ({"qos": 3}, "3 is no quality of service"),
        ({"topics": [{"from": "devices/#"}], "pipelines": ["p"]}, "belong to no pipeline"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            parse_connector({**OUT, **change}, "c")


def test_a_bridge_does_not_read_what_another_writes() -> None:
    reads = {**IN, "topics": [{"from": "a/+"}, {"from": "skerry/#"}]}
    with pytest.raises(ConfigError, match=r"'hall' would read what 'up' writes on the same broker \(skerry/#\): a loop"):
        parse_connectors([OUT, reads], "connectors")
    assert len(parse_connectors([OUT, IN], "connectors")) == 2
    assert len(parse_connectors([{**OUT, "url": "mqtt://elsewhere"}, reads], "connectors")) == 2
    out = {**OUT, "topics": [{"from": "devices/#", "to": "zigbee2mqtt/{rest}"}]}
    with pytest.raises(ConfigError, match="a loop"):
        parse_connectors([IN, out], "connectors")


def test_names_are_there_once() -> None:
    with pytest.raises(ConfigError, match="connector 'hall' is there twice"):
        parse_connectors([IN, IN], "connectors")
    with pytest.raises(ConfigError, match="101 are too many"):
        parse_connectors([{**IN, "name": f"c{at}"} for at in range(101)], "connectors")


def test_who_brings_in_from_there_is_known() -> None:
    specs = parse_connectors([OUT, IN, {**IN, "name": "other", "url": "mqtt://elsewhere"}], "connectors")
    assert twins_of(specs[0], specs) == ("hall",)
    assert twins_of(specs[1], specs) == ()


def test_a_kind_of_another_package_is_found_by_its_entry_point(tmp_path: Path) -> None:
    table = {"name": "n", "kind": "numbers", "last": 3}
    with pytest.raises(ConfigError, match="'numbers' is not known"):
        parse_connector(table, "c")
    with installed(tmp_path, {"numbers": "plugin:Numbers", "lost": "plugin:Nothing"}):
        spec = parse_connector(table, "c")
        assert spec.direction == "in"
        assert type(open_connector(spec, Place("n"))).__name__ == "Numbers"
        with pytest.raises(ConfigError, match="c: unknown key 'lst', did you mean 'last'"):
            parse_connector({"name": "n", "kind": "numbers", "lst": 3}, "c")
        with pytest.raises(ConfigError, match="numbers does not go out"):
            parse_connector({**table, "direction": "out"}, "c")
        with pytest.raises(ConfigError, match=r"skerry\.connectors: plugin:Nothing: cannot be loaded: "):
            parse_connector({"name": "n", "kind": "lost"}, "c")
    with pytest.raises(ConfigError, match="there is no kind 'numbers'; install the package that brings it"):
        open_connector(spec, Place("n"))


def test_a_kind_may_have_one_class_for_each_direction(tmp_path: Path) -> None:
    source = PLUGIN + "\n\nclass Sent(Numbers):\n    read = None\n\n    async def send(self, batch):\n        pass\n"
    with installed(tmp_path, {"numbers.in": "plugin:Numbers", "numbers.out": "plugin:Sent"}, source):
        for direction, name in (("in", "Numbers"), ("out", "Sent")):
            spec = parse_connector({"name": "n", "kind": "numbers", "direction": direction}, "c")
            assert type(open_connector(spec, Place("n"))).__name__ == name


def test_they_are_part_of_the_one_file(tmp_path: Path) -> None:
    file = tmp_path / "skerry.toml"
    text = '[[connectors]]\nname = "hall"\nkind = "mqtt"\ndirection = "in"\nurl = "mqtt://b"\ntopics = [{ from = "a/+" }]\n'
    file.write_text(text)
    config = load(file)
    assert [(each.name, each.kind, each.table["url"]) for each in config.connectors] == [("hall", "mqtt", "mqtt://b")]
    assert ("connectors[0].url", "mqtt://b", str(file)) in show(file)
    assert schema()["$defs"]["ConnectorSpec"]["required"] == ["name", "kind", "direction"]
    file.write_text(text.replace('"mqtt://b"', '"b"'))
    with pytest.raises(ConfigError, match=r"skerry.toml:5: connectors\[0\].url: 'b' is no such address"):
        load(file)
