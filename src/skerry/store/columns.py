"""Packed columns: the samples of one series over one stretch of time in one block of bytes, each value bit for bit. Pure.

Time stamps and values are columns of their own. A column becomes integers (values by the smallest power of ten that gives each of
them back exactly), the integers become small (of several differences the one that packs best is kept), zigzag, the narrowest
width, byte shuffle, zstd. A few values without exact decimal form (NaN, -0.0) are put beside; where there are many the column is
kept as it is, shuffled. The header answers what aggregates need.
"""

import threading
import zlib
from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
import zstandard
from numpy.typing import NDArray

from skerry.core.errors import CorruptError, RejectedError

MOST_SAMPLES = 1 << 20
FORMAT = 1
_CHECK_BYTES = 4
_LEVEL = 3
_MOST_DECIMALS = 12
_EXACT = float(1 << 52)
_PROBE, _SHARE, _TRIAL = 64, 16, 512
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Kind = Literal["plain", "delta", "second", "grid", "bits", "xor"]
_own = threading.local()


class Summary(msgspec.Struct, frozen=True, array_like=True):
    """What a block says without being unpacked. Times are microseconds; `numbers` of the `count` values are not NaN.

    `minimum`, `maximum` and `total` are over those, NaN where there is none; `first` and `last` in the block's order.
    """

    count: int
    numbers: int
    start: int
    end: int
    minimum: float
    maximum: float
    total: float
    first: float
    last: float


class _Column(msgspec.Struct, frozen=True, array_like=True):
    """How a column comes out of its bytes: `body` unpacks to `width` bytes a sample, whose meaning is `kind`'s.

    Integers are `base + scale * …`; a `grid` runs in even steps of `step`; values are integers over `10 ** decimals`, but those
    at the places `odd` (uint32), whose bits are in `odd_bits`.
    """

    kind: Kind
    width: int
    body: bytes
    decimals: int = 0
    scale: int = 1
    base: int = 0
    step: int = 0
    odd: bytes = b""
    odd_bits: bytes = b""


class _Block(msgspec.Struct, frozen=True, array_like=True):
    format: int
    summary: Summary
    times: _Column
    values: _Column


class _Table(msgspec.Struct, frozen=True, array_like=True):
    format: int
    count: int
    times: _Column
    columns: list[_Column]


def pack(times: Ints, values: Floats) -> bytes:
    """One block of N samples in the order given, N from 1 to 2**20.

    Args:
        times: int64 [N], microseconds, in any order and with repeats.
        values: float64 [N].

    Raises `RejectedError` for other shapes and dtypes.
    """
    if times.dtype != np.int64 or values.dtype != np.float64 or times.ndim != 1 or times.shape != values.shape:
        raise RejectedError(
            f"expected int64 [N] and float64 [N], got {times.dtype} {list(times.shape)} and {values.dtype} {list(values.shape)}"
        )
    if not 1 <= len(times) <= MOST_SAMPLES:
        raise RejectedError(f"{len(times)} samples do not make a block", mend=f"give 1 to {MOST_SAMPLES}")
    body = msgspec.msgpack.encode(_Block(FORMAT, _summary(times, values), _of_times(times), _of_values(values)))
    return zlib.crc32(body).to_bytes(_CHECK_BYTES, "little") + body


def unpack(block: bytes) -> tuple[Ints, Floats]:
    """Times and values of a block. Raises `CorruptError` for bytes that `pack` did not make, or a later version's."""
    found = _read(block)
    count = found.summary.count
    return _integers(found.times, count), _floats(found.values, count)


def pack_table(times: Ints, columns: Sequence[Floats]) -> bytes:
    """N rows of several values that share their time stamps, in the order given; without a header, for what is read whole.

    Args:
        times: int64 [N], microseconds. columns: float64 [N] each.
    """
    packed = [_of_values(values) for values in columns]
    return msgspec.msgpack.encode(_Table(FORMAT, len(times), _of_times(times), packed))


def unpack_table(block: bytes, most: int) -> tuple[Ints, list[Floats]]:
    """Times and columns. Raises `CorruptError` for bytes that `pack_table` did not make or that hold more than `most` numbers."""
    try:
        found = msgspec.msgpack.decode(block, type=_Table)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptError(f"a table of samples cannot be read: {error}") from error
    numbers = found.count * (1 + len(found.columns))
    if found.format != FORMAT or not 1 <= found.count <= MOST_SAMPLES or numbers > most:
        raise CorruptError(f"a table of format {found.format} with {numbers} numbers; format {FORMAT} and {most} are allowed")
    try:
        return _integers(found.times, found.count), [_floats(column, found.count) for column in found.columns]
    except (ValueError, IndexError, KeyError, OverflowError, ArithmeticError) as error:
        raise CorruptError(f"a table of samples cannot be unpacked: {error}") from error


def summary(block: bytes) -> Summary:
    """The header alone. Raises `CorruptError`."""
    return _read(block).summary


def _read(block: bytes) -> _Block:
    body = block[_CHECK_BYTES:]
    if zlib.crc32(body).to_bytes(_CHECK_BYTES, "little") != block[:_CHECK_BYTES]:
        raise CorruptError("a block of samples is not what was written")
    try:
        found = msgspec.msgpack.decode(body, type=_Block)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptError(f"a block of samples cannot be read: {error}") from error
    if found.format != FORMAT or not 1 <= found.summary.count <= MOST_SAMPLES:
        raise CorruptError(f"a block of samples has format {found.format}, not {FORMAT}", mend="run the version that wrote it")
    return found


def _summary(times: Ints, values: Floats) -> Summary:
    nan = np.isnan(values)
    known = values[~nan] if nan.any() else values
    nothing = float("nan")
    with np.errstate(all="ignore"):
        least, most, total = (float(known.min()), float(known.max()), float(known.sum())) if len(known) else (nothing,) * 3
    ends = int(times.min()), int(times.max())
    return Summary(len(times), len(known), *ends, least, most, total, float(values[0]), float(values[-1]))


def _of_times(times: Ints) -> _Column:
    steps = times[1:] - times[:-1]
    scale = int(np.gcd.reduce(steps)) if len(steps) else 1
    scale = scale if scale > 0 else 1
    steps //= scale
    return _of_steps(int(times[0]), steps, scale)


def _of_values(values: Floats) -> _Column:
    bits = values.view(np.uint64)
    with np.errstate(over="ignore", invalid="ignore"):
        exact = _as_integers(values)
    if exact is None:
        changed = bits.copy()
        changed[1:] ^= bits[:-1]
        found = [_Column("xor", 8, _compressed(changed, 8))]
    else:
        whole, decimals, odd = exact
        beside = {"decimals": decimals, "odd": odd.astype("<u4").tobytes(), "odd_bits": bits[odd].astype("<u8").tobytes()}
        found = [msgspec.structs.replace(_of_steps(int(whole[0]), whole[1:] - whole[:-1], 1), **beside)]
    if exact is None or found[0].width == 8:
        found.append(_Column("bits", 8, _compressed(bits, 8)))
    return min(found, key=_size)


def _size(column: _Column) -> int:
    return len(column.body) + len(column.odd) + len(column.odd_bits)


def _as_integers(values: Floats) -> tuple[Ints, int, Ints] | None:
    """Integers, the smallest power of ten under which they give (nearly) all values back bit for bit, and the places of the rest.

    None: too many would be left."""
    for decimals in range(_MOST_DECIMALS + 1):
        # a few tell nearly always that a power is too small
        if len(_scaled(values[:_PROBE], decimals)[1]) * _SHARE > min(len(values), _PROBE):
            continue
        whole, odd = _scaled(values, decimals)
        if len(odd) * _SHARE <= len(values):
            # the odd ones take the place of the one before, which costs nothing
            places = np.arange(len(whole))
            places[odd] = 0
            return whole[np.maximum.accumulate(places)], decimals, odd
    return None


def _scaled(values: Floats, decimals: int) -> tuple[Ints, Ints]:
    """Integers, and the places of those that do not give their value back."""
    power = 10.0**decimals
    near = np.rint(values * power)
    far = ~(np.abs(near) < _EXACT)
    if far.any():
        near[far] = 0.0
    whole = near.astype(np.int64)
    return whole, np.flatnonzero((whole / power).view(np.int64) != values.view(np.int64))


def _of_steps(base: int, steps: Ints, scale: int) -> _Column:
    """The column in the form that packs best, from its first integer and the differences; sums wrap around as int64 does.

    Of a long column a part from its middle tells which forms are worth the work."""
    even = _even(steps)
    delta = np.zeros(len(steps) + 1, np.int64)
    delta[1:] = steps
    forms: tuple[Kind, ...] = ("delta", "grid", "plain", "second") if scale == 1 else ("delta", "grid", "second")
    if len(steps) and (steps == even).all():
        forms = ("grid",)
    elif len(delta) > 2 * _TRIAL:
        begin = (len(delta) - _TRIAL) // 2
        trial = delta[begin : begin + _TRIAL].copy()
        trial[0] = 0
        sizes = {kind: len(_formed(kind, trial, even)[1]) for kind in forms}
        forms = tuple(kind for kind in forms if sizes[kind] * 7 <= min(sizes.values()) * 8)
    columns = []
    for kind in forms:
        width, body = _formed(kind, delta, even)
        columns.append(_Column(kind, width, body, 0, scale, base, even if kind == "grid" else 0))
    return min(columns, key=_size)


def _even(steps: Ints) -> int:
    """The step of a grid that they keep to: their mean, unless a gap makes that far from the usual one."""
    if not len(steps):
        return 0
    few = np.sort(steps[:: max(1, len(steps) // _TRIAL)])
    usual = int(few[len(few) // 2])
    mean = round(int(steps.sum()) / len(steps))
    return mean if abs(mean - usual) * _TRIAL <= max(abs(usual), _TRIAL) else usual


def _formed(kind: Kind, delta: Ints, even: int) -> tuple[int, bytes]:
    """Width and body of a column in one form."""
    integers = delta
    if kind == "second":
        integers = delta.copy()
        integers[1:] -= delta[:-1]
    elif kind != "delta":
        integers = np.cumsum(delta)
        if kind == "grid":
            integers -= np.arange(len(delta)) * np.int64(even)
    small = ((integers << 1) ^ (integers >> 63)).view(np.uint64)
    most = int(small.max())
    width = next(size for size in (1, 2, 4, 8) if size == 8 or most < 1 << 8 * size)
    return width, _compressed(small, width)


def _floats(column: _Column, count: int) -> Floats:
    if column.kind in ("bits", "xor"):
        bits = _wide(column, count)
        return (np.bitwise_xor.accumulate(bits) if column.kind == "xor" else bits).view(np.float64)
    values: Floats = _integers(column, count) / 10.0**column.decimals
    values.view(np.uint64)[np.frombuffer(column.odd, "<u4")] = np.frombuffer(column.odd_bits, "<u8")
    return values


def _integers(column: _Column, count: int) -> Ints:
    small = _wide(column, count)
    integers = (small >> np.uint64(1)).view(np.int64) ^ -(small & np.uint64(1)).view(np.int64)
    if column.kind == "second":
        integers = np.cumsum(integers)
    if column.kind in ("second", "delta"):
        integers = np.cumsum(integers)
    elif column.kind == "grid":
        integers = integers + np.arange(count) * np.int64(column.step)
    with np.errstate(over="ignore"):
        return integers * np.int64(column.scale) + np.int64(column.base)


def _compressed(integers: NDArray[np.uint64], width: int) -> bytes:
    """The `width` low bytes of each: all lowest bytes first, then all second ones, …; compressed."""
    if not hasattr(_own, "compress"):
        # making one costs as much as a block
        _own.compress = zstandard.ZstdCompressor(level=_LEVEL, write_content_size=False).compress
    shuffled: bytes = integers.astype(f"<u{width}").view(np.uint8).reshape(-1, width).T.tobytes()
    packed: bytes = _own.compress(shuffled)
    return packed


def _wide(column: _Column, count: int) -> NDArray[np.uint64]:
    size = column.width * count
    try:
        # a frame that names its own size would be given that much, whatever is allowed
        if column.width not in (1, 2, 4, 8) or zstandard.frame_content_size(column.body) not in (-1, size):
            raise CorruptError("a block of samples has another width than it says")
        plain = zstandard.ZstdDecompressor().decompress(column.body, max_output_size=size)
    except zstandard.ZstdError as error:
        raise CorruptError(f"a block of samples cannot be unpacked: {error}") from error
    if len(plain) != size:
        raise CorruptError("a block of samples is shorter than it says")
    whole = np.zeros((count, 8), np.uint8)
    whole[:, : column.width] = np.frombuffer(plain, np.uint8).reshape(column.width, count).T
    return whole.view("<u8").reshape(count)
