"""A lane and a collector over real HTTP: taken, refused, slow, dead and back again; bounded all the while."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTracePartialSuccess, ExportTraceServiceResponse

from skerry.core.errors import ConfigError
from skerry.core.service import cancel_and_wait
from skerry.http import Poster
from skerry.telemetry import Lane, Span, encode_trace, read_headers
from tests.telemetry.collector import Collector

MOST = 64 * 1024


def request(number: int) -> tuple[bytes, int]:
    return encode_trace({"service.name": "skerry"}, f"m{number}", Span(f"m{number}", number, number + 1), []), 1


@asynccontextmanager
async def lane_to(url: str, *, timeout: float = 5.0, most: int = MOST, **headers: str) -> AsyncIterator[Lane]:
    lane = Lane(Poster(f"{url}/v1/traces", "", timeout), headers, most, joined=True)
    task = asyncio.create_task(lane.run())
    try:
        yield lane
        assert not task.done(), task.exception()
    finally:
        await cancel_and_wait(task)


async def until(good: Callable[[], bool]) -> None:
    async with asyncio.timeout(40):
        while not good():  # noqa: ASYNC110 - in a thread, and in another task
            await asyncio.sleep(0.02)


@pytest.mark.asyncio
async def test_what_is_put_arrives_in_order_joined_and_with_the_headers() -> None:
    with Collector() as collector:
        collector.held.clear()
        async with lane_to(collector.url, **{"x-token": "t1"}) as lane:
            lane.put(*request(0))
            await until(lambda: collector.asked == 1)
            for number in range(1, 40):
                lane.put(*request(number))
            collector.held.set()
            await until(lambda: lane.sent == 40)
        assert [span.name for span in collector.spans()] == [f"m{number}" for number in range(40)]
        assert collector.asked == 2  # those that waited went together
        assert (lane.dropped, lane.trouble, lane.waiting) == (0, "", 0)
        assert collector.headers[0]["x-token"] == "t1"
        assert collector.headers[0]["Content-Type"] == "application/x-protobuf"


@pytest.mark.asyncio
async def test_a_dead_collector_holds_nothing_up_and_what_has_no_room_is_counted(free_port: int) -> None:
    async with lane_to(f"http://127.0.0.1:{free_port}") as lane:
        for number in range(3000):
            lane.put(*request(number))
            assert lane.waiting <= MOST
        await until(lambda: bool(lane.trouble))
        assert "not reachable" in lane.trouble
        kept = 3000 - lane.dropped
        assert 0 < kept < 1500
        with Collector(free_port) as collector:
            await until(lambda: lane.sent + lane.dropped == 3000)
            names = [int(span.name[1:]) for span in collector.spans()]
        assert len(names) == lane.sent
        assert names == list(range(3000 - lane.sent, 3000))  # the newest, each once
        assert lane.trouble == ""


@pytest.mark.asyncio
async def test_a_collector_that_does_not_answer_is_given_up_for_the_moment() -> None:
    with Collector() as collector:
        collector.held.clear()
        async with lane_to(collector.url, timeout=0.3) as lane:
            lane.put(*request(1))
            await until(lambda: collector.asked >= 2)
            assert "in time" in lane.trouble
            assert (lane.sent, lane.dropped) == (0, 0)
            collector.held.set()
            await until(lambda: lane.sent == 1)


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_what_cannot_be_taken_now_is_tried_again(status: int) -> None:
    with Collector() as collector:
        collector.answers.append((status, {"Retry-After": "0"}, b""))
        async with lane_to(collector.url) as lane:
            lane.put(*request(1))
            await until(lambda: lane.sent == 1)
        assert collector.asked == 2
        assert lane.dropped == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [400, 401, 404, 413, 500])
async def test_what_is_refused_for_good_is_dropped_and_said(status: int) -> None:
    with Collector() as collector:
        collector.answers.append((status, {}, b"no"))
        async with lane_to(collector.url) as lane:
            lane.put(*request(1))
            await until(lambda: lane.dropped == 1)
            assert lane.trouble == f"the collector answers {status}"
            lane.put(*request(2))
            await until(lambda: lane.sent == 1)
            assert lane.trouble == ""
        assert [span.name for span in collector.spans()] == ["m2"]


@pytest.mark.asyncio
async def test_what_is_refused_of_a_request_that_was_taken_is_counted() -> None:
    partly = ExportTraceServiceResponse(partial_success=ExportTracePartialSuccess(rejected_spans=1, error_message="too old"))
    with Collector() as collector:
        collector.answers.append((200, {}, bytes(partly.SerializeToString())))
        async with lane_to(collector.url) as lane:
            lane.put(*request(1))
            await until(lambda: lane.dropped == 1)
        assert (lane.sent, lane.trouble) == (0, "the collector refused 1 of 1: too old")


def test_headers_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "headers"
    file.write_text("Authorization: Bearer s3cret\n\nx-scope-orgid:  quay\n")
    assert read_headers(file) == {"Authorization": "Bearer s3cret", "x-scope-orgid": "quay"}
    assert read_headers(None) == {}


def test_what_is_no_header_is_named_and_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "headers"
    file.write_text("a: b\ns3cret\n")
    with pytest.raises(ConfigError, match="is no header") as refused:
        read_headers(file)
    assert "s3cret" not in str(refused.value)
    assert f"{file}:2" in str(refused.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_headers(tmp_path / "none")
