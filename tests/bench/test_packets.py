import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import packets


@pytest.mark.parametrize(
    ("size", "field"),
    [(0, b"\x00"), (127, b"\x7f"), (128, b"\x80\x01"), (16_383, b"\xff\x7f"), (16_384, b"\x80\x80\x01")],
)
def test_lengths_are_written_as_the_standard_says(size: int, field: bytes) -> None:
    assert packets.length(size) == field


def test_a_connect_carries_the_log_in_and_keeps_its_session() -> None:
    plain = packets.connect("c")
    assert plain == b"\x10\x0d\x00\x04MQTT\x04\x00\x00\x3c\x00\x01c"
    assert packets.connect("c", "u", "p") == b"\x10\x13\x00\x04MQTT\x04\xc0\x00\x3c\x00\x01c\x00\x01u\x00\x01p"


@given(st.lists(st.binary(max_size=300), max_size=8), st.integers(0, 3000))
def test_packets_are_split_wherever_the_socket_cut_them(payloads: list[bytes], cut: int) -> None:
    stream = b"".join(packets.publish_head("t", len(body)) + b"\x00\x07" + body for body in payloads)
    first, rest = packets.split(stream[:cut])
    second, left = packets.split(rest + stream[cut:])
    assert [body for _, body in first + second] == [b"\x00\x01t\x00\x07" + body for body in payloads]
    assert {kind for kind, _ in first + second} <= {packets.PUBLISH | 2}
    assert left == b""


def test_packet_ids_of_a_run_of_acknowledgements() -> None:
    assert list(packets.mids(b"\x40\x02\x00\x01\x40\x02\x01\x00")) == [1, 256]
