"""Bundles on a node that runs: applied under load, rolled back by themselves, refused; over kill -9 wholly old or wholly new."""

from pathlib import Path
from typing import Any

import pytest

from skerry import Bundle
from skerry.core.errors import RejectedError
from skerry.trust import SigningKey
from tests.fixtures import models
from tests.fixtures.node import RunningNode, until
from tests.system.accounts import BOTH, EVERY, check, settle
from tests.system.fleet import Fleet

FAR = 100_000
PIPELINES = BOTH.replace("dedup =", 'model = "m"\ndedup =')
TRUSTED = '[bundles]\ntrusted = ["ops.pub"]\n'
MODEL = '[[models]]\nname = "m"\nfile = "m.onnx"\nversion = "{}"\n'


class Workshop:
    """Where bundles are made: projects with another model each, and the key of who answers for them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pipelines = PIPELINES
        self.key = folder / "ops.key"
        self.key.parent.mkdir(parents=True)
        self.made = SigningKey.new()
        self.key.write_text(self.made.pem())

    def bundle(self, version: str, width: int = 4, *, fails: bool = False, sign: bool = True) -> Bundle:
        place = self.folder / version
        place.mkdir()
        model = place / "m.onnx"
        models.failing(model, width) if fails else models.adding(model, FAR * int(version) + (version == "1"), width)
        (place / "skerry.toml").write_text(MODEL.format(version) + self.pipelines)
        found = Bundle.build(place / "skerry.toml", place / "plant.bundle", version=version)
        if sign:
            found.sign(self.key)
        return found

    def node(self, folder: Path, **given: Any) -> RunningNode:
        models.adding(folder / "m.onnx", FAR, width=4)
        (folder / "ops.pub").write_text(self.made.public_pem())
        return RunningNode(folder, TRUSTED + MODEL.format(1) + self.pipelines, **given)


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path / "workshop")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "site").mkdir()
    return tmp_path / "site"


def shown(node: RunningNode) -> dict[str, Any]:
    with node.client() as client:
        found: dict[str, Any] = client.get("/api/v1/bundles")
    return found


def begin(node: RunningNode, bundle: Bundle, probation: str) -> None:
    with node.client() as client:
        client.post("/api/v1/bundles", {"file": str(bundle.path)})
        client.post(f"/api/v1/bundles/{bundle.id}/apply", {"probation": probation})


def scored(node: RunningNode, version: str) -> bool:
    return any(event["version"] == version for event in node.events(EVERY))


def outcomes(node: RunningNode) -> list[tuple[str, str]]:
    return [(row["bundle"], row["what"]) for row in shown(node)["history"]]


def test_a_bundle_is_applied_and_a_worse_one_rolls_back_by_itself_and_nothing_is_lost(workshop: Workshop, site: Path) -> None:
    workshop.pipelines = PIPELINES.replace('"30s"', '"500ms"')
    good, narrow, broken = workshop.bundle("2"), workshop.bundle("3", width=3), workshop.bundle("4")
    unsigned, other, failing = workshop.bundle("5", sign=False), workshop.bundle("1"), workshop.bundle("6", fails=True)
    with workshop.node(site) as node, Fleet(node.mqtt, 4, 100) as fleet:
        until(lambda: scored(node, "1"), 30, "the model of skerry.toml scores")
        with pytest.raises(RejectedError, match="it is not signed"):
            unsigned.apply(node.file)
        stranger = workshop.folder / "stranger.key"
        stranger.write_text(SigningKey.new().pem())
        unsigned.sign(stranger)
        with pytest.raises(RejectedError, match="that key is not trusted here"):
            unsigned.apply(node.file)
        data = broken.path.read_bytes()
        broken.path.write_bytes(data[:-60] + bytes([data[-60] ^ 1]) + data[-59:])
        with pytest.raises(RejectedError, match="damaged, or was changed"):
            broken.apply(node.file)
        assert shown(node)["bundles"] == []
        assert good.verify([site / "ops.pub"])
        with pytest.raises(RejectedError, match="was refused: models: m@1 is on this node with another content"):
            other.apply(node.file)
        with pytest.raises(RejectedError, match=r"was refused: m@6: .*does not run"):
            failing.apply(node.file)
        assert node.status()["bundle"]["active"] is None

        assert good.apply(node.file, probation="1s")["what"] == "kept"
        until(lambda: scored(node, "2"), 30, "the model of the bundle scores")
        assert node.status()["bundle"]["active"] == "plant 2"
        assert node.pipeline(EVERY)["model"] == "m@2"

        with pytest.raises(RejectedError, match=f"was rolled back: pipeline {EVERY}|was rolled back: pipeline once"):
            narrow.apply(node.file, probation="1s")
        assert node.pipeline(EVERY)["model"] == "m@2"
        assert any("bundle plant 3 was rolled back: pipeline" in words for words in node.status()["warnings"])
        seen = len(node.events(EVERY))
        until(lambda: len(node.events(EVERY)) > seen + 4, 30, "events go on")
        states = {row["id"]: row["state"] for row in shown(node)["bundles"]}
        assert states == {good.id: "active", narrow.id: "stored", other.id: "stored", failing.id: "stored"}

        with node.client() as client:
            assert client.post("/api/v1/bundles/rollback") == {"active": ""}
        assert node.pipeline(EVERY)["model"] in ("m", "m@1")
        count = sum(event["version"] == "1" for event in node.events(EVERY))
        until(lambda: sum(e["version"] == "1" for e in node.events(EVERY)) > count, 30, "the model of skerry.toml scores again")
        settle(node, fleet)
        assert check(node, fleet.devices).acknowledged == fleet.sent
        for event in node.events(EVERY):
            assert event["score"] - event["features"]["n_count"] == FAR * int(event["version"])
        assert {event["version"] for event in node.events(EVERY)} == {"1", "2"}

        with node.client() as client:
            assert client.upload("/api/v1/bundles", good.path.read_bytes(), "application/octet-stream")["id"] == good.id
            client.post("/api/v1/bundles/plant%202/apply", {"probation": "10m"})
        until(lambda: (shown(node)["trial"] or {}).get("phase") == "on probation", 60, "it is on probation again")
        fleet.devices[0].client.publish("devices/d0/numbers", "rubbish", qos=1)
        until(lambda: outcomes(node)[-1:] == [("plant 2", "rolled back")], 60, "a dead letter takes it back")
        assert "new dead letters: 1 of pipeline every, 1 of pipeline once" in shown(node)["history"][-1]["reason"]
        until(lambda: node.pipeline(EVERY)["model"] in ("m", "m@1"), 30, "the model of skerry.toml runs")


def test_kill_9_within_the_probation_gives_the_old_one_and_after_it_the_new_one(
    workshop: Workshop, site: Path, free_port: int
) -> None:
    bundle = workshop.bundle("2")
    with workshop.node(site, mqtt=f"127.0.0.1:{free_port}") as node, Fleet(node.mqtt, 2, 50) as fleet:
        begin(node, bundle, "10m")
        until(lambda: (shown(node)["trial"] or {}).get("phase") == "on probation", 60, "the bundle is on probation")
        assert node.pipeline(EVERY)["model"] == "m@2"
        node.kill("all")
        node.start()
        assert shown(node)["history"][-1]["reason"] == "the node ended within the probation"
        assert shown(node)["active"] is None
        assert node.pipeline(EVERY)["model"] in ("m", "m@1")

        begin(node, bundle, "1s")
        until(lambda: outcomes(node)[-1:] == [("plant 2", "kept")], 60, "the bundle is kept")
        node.kill("all")
        node.start()
        assert shown(node)["active"] == bundle.id
        assert node.pipeline(EVERY)["model"] == "m@2"
        settle(node, fleet)
        assert check(node, fleet.devices).acknowledged == fleet.sent
        assert {event["version"] for event in node.events(EVERY)} == {"2"}  # what was open over the switches too
