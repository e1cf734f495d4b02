"""The runner, message by message: what becomes of each, under which id, and that one bad one fails alone."""

import math
import struct

import numpy as np
import pytest

from skerry.pipeline import RETRY_PREFIX, Output, PipelineState, books
from skerry.pipeline.topics import MAX_KEY, MAX_SUBJECT
from tests.fixtures.frames import ARRIVAL, events, feed, frame, letters, log_of, new_runner, run, sample, spec_of
from tests.fixtures.scorers import SumScorer

T = ARRIVAL // 1_000_000 - 1000
SECOND = {"kind": "tumbling", "size": "1s"}


def reasons(outputs: list[Output]) -> list[tuple[int, str]]:
    return [(letter.sequence, letter.reason) for letter in letters(outputs)]


def test_an_event_says_what_it_was_made_of() -> None:
    spec = spec_of(window=SECOND, features=["mean", "max"], model="sum", source={"values": ["x", "y"]})
    payloads = [sample(T + at / 4, at, 10 * at, names="xy") for at in range(6)]
    runner = run(spec, log_of(payloads), SumScorer())
    (event,) = events(runner.outputs)
    assert event == {
        "id": event["id"], "pipeline": "p", "key": "d", "node": "rock", "start": "2026-11-24T18:23:20.000Z",
        "end": "2026-11-24T18:23:21.000Z", "count": 4, "score": 1.5 + 3 + 15 + 30, "label": "high", "state": "info",
        "severity": None, "features": {"x_mean": 1.5, "x_max": 3.0, "y_mean": 15.0, "y_max": 30.0}, "model": "sum",
        "version": "3", "latency_ms": 0.0, "alarm_id": None, "flaps": None,
    }  # fmt: skip
    assert [output.subject for output in runner.outputs] == ["skerry.events.p.d"]
    assert runner.outputs[0].id == event["id"]
    assert books(runner.state)["open"] == 2


def test_without_window_features_and_model_the_first_value_is_the_score() -> None:
    found = events(run(spec_of(source={"values": ["x", "y"]}), log_of([sample(T, 4, 7, names="xy")])).outputs)
    assert [(event["score"], event["features"], event["model"]) for event in found] == [(4.0, {"x": 4.0, "y": 7.0}, None)]


def test_without_a_model_the_first_feature_is_the_score() -> None:
    spec = spec_of(window={"kind": "count", "size": 2}, features=["max", "min"])
    assert [event["score"] for event in events(run(spec, log_of(sample(T, value) for value in (1, 5, 2, 3))).outputs)] == [5.0, 3.0]


def test_without_features_the_samples_are_the_models_input_in_order_of_time() -> None:
    scorer = SumScorer()
    spec = spec_of(window={**SECOND, "lateness": "5s"}, model="sum", source={"values": ["x", "y"]})
    times = [0.5, 0.0, 1.0, 2.0, 2.5, 2.2, 9.0]
    run(spec, log_of(sample(T + time, 1, 2, names="xy") for time in times), scorer)
    assert sorted(scorer.shapes) == [(1, 1, 2), (1, 2, 2), (1, 3, 2)]


def test_rows_of_a_window_are_sorted_by_time() -> None:
    spec = spec_of(window={**SECOND, "lateness": "1s"}, features=["first", "last", "slope"])
    found = events(run(spec, log_of(sample(T + time, time) for time in (0.5, 0.1, 0.9, 5.0))).outputs)
    assert found[0]["features"] == {"x_first": 0.1, "x_last": 0.9, "x_slope": pytest.approx(0.4)}


def test_every_kind_of_rubbish_has_its_reason() -> None:
    spec = spec_of(window={"kind": "tumbling", "size": "1s", "max_samples": 2}, source={"max_payload": "60B"})
    late = ARRIVAL / 1e6 + 3600
    payloads = [
        sample(T, 1), b"rubbish", b'{"ts": 1}', sample(T, math.nan), sample(late, 1), b" " * 61, sample(T + 0.1, 1),
        sample(T + 0.2, 1),        sample(T + 5, 1), sample(T, 1), b"", sample(-5, 1),
    ]  # fmt: skip
    runner = run(spec, log_of(payloads))
    assert reasons(runner.outputs) == [
        (2, "undecodable"), (3, "wrong-shape"), (4, "nan"), (5, "future"), (6, "oversized"), (8, "window-full"), (10, "late"),
        (11, "undecodable"), (12, "wrong-shape"),
    ]  # fmt: skip
    assert {letter.topic for letter in letters(runner.outputs)} == {"devices/d/v"}
    assert [letter.payload for letter in letters(runner.outputs)][:1] == [b"rubbish"]
    assert books(runner.state)["difference"] == 0


def test_a_future_message_is_held_against_its_own_arrival_whatever_came_before_it() -> None:
    hour = 3_600_000_000
    back = [frame(1, sample(T, 1), arrival=ARRIVAL), frame(2, sample(ARRIVAL / 1e6, 1), arrival=ARRIVAL - hour)]
    assert reasons(run(spec_of(window=SECOND), back).outputs) == [(2, "future")]
    apart = new_runner(spec_of(window=SECOND))
    for one in back:
        feed(apart, [one])
    assert reasons(apart.outputs) == [(2, "future")]


def test_an_array_is_one_message_also_when_part_of_it_is_late() -> None:
    runner = run(
        spec_of(window=SECOND),
        log_of([sample(T + 5, 1), f'[{{"ts": {T}, "x": 1}}, {{"ts": {T + 5}, "x": 2}}]'.encode(), sample(T + 9, 1)]),
    )
    assert [event["count"] for event in events(runner.outputs)] == [2]
    ledger = runner.state.ledger
    assert (ledger.received, ledger.scored, ledger.late_samples, ledger.dead) == (3, 2, 1, {})


def test_an_array_that_is_late_as_a_whole_is_one_dead_letter() -> None:
    both = f'[{{"ts": {T}, "x": 1}}, {{"ts": {T}, "x": 2}}]'.encode()
    ledger = run(spec_of(window=SECOND), log_of([sample(T + 5, 1), both])).state.ledger
    assert (ledger.dead, ledger.late_samples) == ({"late": 1}, 0)


def test_float32_samples_lie_before_the_arrival_by_the_rate() -> None:
    table = {"topic": "devices/+/v", "format": "float32", "rate": 1000, "values": ["x"], "time": ""}
    runner = run(spec_of(source=table, features=["count"]), [frame(1, struct.pack("<4f", 1, 2, 3, 4), arrival=ARRIVAL)])
    assert [(event["start"], event["end"], event["count"]) for event in events(runner.outputs)] == [
        ("2026-11-24T18:39:59.997Z", "2026-11-24T18:40:00.000Z", 4)
    ]


def test_genuine_repeats_survive_unless_asked_for_otherwise() -> None:
    same = [sample(T, 1, id="a")] * 3 + [sample(T, 2, id="a"), sample(T, 2, id="b")]
    counts = {
        dedup: (
            run(spec_of(**table), log_of(same)).state.ledger.scored,
            run(spec_of(**table), log_of(same)).state.ledger.duplicates,
        )
        for dedup, table in {"off": {}, "time": {"dedup": "time"}, "id": {"dedup": "id"}}.items()
    }
    assert counts == {"off": (5, 0), "time": (3, 2), "id": (2, 3)}


def test_a_resend_is_known_within_the_horizon_and_by_key() -> None:
    spec = spec_of(dedup="id", dedup_horizon=2)
    frames = [
        frame(number, sample(T, 1, id=name), f"devices/{device}/v")
        for number, (device, name) in enumerate(["aa", "ba", "ab", "ac", "aa", "ab", "ba"], 1)
    ]
    assert run(spec, frames).state.ledger.duplicates == 1


def test_more_keys_than_allowed_are_dead_letters_and_the_known_ones_go_on() -> None:
    spec = spec_of(source={"max_keys": 2})
    frames = [frame(number, sample(T, 1), f"devices/{device}/v") for number, device in enumerate("abcacb", 1)]
    runner = run(spec, frames)
    assert reasons(runner.outputs) == [(3, "unknown-key"), (5, "unknown-key")]
    assert runner.state.ledger.scored == 4


def test_keys_come_out_of_the_payload_where_the_template_says_so() -> None:
    spec = spec_of(source={"key": "{2}/{.id}"})
    payloads = [sample(T, 1, id="a b"), sample(T, 1, id=7), sample(T, 1), sample(T, 1, id=None), sample(T, 1, id="{.id}")]
    runner = run(spec, log_of(payloads))
    assert [event["key"] for event in events(runner.outputs)] == ["d/a b", "d/7", "d/{.id}"]
    assert reasons(runner.outputs) == [(3, "unknown-key"), (4, "unknown-key")]


@pytest.mark.parametrize("key", ["{2}", "{.id}"])
def test_a_key_or_topic_too_long_for_a_subject_is_a_dead_letter(key: str) -> None:
    long, fits = "y" * (MAX_KEY + 1), "ä" * (MAX_KEY // 2)
    frames = [frame(at, sample(T, 1, id=name), f"devices/{name}/v") for at, name in enumerate((long, fits, "z" * MAX_SUBJECT), 1)]
    runner = run(spec_of(source={"key": key}), frames)
    assert [event["key"] for event in events(runner.outputs)] == [fits]
    assert reasons(runner.outputs) == [(1, "unknown-key"), (3, "unknown-key")]
    assert all(len(output.subject) < 1024 for output in runner.outputs)
    assert [bool(letter.payload) for letter in letters(runner.outputs)] == [True, False]


def test_partitions_share_the_keys_and_count_what_has_none_once() -> None:
    spec = spec_of(source={"key": "{.id}", "max_payload": "80B"})
    payloads = [sample(T, 1, id=f"k{at}") for at in range(20)] + [b"rubbish", b"{}", b" " * 90, b"\xff", sample(T, 1, id="")]
    runners = [new_runner(spec, partition=(at, 3)) for at in range(3)]
    for runner in runners:
        feed(runner, log_of(payloads))
        assert books(runner.state)["difference"] == 0
    assert sum(runner.state.ledger.received for runner in runners) == len(payloads)
    assert sorted(event["key"] for runner in runners for event in events(runner.outputs)) == sorted(f"k{at}" for at in range(20))
    assert sorted(letter.sequence for runner in runners for letter in letters(runner.outputs)) == [21, 22, 23, 24, 25]
    assert sum(runner.state.ledger.received_bytes for runner in runners) == sum(map(len, payloads))


def test_frames_of_others_are_not_counted() -> None:
    frames = [
        frame(1, sample(T, 1), "devices/a/w"),
        frame(2, sample(T, 1), "other/a/v"),
        frame(3, sample(T, 1), prefix=f"{RETRY_PREFIX}q."),
    ]
    frames += [frame(4, sample(T, 1), prefix=f"{RETRY_PREFIX}p."), frame(5, sample(T, 1), prefix="skerry.q0.")]
    runner = run(spec_of(), frames)
    assert (runner.state.ledger.received, runner.state.cursor, len(events(runner.outputs))) == (2, 5, 2)


def test_a_pipeline_on_everything_does_not_eat_its_own_events() -> None:
    spec = spec_of(source={"topic": "#", "key": "{1}"})
    frames = [frame(1, sample(T, 1)), frame(2, sample(T, 1), "events/p/devices"), frame(3, sample(T, 1), "events/q/devices")]
    runner = run(spec, frames)
    assert (runner.state.ledger.received, runner.state.cursor, len(events(runner.outputs))) == (2, 3, 2)


def test_letters_that_are_stored_already_are_counted_and_not_sent_again() -> None:
    payloads = [b"one", sample(T, 1), b"two"]
    runner = new_runner(spec_of(), known_letters={"1"})
    feed(runner, log_of(payloads))
    assert reasons(runner.outputs) == [(3, "undecodable")]
    assert runner.state.ledger.dead == {"undecodable": 2}


def test_a_flood_of_rubbish_is_stored_in_bounded_messages() -> None:
    runner = run(spec_of(), log_of([b"x" * 200_000] * 10))
    assert len(letters(runner.outputs)) == 10
    assert max(len(output.payload) for output in runner.outputs) < 1_000_000
    assert len({output.id for output in runner.outputs}) == len(runner.outputs) > 2


def test_silence_closes_windows_and_so_does_the_end() -> None:
    runner = new_runner(spec_of(window={**SECOND, "idle": "2s"}))
    feed(runner, log_of([sample(T, 1)]), mono=100.0)
    assert runner.advance(102.9) is False
    assert runner.advance(103.0) is True
    assert len(events(runner.outputs)) == 1
    feed(runner, [frame(2, sample(T + 5, 1))], mono=103.0)
    runner.finish()
    assert len(events(runner.outputs)) == 2
    assert books(runner.state)["open"] == 0


def test_a_changed_window_gives_up_what_was_open_and_counts_it() -> None:
    before = run(spec_of(window=SECOND), log_of([sample(T, 1), sample(T + 0.1, 1), b"rubbish"]))
    after = new_runner(spec_of(window={"kind": "tumbling", "size": "2s"}), state=before.state)
    (letter,) = letters(after.outputs)
    assert (letter.reason, letter.messages) == ("reconfigured", 2)
    assert after.outputs[0].id not in {output.id for output in before.outputs}
    assert books(after.state)["difference"] == 0
    same = run(spec_of(window=SECOND), log_of([sample(T, 1)]))
    assert new_runner(spec_of(window=SECOND, features=["max"]), state=same.state).outputs == []
    assert same.state.open_messages == 1


def test_values_too_great_for_a_feature_are_told_and_stop_nothing() -> None:
    runner = run(spec_of(features=["rms", "kurtosis"], model="sum"), log_of([sample(T, 1e200), sample(T, 1)]), SumScorer())
    assert books(runner.state)["difference"] == 0
    assert len(events(runner.outputs)) + len(letters(runner.outputs)) == 2
    assert np.geterr()["over"] == "warn"


def test_latency_runs_from_the_arrival_of_what_closed_the_window() -> None:
    runner = new_runner(spec_of(), now=lambda: ARRIVAL + 5_500)
    feed(runner, log_of([sample(T, 1), sample(T, 2)]))
    assert [event["latency_ms"] for event in events(runner.outputs)] == [4.5, 4.5]
    assert runner.latencies_ms == [4.5, 4.5]
    assert runner.ages_ms == [(ARRIVAL + 5_500 - T * 1_000_000) / 1000] * 2


def test_the_age_runs_from_the_end_of_the_window_by_the_devices_clock() -> None:
    runner = new_runner(spec_of(window=SECOND, features=["max"]), now=lambda: ARRIVAL + 3_000_000)
    feed(runner, log_of([sample(T, 1), sample(T + 10, 2)]))
    assert len(runner.ages_ms) == len(events(runner.outputs)) == 1
    assert runner.ages_ms == [(ARRIVAL + 2_000_000 - T * 1_000_000) / 1000]


def test_what_was_taken_in_is_not_taken_again() -> None:
    runner = new_runner(spec_of(), state=PipelineState(cursor=2))
    feed(runner, log_of(sample(T, value) for value in (1, 2, 3)))
    assert [event["score"] for event in events(runner.outputs)] == [3.0]
    feed(runner, log_of(sample(T, value) for value in (1, 2, 3)))
    assert (runner.state.cursor, runner.state.ledger.received) == (3, 1)


def test_the_last_windows_are_kept_to_be_looked_at_whether_or_not_they_are_events() -> None:
    spec = spec_of(rule={"field": "score", "above": 1e9})
    values = [*range(40), math.inf]
    runner = run(spec, log_of(sample(T + at, value) for at, value in enumerate(values)))
    assert events(runner.outputs) == []
    assert [(key, score) for key, _, score in runner.recent] == [("d", float(value)) for value in range(8, 40)]
