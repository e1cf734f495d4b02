"""A preview is what would leave: byte for byte the same, and nothing else."""

import base64
import json
from typing import Any

import pytest

from skerry.core.errors import RejectedError
from skerry.core.settings import build
from skerry.uplink.config import UplinkConfig
from skerry.uplink.preview import MOST_MESSAGES, Preview, preview_of
from skerry.uplink.records import decode
from tests.fixtures.frames import sample, spec_of
from tests.uplink.rig import KEY, START, pipeline

RULED: dict[str, Any] = {
    "source": {"values": ["x", "y"]},
    "window": {"kind": "tumbling", "size": "10s"},
    "features": ["mean"],
    "rule": {"field": "x_mean", "above": 50.0},
}


def shown(sink: dict[str, Any], count: int = 100, table: dict[str, Any] | None = None, **config: Any) -> Preview:
    messages = [
        (f"devices/{device}/v", sample(START / 1e6 + at, float(at), at / 4, names=["x", "y"]), None)
        for at in range(count)
        for device in "ab"
    ]
    settings: UplinkConfig = build(UplinkConfig, config, "uplink")
    spec = pipeline(sink, **(table or RULED))
    return preview_of(settings, spec, None, iter(messages), ("n1", "hall"), KEY)


def test_it_is_whole_and_deterministic() -> None:
    found = shown({"select": ["event", "1m", "raw"]}, batch={"messages": 50})
    assert [record.kind for record in found.records].count("raw") == 200
    assert found == shown({"select": ["event", "1m", "raw"]}, batch={"messages": 50})
    answer = json.loads(json.dumps(found.show()))
    envelopes = [base64.b64decode(each["base64"]) for each in answer["envelopes"]]
    assert envelopes == found.envelopes
    assert answer["bytes"] == sum(map(len, envelopes)) == sum(each["bytes"] for each in answer["envelopes"])
    assert [record for envelope in envelopes for record in decode(envelope)] == found.records
    assert answer["envelopes"][0]["priority"] == "alarm"
    assert len(answer["records"]) == len(found.records)
    assert {(record.node, record.site) for record in found.records} == {("n1", "hall")}
    assert answer["pipelines"]["p"]["messages"] == 200


def test_only_what_is_selected_and_nothing_that_is_withheld() -> None:
    found = shown({"select": ["event", "features"]}, redact=["x", {"field": "key", "how": "hash"}])
    assert {record.kind for record in found.records} == {"event"}
    assert all("x_mean" not in record.values["features"] and "score" not in record.values for record in found.records)
    assert {len(record.key) for record in found.records} == {32}
    assert found.counts["withheld"]["x: drop"] > 0


def test_samples_around_an_alarm() -> None:
    found = shown({"select": ["event"], "around": {"before": "5s", "after": "5s"}})
    fired = [record for record in found.records if record.kind == "event" and record.values["state"] == "firing"]
    assert [record.values["start"][-10:] for record in fired] == ["00:50.000Z"] * 2
    raw = sorted(record.values["x"] for record in found.records if record.kind == "raw" and record.key == "a")
    assert raw == [float(at) for at in range(45, 66)]


def test_many_items_take_several_envelopes() -> None:
    found = shown({"select": ["raw"]}, batch={"messages": 3, "bytes": "1KiB"})
    assert len(found.envelopes) > 5
    assert len(found.records) == 200


def test_what_sends_nothing_and_what_is_no_sample_is_refused() -> None:
    with pytest.raises(RejectedError, match=r"nothing of it leaves; add \"uplink\" to its sinks"):
        preview_of(UplinkConfig(), spec_of(), None, [], ("n", "s"), KEY)
    with pytest.raises(RejectedError, match="more than a sample"):
        preview_of(UplinkConfig(), pipeline(), None, [("t", b"", 0)] * (MOST_MESSAGES + 1), ("n", "s"), KEY)
    assert preview_of(UplinkConfig(), pipeline(), None, [], ("n", "s"), KEY).envelopes == []
