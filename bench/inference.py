"""The rows "inference": what `EdgeInference` costs beside plain onnxruntime on the same model, in turn in one process."""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, checker, helper, numpy_helper, save

from bench.model import write_mlp
from bench.rows import Options, Row, Say, median_row
from skerry import EdgeInference
from skerry.runtime import run_loop

CALLERS = 64
WIDTH, CHANNELS, SAMPLES = 128, 24, 8192
RATE = 200.0
BATCHES = (1, 4, 16, 32, 64, 128, 256, 512)
Feed = dict[str, np.ndarray]


def write_cnn(path: Path) -> None:
    """`x` `[N, 1, 128]` → `y` `[N, 4]` through three 1-D convolutions: about 25 µs a sample."""
    random = np.random.default_rng(3)
    nodes, weights = [], []
    last, width = "x", 1
    for at in range(3):
        kernel = random.normal(0, 0.2, (CHANNELS, width, 5)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"k{at}"))
        nodes.append(helper.make_node("Conv", [last, f"k{at}"], [f"c{at}"], pads=[2, 2]))
        nodes.append(helper.make_node("Relu", [f"c{at}"], [f"r{at}"]))
        last, width = f"r{at}", CHANNELS
    weights.append(numpy_helper.from_array(random.normal(0, 0.2, (CHANNELS, 4)).astype(np.float32), "w"))
    nodes += [
        helper.make_node("GlobalAveragePool", [last], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["y"]),
    ]
    write(path, nodes, weights, ["N", 1, WIDTH], ["N", 4])


def write_wide(path: Path, layers: int = 8, width: int = 640) -> None:
    """A stack of matrices that takes about a millisecond for one row."""
    random = np.random.default_rng(4)
    weights = [numpy_helper.from_array(random.normal(0, 0.04, (width, width)).astype(np.float32), f"w{at}") for at in range(layers)]
    names = ["x", *(f"h{at}" for at in range(layers - 1)), "y"]
    nodes = [helper.make_node("MatMul", [names[at], f"w{at}"], [names[at + 1]]) for at in range(layers)]
    write(path, nodes, weights, ["N", width], ["N", width])


def write(path: Path, nodes: list[Any], weights: list[Any], shape: list[Any], out: list[Any]) -> None:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    checker.check_model(model)
    save(model, path)


def raw_session(path: Path) -> ort.InferenceSession:
    """Plain onnxruntime, set as a careful user would: one thread, no spinning."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def raw_rate(session: ort.InferenceSession, feed: Feed, batch: int, seconds: float) -> float:
    """Rows a second of plain runs of `batch` rows."""
    rows = {name: array[:batch] for name, array in feed.items()}
    session.run(None, rows)
    runs, started = 0, time.perf_counter()
    while (spent := time.perf_counter() - started) < seconds or not runs:
        session.run(None, rows)
        runs += 1
    return runs * batch / spent


async def callers_rate(model: EdgeInference, feed: Feed, seconds: float) -> float:
    """Answers a second that 64 tasks get, each asking again as soon as it has its answer."""
    ends = time.perf_counter() + seconds

    async def call(at: int) -> int:
        row = {name: array[at : at + 1] for name, array in feed.items()}
        count = 0
        while time.perf_counter() < ends:
            await model.infer(row)
            count += 1
        return count

    started = time.perf_counter()
    counts = await asyncio.gather(*(call(at) for at in range(CALLERS)))
    return sum(counts) / (time.perf_counter() - started)


async def stream_rate(model: EdgeInference, feed: Feed, seconds: float) -> float:
    """Rows a second of `stream` over one array."""
    rows, started = 0, time.perf_counter()
    while (spent := time.perf_counter() - started) < seconds or not rows:
        async for first, end, _ in model.stream(feed):
            rows += end - first
    return rows / spent


async def concurrent(options: Options, say: Say) -> list[Row]:
    return await alone(_concurrent, write_cnn, options, say)


async def _concurrent(path: Path, options: Options, say: Say) -> list[Row]:
    raw, feed = raw_session(path), {"x": rows_of(1, WIDTH)}
    found: dict[str, list[float]] = {"skerry": [], "raw": []}
    async with await EdgeInference.load(path) as model:
        await model.optimize(feed)
        for _ in range(options.rounds):
            found["raw"].append(raw_rate(raw, feed, CALLERS, options.seconds / 2))
            found["skerry"].append(await callers_rate(model, feed, options.seconds / 2))
            say(f"  {CALLERS} callers {found['skerry'][-1]:,.0f}/s, raw {found['raw'][-1]:,.0f}/s, {model.batching}")
    figure = f"answers/s, {CALLERS} callers, 1-D CNN (peer: raw onnxruntime at batch {CALLERS})"
    return [median_row("concurrent", figure, "/s", "ratio ≥ 0.65", found["skerry"], found["raw"])]


async def streaming(options: Options, say: Say) -> list[Row]:
    return await alone(_streaming, write_cnn, options, say)


async def _streaming(path: Path, options: Options, say: Say) -> list[Row]:
    raw, feed = raw_session(path), {"x": rows_of(1, WIDTH)}
    found: dict[str, list[float]] = {"skerry": [], "raw": []}
    async with await EdgeInference.load(path) as model:
        await model.optimize(feed)
        rates = {batch: raw_rate(raw, feed, batch, 0.1) for batch in BATCHES}
        best = max(rates, key=lambda batch: rates[batch])
        for _ in range(options.rounds):
            found["raw"].append(raw_rate(raw, feed, best, options.seconds / 2))
            found["skerry"].append(await stream_rate(model, feed, options.seconds / 2))
            say(f"  stream {found['skerry'][-1]:,.0f}/s, raw at {best} {found['raw'][-1]:,.0f}/s, {model.batching}")
    figure = "rows/s, stream mode, 1-D CNN (peer: raw onnxruntime at its best batch)"
    return [median_row("stream", figure, "/s", "ratio ≥ 0.85", found["skerry"], found["raw"])]


async def overhead(options: Options, say: Say) -> list[Row]:
    return await alone(_overhead, write_tiny, options, say)


async def _overhead(path: Path, options: Options, say: Say) -> list[Row]:
    raw, feed = raw_session(path), {"features": rows_of(24)}
    found = []
    async with await EdgeInference.load(path) as model:
        await model.optimize(feed)
        for _ in range(options.rounds):
            plain = raw_rate(raw, feed, model.batching.max_batch, options.seconds / 4)
            ours = await stream_rate(model, feed, options.seconds / 4)
            found.append(1e6 / ours - 1e6 / plain)
            say(f"  {1e6 / ours:.2f} µs a row, raw {1e6 / plain:.2f} µs, {model.batching}")
    return [median_row("overhead", "added to a row in stream mode, tiny MLP", "µs", "≤ 2", found)]


async def one_caller(options: Options, say: Say) -> list[Row]:
    return await alone(_one_caller, write_tiny, options, say)


async def _one_caller(path: Path, options: Options, say: Say) -> list[Row]:
    raw, row = raw_session(path), {"features": rows_of(24)[:1]}
    added, plain = [], []
    async with await EdgeInference.load(path) as model:
        for _ in range(options.rounds):
            ours_s, raw_s = [], []
            ends = time.perf_counter() + options.seconds / 4
            while time.perf_counter() < ends or not raw_s:  # in turn, call by call: both meet the same moments of the machine
                started = time.perf_counter()
                raw.run(None, row)
                between = time.perf_counter()
                await model.infer(row)
                ours_s.append(time.perf_counter() - between)
                raw_s.append(between - started)
            plain.append(1e6 * statistics.median(raw_s))
            added.append(1e6 * statistics.median(ours_s) - plain[-1])
            say(f"  raw run {plain[-1]:.1f} µs, infer adds {added[-1]:.1f} µs")
    return [
        median_row("one_caller", "added to a lone run, batch 1, tiny MLP (peer: the raw run itself)", "µs", "≤ 30", added, plain)
    ]


async def paced(call: Callable[[], Awaitable[Any]], seconds: float) -> float:
    """CPU of this process in per cent of a core, at 200 calls a second."""
    started, cpu, done = time.perf_counter(), time.process_time(), 0
    while (spent := time.perf_counter() - started) < seconds:
        await call()
        done += 1
        await asyncio.sleep(max(0.0, done / RATE - (time.perf_counter() - started)))
    return 100 * (time.process_time() - cpu) / spent


async def idle_cpu(options: Options, say: Say) -> list[Row]:
    return await alone(_idle_cpu, write_wide, options, say)


async def _idle_cpu(path: Path, options: Options, say: Say) -> list[Row]:
    raw, row = raw_session(path), {"x": rows_of(640)[:1]}
    found: dict[str, list[float]] = {"skerry": [], "raw": []}

    async def plain() -> None:
        raw.run(None, row)

    async with await EdgeInference.load(path) as model:
        for _ in range(options.rounds):
            found["raw"].append(await paced(plain, options.seconds / 2))
            found["skerry"].append(await paced(lambda: model.infer(row), options.seconds / 2))
            say(f"  CPU {found['skerry'][-1]:.1f} %, raw {found['raw'][-1]:.1f} %")
    figure = "CPU of a core at 200 runs/s of a 1 ms model (peer: tuned raw onnxruntime)"
    return [median_row("cpu_200", figure, "%", "ratio ≤ 1.3", found["skerry"], found["raw"])]


def rows_of(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).normal(0, 1, (SAMPLES, *shape)).astype(np.float32)


def write_tiny(path: Path) -> None:
    write_mlp(path, 24)


async def alone(
    measure: Callable[[Path, Options, Say], Coroutine[Any, Any, list[Row]]],
    make: Callable[[Path], None],
    options: Options,
    say: Say,
) -> list[Row]:
    """Measure on a uvloop of its own, as every process of skerry has it, while the loop of the bench waits."""
    with tempfile.TemporaryDirectory(prefix="skerry-bench-") as folder:
        path = Path(folder) / "model.onnx"
        make(path)
        return await asyncio.to_thread(run_loop, measure(path, options, say))


ROWS: dict[str, Callable[[Options, Say], Awaitable[list[Row]]]] = {
    "concurrent": concurrent,
    "stream": streaming,
    "overhead": overhead,
    "one_caller": one_caller,
    "cpu_200": idle_cpu,
}
