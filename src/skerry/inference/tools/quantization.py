"""Smaller and faster models: the optimized graph, and int8 weights and activations. Neither is kept unless it is measured to be
right and no slower.
"""

import contextlib
import logging
import platform
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from skerry.core.clock import SystemClock
from skerry.core.errors import RejectedError
from skerry.inference.engine.opening import open_session
from skerry.inference.engine.seam import EngineOptions, Session
from skerry.inference.tools.compare import Difference, difference, run_in_parts
from skerry.inference.tools.recorded import Feed, random_rows, take_rows
from skerry.inference.tools.sweep import Cost, Timing, cost_of, fixed_batch, rows_in, timing_of

BOUND = 0.05  # of the largest output: a quantized model's mean difference may be so much
ROWS = 256  # made up when nothing is recorded
CALIBRATION_ROWS = 500
_FEWEST_TO_SPLIT = 20
_PER_CHANNEL_OPSET = 13  # the first whose DequantizeLinear has an axis
_INTEGER_OPS = ("QuantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "DynamicQuantizeLSTM")


class Optimized(msgspec.Struct, frozen=True):
    """An optimized graph beside the one that it was made from."""

    file: str
    nodes_before: int
    nodes_after: int
    before: Cost
    after: Cost
    difference: Difference
    portable: bool


class Quantized(msgspec.Struct, frozen=True):
    """An int8 model beside the one that it was made from.

    Attributes:
        file: empty when it was refused.
        kind: `dynamic` or `static`.
        refused: why it was not kept; empty when it was.
        difference: over `difference.rows` rows that it was not calibrated on, where there were enough.
        relative: mean difference as a fraction of the largest output.
        speedup: p50 before divided by p50 after, runs of both by turns.
        inputs: `recorded` or `random`.
    """

    file: str
    kind: str
    refused: str
    before: Timing
    after: Timing
    size_before: int
    size_after: int
    difference: Difference
    relative: float
    speedup: float
    inputs: str


def optimize_model(path: Path, to: Path, level: str = "all", seconds: float = 1.0) -> Optimized:
    """Write the graph as the engine optimizes it, and compare the two in processes of their own.

    Args:
        level: `all` fits it to this CPU; `extended` and `basic` also run on others.
        seconds: of measuring each.

    Raises `RejectedError`: it does not load, cannot be written, or answers otherwise than the original (then no file is left).
    """
    import onnx  # late: few commands need it

    _writable(to, path)
    with tempfile.TemporaryDirectory(prefix=".skerry-", dir=to.parent) as folder:
        made = Path(folder) / to.name
        _write_optimized(path, made, level)
        first, second = EngineOptions(optimize=level), EngineOptions(optimize="none")
        before, after = cost_of(path, first, seconds=seconds), cost_of(made, second, seconds=seconds)
        one, other = open_session(path, EngineOptions(optimize="none")), open_session(made, second)
        try:
            fixed = fixed_batch(one)
            feed = random_rows(one, 16 if fixed is None else fixed)
            apart = difference(one.run(feed), other.run(feed), rows_in(feed))
        finally:
            one.close()
            other.close()
        if apart.max_abs > 1e-3 * max(1.0, apart.largest):
            raise RejectedError(
                f"the optimized graph is off by up to {apart.max_abs:.3g}", where=str(path), mend="try --level basic"
            )
        counts = [len(onnx.load(each, load_external_data=False).graph.node) for each in (path, made)]
        made.replace(to)
    return Optimized(str(to), counts[0], counts[1], before, after, apart, level != "all")


def _write_optimized(path: Path, to: Path, level: str) -> None:
    import onnxruntime as ort  # late: it takes a tenth of a second

    open_session(path, EngineOptions(optimize="none")).close()  # what does not load is told in this room's words
    levels = {"all": "ORT_ENABLE_ALL", "extended": "ORT_ENABLE_EXTENDED", "basic": "ORT_ENABLE_BASIC"}
    if level not in levels:
        raise RejectedError(f"{level!r} is no level", where="level", mend=f"allowed: {', '.join(levels)}")
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, levels[level])
    options.optimized_model_filepath = str(to)
    options.log_severity_level = 4
    try:
        with _without_initializer_inputs(path) as ready:
            ort.InferenceSession(str(ready), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise RejectedError(f"the graph cannot be optimized: {str(error).splitlines()[0]:.200}", where=str(path)) from error


@contextlib.contextmanager
def _without_initializer_inputs(path: Path) -> Iterator[Path]:
    """The model with no initializer among its inputs, as IR version 3 wants it: one that is folded away would stay behind as an
    input that every run must give. A copy, beside the model where it has external data."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    constants = {each.name for each in model.graph.initializer}
    kept = [each for each in model.graph.input if each.name not in constants]
    if len(kept) == len(model.graph.input):
        yield path
        return
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.ir_version = max(model.ir_version, 4)  # the first that allows it
    apart = any(each.data_location == onnx.TensorProto.EXTERNAL for each in model.graph.initializer)
    with tempfile.NamedTemporaryFile(prefix=".skerry-", suffix=".onnx", dir=path.parent if apart else None) as copy:
        copy.write(model.SerializeToString())
        copy.flush()
        yield Path(copy.name)


def quantize_model(
    path: Path,
    to: Path,
    *,
    static: bool = False,
    data: Feed | None = None,
    bound: float = BOUND,
    min_speedup: float = 1.0,
    batch: int = 1,
    seconds: float = 2.0,
) -> Quantized:
    """Make an int8 model, compare it with the original, and keep it only if it is near enough and not slower.

    Args:
        static: activations too are quantized beforehand, by their range over `data`; else while it runs.
        data: recorded rows; the first half calibrates, the second is compared. Made-up rows without.
        bound: most of the mean difference, as a fraction of the largest output.
        min_speedup: least p50 before divided by p50 after, at `batch` rows a run.

    What misses a bound is told in `refused`, and there is no file. Raises `RejectedError`: it does not load, or has nothing to
    quantize.
    """
    _writable(to, path)
    original = open_session(path, EngineOptions())
    try:
        fixed = fixed_batch(original)
        rows = data if data is not None else random_rows(original, ROWS if fixed is None else fixed)
        calibration, compared = _split(rows)
        with tempfile.TemporaryDirectory(prefix=".skerry-", dir=to.parent) as folder:
            made = Path(folder) / to.name
            _make(path, made, static, _batches(calibration, fixed))
            sizes = path.stat().st_size, made.stat().st_size
            candidate = _open_made(made, path)
            try:
                apart = difference(run_in_parts(original, compared), run_in_parts(candidate, compared), rows_in(compared))
                feed = take_rows(compared, 0, batch if fixed is None else fixed)
                before, after = time_by_turns(original, candidate, feed, seconds)
            finally:
                candidate.close()
            relative = apart.mean_abs / apart.largest if apart.largest else apart.mean_abs
            speedup = before.p50_ms / after.p50_ms if after.p50_ms else 0.0
            refused = _refusal(relative, bound, speedup, min_speedup)
            if not refused:
                made.replace(to)
    finally:
        original.close()
    return Quantized(
        "" if refused else str(to), "static" if static else "dynamic", refused, before, after, *sizes, apart, relative, speedup,
        "random" if data is None else "recorded",
    )  # fmt: skip


def _open_made(made: Path, path: Path) -> Session:
    try:
        return open_session(made, EngineOptions())
    except RejectedError as error:
        raise RejectedError(f"its int8 form does not load: {error.message}", where=str(path), mend="use it as it is") from error


def _refusal(relative: float, bound: float, speedup: float, least: float) -> str:
    if not relative <= bound:  # NaN too is refused
        return f"its outputs are off by {relative:.2%} of the largest on average, the bound is {bound:.2%}"
    if speedup < least:
        return f"it runs {speedup:.2f} × as fast, at least {least:.2f} is wanted"
    return ""


def _split(rows: Feed) -> tuple[Feed, Feed]:
    """Rows to calibrate on, and others to compare; the same where they are few."""
    count = rows_in(rows)
    if count < _FEWEST_TO_SPLIT:
        return rows, rows
    half = count // 2
    return take_rows(rows, 0, min(half, CALIBRATION_ROWS)), take_rows(rows, half, count - half)


def _batches(rows: Feed, fixed: int | None) -> list[Feed]:
    size = fixed or 32
    return [take_rows(rows, at, size if fixed else min(size, rows_in(rows) - at)) for at in range(0, rows_in(rows), size)]


class _Reader:
    """What onnxruntime's calibration asks for its rows."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> Feed | None:
        """The next feed, None at the end."""
        return next(self._feeds, None)


def _make(path: Path, to: Path, static: bool, feeds: Sequence[Feed]) -> None:
    """Write the int8 model. Raises `RejectedError` when there is nothing to quantize."""
    import onnx
    from onnxruntime import quantization  # late: with onnx it takes a second
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory(prefix="skerry-quantize-") as folder, _silent():
        ready = Path(folder) / "ready.onnx"
        try:
            try:
                with _without_initializer_inputs(path) as plain:
                    quant_pre_process(str(plain), str(ready), skip_symbolic_shape=True)
            except Exception:  # noqa: BLE001 - it helps, and is not needed: some graphs have shapes that it cannot infer
                ready = path
            opsets = {each.domain: each.version for each in onnx.load(ready, load_external_data=False).opset_import}
            fine = opsets.get("", 0) >= _PER_CHANNEL_OPSET
            if static:
                reader = type("Reader", (_Reader, quantization.CalibrationDataReader), {})(feeds)
                quantization.quantize_static(
                    str(ready), str(to), reader, quant_format=quantization.QuantFormat.QDQ, per_channel=fine,
                    activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
                    reduce_range=saturates(),
                )  # fmt: skip
            else:
                quantization.quantize_dynamic(
                    str(ready), str(to), per_channel=fine, weight_type=quantization.QuantType.QInt8, reduce_range=saturates()
                )
        except Exception as error:
            raise RejectedError(f"the model cannot be quantized: {' '.join(str(error).split())[:200]}", where=str(path)) from error
        kinds = [node.op_type for node in onnx.load(to, load_external_data=False).graph.node]
    if not any(kind in _INTEGER_OPS for kind in kinds):
        named = ", ".join(sorted(set(kinds))[:5])
        raise RejectedError(
            f"the model has nothing to quantize: its operators are {named}", where=str(path), mend="use it as it is"
        )


def saturates() -> bool:
    """Whether this CPU adds two int8 products in 16 bits, which overflow unless weights keep to 7 bits: x86 without VNNI.

    https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
    """
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    try:
        return "_vnni" not in Path("/proc/cpuinfo").read_text()
    except OSError:
        return True


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without the advice that onnxruntime's tools log."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


def time_by_turns(one: Session, other: Session, feed: Feed, seconds: float) -> tuple[Timing, Timing]:
    """Time two models on the same feed by turns, so that what else the machine does hits both."""
    clock = SystemClock()
    took: tuple[list[float], list[float]] = ([], [])
    for session in (one, other):
        session.run(feed)
    started = clock.monotonic()
    while len(took[0]) < 10 or (clock.monotonic() - started < seconds and len(took[0]) < 20_000):
        for session, times in zip((one, other), took, strict=True):
            before = clock.monotonic()
            session.run(feed)
            times.append(clock.monotonic() - before)
    return timing_of(took[0], rows_in(feed)), timing_of(took[1], rows_in(feed))


def _writable(to: Path, source: Path) -> None:
    if not to.parent.is_dir():
        raise RejectedError("the directory does not exist", where=str(to.parent), mend="make it, or name another with --out")
    if to.exists() and source.exists() and to.samefile(source):
        raise RejectedError("this would overwrite the model itself", where=str(to), mend="name another with --out")


def quantized_table(found: Quantized) -> dict[str, Any]:
    """The figures of a quantized model beside the original's, as rows of a table: name → (before, after)."""
    return {
        "size, KiB": (found.size_before / 1024, found.size_after / 1024),
        "p50, ms": (found.before.p50_ms, found.after.p50_ms),
        "p99, ms": (found.before.p99_ms, found.after.p99_ms),
        "rows/s": (found.before.rows_per_second, found.after.rows_per_second),
    }
