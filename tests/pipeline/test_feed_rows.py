"""Samples of a history through a runner: the same windows and events as the messages that they came in."""

import json

from skerry.core.clock import SECOND
from skerry.pipeline import PipelineSpec, PipelineState, Runner, parse_pipeline, run_messages

SAMPLES = [(f"d{at % 3}", 1000 + at * 0.25, float(at * at % 17)) for at in range(200)]


def spec_of(**more: object) -> PipelineSpec:
    source = {"topic": "devices/+/n", "time": "ts", "values": ["v"], "max_keys": 3}
    window = {"kind": "tumbling", "size": "2s", "lateness": "1s"}
    return parse_pipeline({"name": "p", "source": source, "window": window, "features": ["mean"], **more}, "p")


def run_rows(spec: PipelineSpec, through: int = 2**61) -> Runner:
    runner = Runner(spec, None, "node", PipelineState())
    rows = [(key, (at * SECOND, value)) for key, at, value in SAMPLES]
    runner.feed_rows(rows[:77])
    runner.feed_rows(rows[77:])
    runner.finish(through)
    return runner


def test_rows_give_the_events_of_their_messages() -> None:
    spec = spec_of(rule={"above": 8.0, "for": 2})
    messages = [(f"devices/{key}/n", json.dumps({"ts": at, "v": value}).encode(), None) for key, at, value in SAMPLES]
    wanted = run_messages(spec, None, "node", iter(messages))
    runner = run_rows(spec)
    assert [json.loads(output.payload) for output in runner.outputs] == wanted["events"] != []
    assert runner.state.ledger.received == wanted["messages"] == 200
    assert runner.state.ledger.windows == wanted["windows"]


def test_only_windows_that_end_by_a_time_are_closed() -> None:
    ends = {json.loads(output.payload)["end"] for output in run_rows(spec_of(), 1010 * SECOND).outputs}
    assert "1970-01-01T00:17:24.000Z" in ends
    assert len(run_rows(spec_of(), 1010 * SECOND).outputs) < len(run_rows(spec_of()).outputs)


def test_rows_that_are_late_or_of_one_device_too_many_are_dead_letters() -> None:
    runner = Runner(spec_of(), None, "node", PipelineState())
    runner.feed_rows([(key, (1000.0 * SECOND, 1.0)) for key in "abcd"])
    runner.feed_rows([("a", (1010.0 * SECOND, 1.0)), ("a", (1001.0 * SECOND, 1.0))])
    assert runner.state.ledger.dead == {"unknown-key": 1, "late": 1}
    assert runner.state.ledger.received == 6
