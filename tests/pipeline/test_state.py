"""Checkpoints as bytes: round trip, what is refused, and the books."""

import msgspec
import pytest
import zstandard

from skerry.core.errors import CorruptError
from skerry.pipeline import Ledger, Output, PipelineState, books, decode_state, encode_state
from skerry.pipeline.rule import Alarm
from skerry.pipeline.state import FORMAT
from skerry.window.state import KeyState, Pane


def state(keys: int) -> PipelineState:
    found = PipelineState(cursor=7, events_seq=3, dead_seq=2, window_digest="d", taken=[[1, 2], [3]])
    for number in range(keys):
        pane = Pane(number, [1.0, 2.5], 1, 1, 1.0, True)
        found.keys[f"k{number}"] = KeyState({number: pane}, 5, 4, 9, 2, 1.5)
        found.alarms[f"k{number}"] = Alarm(True, 2, 3, "id", 4, 5)
        found.recent[f"k{number}"] = [2**63 - 1, 0]
    found.outbox = [Output("s", "id", b"\x00\xff")]
    found.ledger = Ledger(received=keys + 6, scored=1, duplicates=2, dead={"late": 2, "nan": 1})
    return found


@pytest.mark.parametrize("keys", [0, 3, 2000])
def test_a_checkpoint_is_read_as_it_was_written(keys: int) -> None:
    data = encode_state(state(keys))
    assert decode_state(data) == state(keys)
    assert (data[:4] == zstandard.MAGIC_NUMBER.to_bytes(4, "little")) is (keys == 2000)


def test_a_newer_format_is_refused_and_says_what_to_do() -> None:
    with pytest.raises(CorruptError, match=rf"format {FORMAT + 1}.*up to {FORMAT}; run the newer version"):
        decode_state(encode_state(PipelineState(format=FORMAT + 1)))


def test_an_older_state_without_the_newest_fields_is_read() -> None:
    fields = msgspec.msgpack.decode(encode_state(state(1)))
    assert decode_state(msgspec.msgpack.encode(fields[:-3])).taken == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"rubbish",
        b"\x28\xb5\x2f\xfd",
        b"\x28\xb5\x2f\xfdrubbish",
        msgspec.msgpack.encode(["x"]),
        msgspec.msgpack.encode({}),
    ],
)
def test_what_is_no_checkpoint_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptError, match=r"cannot be read.*restore a backup"):
        decode_state(data)


def test_a_checkpoint_cut_short_is_refused() -> None:
    for data in (encode_state(state(3)), encode_state(state(2000))):
        for cut in (1, len(data) // 2, len(data) - 1):
            with pytest.raises(CorruptError):
                decode_state(data[:cut])


def test_the_books_say_what_is_unaccounted_for() -> None:
    account = books(state(3), waiting=0)
    assert account == {
        "received": 9, "scored": 1, "open": 3, "waiting": 0, "duplicates": 2, "dead_letters": {"late": 2, "nan": 1},
        "shed": 0, "difference": 0, "windows": 0, "late_samples": 0, "given_up": 0,
    }  # fmt: skip
    assert books(state(3), waiting=2)["difference"] == -2
    lost = state(3)
    lost.ledger.received += 4
    assert books(lost)["difference"] == 4
