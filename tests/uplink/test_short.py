"""Numbers and names of events in few bytes: each comes back bit for bit, and what does not fit together is refused."""

import math
import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.core.errors import CorruptError
from skerry.uplink.short import LONGEST_NAME, long, pack_features, short, unpack_features

VALUES = st.one_of(
    st.floats(), st.integers(-(2**53), 2**53).map(float), st.decimals(-10_000, 10_000, allow_nan=False, places=4).map(float),
    st.sampled_from([0.0, -0.0, math.inf, -math.inf, math.nan, 1e300, 5e-324, 2.0**50, 0.1 + 0.2]),
)  # fmt: skip


@given(VALUES)
def test_every_number_comes_back_bit_for_bit(value: float) -> None:
    written = msgspec.msgpack.decode(msgspec.msgpack.encode(short(value)), type=int | float | None)
    found = long(written)
    assert found is not None
    assert struct.pack("<d", found) == struct.pack("<d", value)


def test_decimals_are_short() -> None:
    sizes = {value: len(msgspec.msgpack.encode(short(value))) for value in (0.0, 1.0, 64.53, -64.53, 1234.567, 0.1 + 0.2, 1 / 3)}
    assert sizes == {0.0: 1, 1.0: 1, 64.53: 3, -64.53: 5, 1234.567: 5, 0.1 + 0.2: 9, 1 / 3: 9}
    assert short(None) is None
    assert long(None) is None


@given(st.dictionaries(st.text(max_size=5), st.none() | VALUES, max_size=8))
def test_any_features_come_back(features: dict[str, float | None]) -> None:
    found = unpack_features(pack_features(features))
    assert list(found) == list(features)
    assert [repr(value) for value in found.values()] == [repr(value) for value in features.values()]


def test_names_that_are_pairs_are_written_once() -> None:
    features: dict[str, float | None] = {f"a_b{at}_{kind}": 1.0 for at in range(3) for kind in ("mean", "std")}
    assert pack_features(features)[:2] == (["a_b0", "a_b1", "a_b2"], ["mean", "std"])
    missing = {name: value for name, value in features.items() if name != "a_b1_std"}
    assert pack_features(missing)[1] == []
    assert unpack_features(pack_features(missing)) == missing


def test_a_name_that_is_too_long_does_not_leave() -> None:
    assert list(unpack_features(pack_features({"x" * (LONGEST_NAME + 1): 1.0, "y": 2.0}))) == ["y"]


@pytest.mark.parametrize(
    "packed",
    [
        (["x"], [], []), (["x"], ["m"], []), ([], ["m"], [8]),
        (["x" * LONGEST_NAME], ["m"], [8]), (["x" * (LONGEST_NAME + 1)], [], [8]),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_refused(packed: tuple[list[str], list[str], list[int | float | None]]) -> None:
    with pytest.raises(CorruptError):
        unpack_features(packed)
    with pytest.raises(CorruptError):
        long(1 << 60)
