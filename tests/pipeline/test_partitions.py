"""Another number of partitions: every message counts once, whatever the old partitions' cursors were."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.broker import Frame, position
from skerry.pipeline import PipelineState, Runner, books, decode_state, encode_state, parse_pipeline
from skerry.pipeline.partitions import partition_of, redeal

SPEC = parse_pipeline(
    {
        "name": "p",
        "source": {"topic": "devices/+/v", "time": "ts", "values": ["x"]},
        "window": {"kind": "tumbling", "size": "1s"},
        "features": ["count", "sum"],
    },
    "p",
)


def frames(count: int) -> list[Frame]:
    found = []
    for number in range(1, count + 1):
        payload = json.dumps({"ts": 1000 + number * 0.07, "x": number}).encode()
        reply = f"$JS.ACK.s.c.1.{number}.{number}.{2_000_000_000_000 + number}.0".encode()
        found.append((f"$MQTT.msgs.devices.d{number % 7}.v".encode(), reply, b"", payload))
    return found


def feed(runner: Runner, some: list[Frame]) -> None:
    if some:
        runner.feed(some, position(some[0][1]), position(some[-1][1]), 0.0)


def windows(runners: list[Runner]) -> dict[str, tuple[str, str, int, float]]:
    found = {}
    for runner in runners:
        for output in runner.outputs:
            event = json.loads(output.payload)
            assert output.id not in found, "a window came twice"
            found[output.id] = (event["key"], event["start"], event["count"], event["features"]["x_sum"])
    return found


def test_a_key_belongs_to_exactly_one_partition() -> None:
    for count in (1, 2, 3, 8):
        assert {partition_of(f"device-{at}", count) for at in range(200)} == set(range(count))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.lists(st.integers(0, 300), min_size=4, max_size=4))
def test_redealt_states_go_on_as_if_nothing_had_changed(before: int, after: int, stops: list[int]) -> None:
    log = frames(300)
    plain = Runner(SPEC, None, "n", PipelineState())
    feed(plain, log)
    plain.finish()

    old = [Runner(SPEC, None, "n", PipelineState(), partition=(at, before)) for at in range(before)]
    for runner, stop in zip(old, stops, strict=False):
        feed(runner, log[:stop])
    dealt = [decode_state(encode_state(state)) for state in redeal([runner.state for runner in old], after)]
    new = [Runner(SPEC, None, "n", state, partition=(at, after)) for at, state in enumerate(dealt)]
    for runner in new:
        feed(runner, [frame for frame in log if position(frame[1]).stream > runner.state.cursor])
        runner.finish()

    assert windows([*old, *new]) == windows([plain])
    assert sum(runner.state.ledger.received for runner in new) == 300
    assert all(runner.state.taken == [] for runner in new)
    assert sum(int(str(books(runner.state)["difference"])) for runner in new) == 0
