"""Other people's clients at the built-in broker: paho, mosquitto's, MQTT.js, and one as small devices have it."""

import itertools
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.node import RunningNode
from tests.mqtt.brokers import PEERS, modules

KINDS = ("paho", "mosquitto", "mqttjs", "minimal")
Session = tuple[str, bool]
"""Client id, and whether it is a clean one."""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    with RunningNode(tmp_path_factory.mktemp("interop")) as running:
        yield running


@pytest.fixture(scope="module")
def port(node: RunningNode) -> int:
    return node.mqtt[1]


class Peer:
    """One kind of client, started for one job each."""

    def __init__(self, kind: str, port: int) -> None:
        self.kind, self._port = kind, port

    def argv(self, session: Session, action: str, *rest: object, will: str = "") -> list[str]:
        client_id, clean = session
        words = [str(word).lower() if isinstance(word, bool) else str(word) for word in rest]
        if self.kind == "mosquitto":
            return self._mosquitto(session, action, words, will)
        common = [str(self._port), client_id, str(clean).lower(), will, action, *words]
        if self.kind == "mqttjs":
            if shutil.which("node") is None:
                pytest.skip("optional: node is not installed")
            return ["node", str(PEERS / "client.mjs"), str(modules("mqtt")), *common]
        return [sys.executable, str(PEERS / ("paho_client.py" if self.kind == "paho" else "minimal.py")), *common]

    def _mosquitto(self, session: Session, action: str, words: list[str], will: str) -> list[str]:
        client_id, clean = session
        program = shutil.which("mosquitto_pub" if action == "publish" else "mosquitto_sub")
        if program is None:
            pytest.skip("mosquitto_pub is not here: scripts/ci-packages installs it")
        argv = [program, "-p", str(self._port), "-i", client_id, "-V", "311"]
        if action == "publish":
            topic, payload, qos, retain = words
            return [*argv, "-t", topic, "-m", payload, "-q", qos, *(["-r"] if retain == "true" else [])]
        topic, qos = words if words else ("devices/nothing", "0")
        last = ["--will-topic", will, "--will-payload", "gone", "--will-qos", "1"] if will else []
        return [*argv, "-t", topic, "-q", qos, "-F", "%t %p %q %r", *([] if clean else ["-c"]), *last]

    def publish(self, name: str, topic: str, payload: str, qos: int, retain: bool = False) -> None:
        subprocess.run(self.argv((name, True), "publish", topic, payload, qos, retain), check=True, timeout=60)


class Reader:
    """A client of some kind that has subscribed, and the messages that it says it got."""

    def __init__(self, peer: Peer, session: Session, topic: str, qos: int) -> None:
        self._own_word = peer.kind != "mosquitto"
        argv = peer.argv(session, "subscribe", topic, qos)
        if not self._own_word:
            argv = ["stdbuf", "-oL", argv[0], "-d", *argv[1:]]  # it says nothing of its subscription otherwise, or late
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        assert self._process.stdout is not None
        word, early = "subscribed" if self._own_word else "Subscribed", []
        for line in self._process.stdout:
            if line.startswith(word):
                break
            early.append(line)  # a session that was kept sends before it grants the subscription again
        self._lines = itertools.chain(early, self._process.stdout)

    def take(self, count: int) -> list[tuple[str, str, int, bool]]:
        found: list[tuple[str, str, int, bool]] = []
        for line in self._lines:
            words = line.split()
            if len(words) == 4 and words[0].startswith("devices/"):
                found.append((words[0], words[1], int(words[2]), words[3] in ("1", "true")))
                if len(found) == count:
                    return found
        raise AssertionError(f"it ended after {found}")

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(params=KINDS)
def peer(request: pytest.FixtureRequest, port: int) -> Peer:
    return Peer(request.param, port)


@pytest.fixture
def observer(port: int) -> Peer:
    return Peer("paho", port)


def test_what_it_publishes_comes_at_each_qos(peer: Peer, observer: Peer) -> None:
    highest = 1 if peer.kind == "minimal" else 2
    with Reader(observer, ("observer", True), f"devices/{peer.kind}/+", 1) as reader:
        for qos in range(highest + 1):
            peer.publish(f"pub-{peer.kind}", f"devices/{peer.kind}/{qos}", f"v{qos}", qos)
        found = reader.take(highest + 1)
    assert found == [(f"devices/{peer.kind}/{qos}", f"v{qos}", min(qos, 1), False) for qos in range(highest + 1)]


def test_it_gets_what_its_wildcards_match_and_what_was_retained(peer: Peer, observer: Peer) -> None:
    room = f"devices/w-{peer.kind}"
    observer.publish("w", f"{room}/a/kept", "old", 1, retain=True)
    with Reader(peer, (f"sub-{peer.kind}", True), f"{room}/+/#", 1) as reader:
        assert reader.take(1) == [(f"{room}/a/kept", "old", 1, True)]
        observer.publish("w", f"{room}/b/c/d", "new", 1)
        observer.publish("w", f"{room}/b", "new", 0)
        assert sorted(reader.take(2)) == [(f"{room}/b", "new", 0, False), (f"{room}/b/c/d", "new", 1, False)]
    observer.publish("w", f"{room}/a/kept", "", 1, retain=True)


def test_its_will_is_published_when_it_dies(peer: Peer, observer: Peer) -> None:
    will = f"devices/will-{peer.kind}"
    with Reader(observer, ("observer", True), "devices/+", 1) as reader:
        argv = peer.argv((f"dies-{peer.kind}", True), "stay", will=will)
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            if peer.kind != "mosquitto":
                assert process.stdout is not None
                assert process.stdout.readline() == "connected\n"
            else:
                # it says nothing; a subscription of its own is seen by what it prints
                assert process.stdout is not None
                observer.publish("w", "devices/nothing", "x", 0, retain=True)
                assert process.stdout.readline().startswith("devices/nothing")
                observer.publish("w", "devices/nothing", "", 0, retain=True)
            process.kill()
        while (found := reader.take(1)[0])[0] != will:
            pass
    assert found[1] == "gone"


def test_its_session_goes_on_where_it_was(peer: Peer, observer: Peer) -> None:
    session, topic = (f"stays-{peer.kind}", False), f"devices/s-{peer.kind}/x"
    with Reader(peer, session, topic, 1) as reader:
        observer.publish("w", topic, "before", 1)
        assert reader.take(1)[0][1] == "before"
    observer.publish("w", topic, "meanwhile", 1)
    with Reader(peer, session, topic, 1) as reader:
        while reader.take(1)[0][1] != "meanwhile":
            pass  # what came before is sent again where its acknowledgement died with the process


def test_the_peers_are_where_they_belong() -> None:
    assert all((PEERS / name).is_file() for name in ("client.mjs", "minimal.py", "paho_client.py", "aedes.mjs"))
    assert "resolved" not in (Path(PEERS) / "package-lock.json").read_text()
