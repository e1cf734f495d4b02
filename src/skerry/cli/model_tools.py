"""`skerry model verify | bench | optimize | quantize`: work on a model file, or on a model of the catalogue.

The work is done in a child process: a model that crashes the engine ends that one, and this says so.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skerry.cli.session import Paper, Session, clean, number, session
from skerry.core.errors import RejectedError, SkerryError
from skerry.core.units import counted

if TYPE_CHECKING:
    from skerry.inference import Difference

ModelArgument = Annotated[str, typer.Argument(metavar="FILE|NAME[@VERSION]", help="A model file, or a model of the catalogue.")]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="Recorded input rows: CSV, JSONL, Parquet, or npz with an array per input.")
]
EngineOption = Annotated[
    str, typer.Option("--engine", help="onnxruntime or openvino; default: as a node runs it, for a file the faster one.")
]
OutOption = Annotated[Path | None, typer.Option("--out", "-o", help="The file to write.")]

_ENGINES = ("onnxruntime", "openvino")
_OWN = "onnxruntime"
"""The engine of what optimize and quantize write: its own graphs and operators."""


def register(group: typer.Typer) -> None:
    """Add the commands to `skerry model`."""
    for command in (verify, bench, optimize, quantize):
        group.command()(command)


def verify(
    context: typer.Context,
    model: ModelArgument,
    expect: Annotated[Path | None, typer.Option(help="npz of inputs and the outputs that they must give.")] = None,
    record: Annotated[Path | None, typer.Option(help="Write such a file from what the model answers now.")] = None,
    digest: Annotated[str, typer.Option("--sha256", help="The digest that the file must have.")] = "",
    data: DataOption = None,
    engine: EngineOption = "",
) -> None:
    """Check a model: digest, structure, loads, runs, batched as one by one, as the reference evaluator, as recorded."""
    here = session(context)
    path, engine = _resolve(here, model, engine)
    from skerry.inference import Verify  # late: it brings numpy

    found = Verify(str(path), engine, _text(data), _text(expect), _text(record), digest).run(model)
    failed = [check for check in found.checks if check.state == "failed"]

    def draw(paper: Paper) -> None:
        paper.table(("check", "result", "detail"), [[check.name, check.state, check.detail] for check in found.checks])
        if found.recorded:
            paper.line(f"{counted(found.recorded, 'row')} recorded in {record}")

    here.show({"model": model, "file": str(path), "ok": not failed, **_built(found)}, draw)
    if failed:
        told = f"{len(failed)} of {len(found.checks)} checks failed: {failed[0].name}: {failed[0].detail}"
        raise RejectedError(told, where=model)


def bench(
    context: typer.Context,
    model: ModelArgument,
    batches: Annotated[str, typer.Option(help="Batch sizes, with commas between.")] = "1,2,4,8,16,32,64,128",
    threads: Annotated[str, typer.Option(help="Numbers of threads, with commas between; default 1, 2, 4 … up to the cores.")] = "",
    seconds: Annotated[float, typer.Option(help="Of measuring, for all settings together.", min=0.0, max=3600)] = 10.0,
    max_latency: Annotated[str, typer.Option(help="Recommend only settings whose p99 is within this, such as 5ms.")] = "",
    data: DataOption = None,
    plot: Annotated[Path | None, typer.Option(help="Draw it into a .png, .svg or .pdf.")] = None,
    engine: EngineOption = "",
) -> None:
    """Measure latency and throughput over batch sizes and threads, and recommend a setting."""
    here = session(context)
    path, engine = _resolve(here, model, engine)
    sizes, counts = _numbers("--batches", batches, 65_536), _numbers("--threads", threads, 256) if threads else ()
    bound = _milliseconds(max_latency) if max_latency else None
    _remark_on(here, data)
    from skerry.inference import Bench, plot_sweep  # late: they bring numpy

    with _progress(here, "measuring") as progress:
        answer = Bench(str(path), engine, _text(data), sizes, counts, seconds, bound).run(model, progress)
    found = answer.sweep
    if plot:
        plot_sweep(found, model, plot)

    def draw(paper: Paper) -> None:
        columns = ("threads", "batch", "p50 ms", "p99 ms", "rows/s", "")
        rows = [
            [point.threads, point.batch, number(point.timing.p50_ms, 3), number(point.timing.p99_ms, 3),
             number(point.timing.rows_per_second), "recommended" if point == found.recommended else ""]
            for point in found.points
        ]  # fmt: skip
        paper.table(columns, rows, right=columns[:5])
        chosen = found.recommended
        late = bound is not None and chosen.timing.p99_ms > bound
        paper.line(f"recommended: worker_threads = {chosen.threads}, max_batch = {chosen.batch}{_remark(found.batching)}")
        paper.line(f"engine {answer.engine}, batch {answer.batch}")
        if late:
            paper.line(f"no setting has a p99 within {max_latency}; this is the one of least latency")
        if plot:
            paper.line(f"drawn in {plot}")

    here.show({"model": model, "file": str(path), "engine": answer.engine, "batch": answer.batch, "inputs": found.inputs,
               "batching": found.batching, "points": found.points, "recommended": found.recommended,
               "plot": str(plot) if plot else None}, draw)  # fmt: skip


def optimize(
    context: typer.Context,
    model: ModelArgument,
    out: OutOption = None,
    level: Annotated[str, typer.Option(help="all (for this CPU), extended or basic.")] = "all",
    seconds: Annotated[float, typer.Option(help="Of measuring before, and after.", min=0.0, max=600)] = 1.0,
) -> None:
    """Write the optimized graph, and show load time, memory and latency before and after."""
    here = session(context)
    path, _ = _resolve(here, model)
    to = out or _beside(path, model, "optimized")
    from skerry.inference import Optimize  # late: it brings numpy

    found = Optimize(str(path), str(to), level, seconds).run(model)

    def draw(paper: Paper) -> None:
        before, after = found.before, found.after
        rows = [
            ["nodes", number(found.nodes_before), number(found.nodes_after)],
            ["load, ms", number(before.load_ms, 1), number(after.load_ms, 1)],
            ["memory, MiB", number(before.memory / 2**20, 1), number(after.memory / 2**20, 1)],
            ["p50, ms", number(before.timing.p50_ms, 3), number(after.timing.p50_ms, 3)],
            ["p99, ms", number(before.timing.p99_ms, 3), number(after.timing.p99_ms, 3)],
        ]
        paper.table(("", "before", "after"), rows, right=("before", "after"))
        paper.line(f"outputs: {_apart(found.difference)}")
        paper.line(f"engine {_OWN}")
        paper.line(
            f"written: {clean(found.file)}{'' if found.portable else ' (for CPUs like this one; load it with optimize = none)'}"
        )

    here.show({"model": model, "engine": _OWN, **_built(found)}, draw)


def quantize(
    context: typer.Context,
    model: ModelArgument,
    dynamic: Annotated[bool, typer.Option("--dynamic", help="int8 weights; activations while it runs. The default.")] = False,
    static: Annotated[bool, typer.Option("--static", help="Activations too, by their range over --data.")] = False,
    data: DataOption = None,
    out: OutOption = None,
    bound: Annotated[float, typer.Option(help="Most of the mean difference, as a fraction of the largest output.", min=0.0)] = 0.05,
    min_speedup: Annotated[float, typer.Option(help="Least speed, as a multiple of the original's.", min=0.0)] = 1.0,
    batch: Annotated[int, typer.Option(help="Rows of a run that is timed.", min=1, max=65_536)] = 1,
    seconds: Annotated[float, typer.Option(help="Of measuring.", min=0.0, max=600)] = 2.0,
) -> None:
    """Make an int8 model; it is kept only if it is near enough to the original and not slower."""
    if dynamic and static:
        raise typer.BadParameter("--dynamic and --static exclude each other")
    here = session(context)
    path, _ = _resolve(here, model)
    to = out or _beside(path, model, "int8")
    _remark_on(here, data)
    from skerry.inference import Quantize, quantized_table  # late: they bring numpy

    found = Quantize(str(path), str(to), _text(data), static, bound, min_speedup, batch, seconds).run(model)

    def draw(paper: Paper) -> None:
        digits = {"size, KiB": 0, "rows/s": 0}
        table = quantized_table(found)
        rows = [[name, *(number(value, digits.get(name, 3)) for value in pair)] for name, pair in table.items()]
        paper.table(("", "original", f"int8 {found.kind}"), rows, right=("original", f"int8 {found.kind}"))
        paper.line(f"outputs: {_apart(found.difference)}, mean {found.relative:.2%} of the largest (bound {bound:.2%})")
        paper.line(
            f"speed: {found.speedup:.2f} × the original's (at least {min_speedup:.2f}), {batch} row{'s' * (batch > 1)} a run"
        )
        paper.line(f"engine {_OWN}")
        if found.file:
            paper.line(f"written: {clean(found.file)}")

    here.show({"model": model, "engine": _OWN, **_built(found)}, draw)
    if found.refused:
        raise RejectedError(
            f"the int8 model is refused: {found.refused}", where=model, mend="keep the original, or set other bounds"
        )


def _resolve(here: Session, model: str, engine: str = "") -> tuple[Path, str]:
    """The file that a path or a reference to the catalogue means, and the engine: the one named, else the one that a node runs it
    with; empty where measuring is to say. Raises `RejectedError`, `ConfigError`, and of typer for an engine that there is not."""
    if engine not in ("", *_ENGINES):
        raise typer.BadParameter(f"--engine is {engine!r}; there are {', '.join(_ENGINES)}")
    path = Path(model)
    if path.is_file():
        return path, engine
    if path.suffix == ".onnx" or "/" in model:
        raise RejectedError("the model file does not exist", where=model, mend="mend the path")
    catalogue = here.config(with_models=False).catalogue()
    version = catalogue.find(model)
    file = catalogue.path(version)
    if not file.is_file():
        raise RejectedError("the model file does not exist", where=str(file), mend=f"mend `file` of model {version.name}")
    tables = {(each.name, each.version): each.engine for each in catalogue.configs()}
    return file, engine or tables[version.name, version.version]


def _beside(path: Path, model: str, suffix: str) -> Path:
    """Where a model is written when nothing is said: beside a file, for a reference in this directory."""
    if Path(model).is_file():
        return path.with_name(f"{path.stem}.{suffix}.onnx")
    return Path(f"{model.replace('@', '-')}.{suffix}.onnx")


def _remark_on(here: Session, data: Path | None) -> None:
    """A word about figures that come from made-up rows."""
    if data is None:
        here.note("no --data: random rows stand for the real ones, so trust differences and figures less")


def _text(path: Path | None) -> str:
    return "" if path is None else str(path)


def _numbers(option: str, text: str, most: int) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and 1 <= int(part) <= most for part in parts):
        raise typer.BadParameter(f"{option} is {text!r}; give numbers from 1 to {most} with commas between")
    return tuple(int(part) for part in parts)


def _milliseconds(text: str) -> float:
    from skerry.core.units import parse_duration

    try:
        return parse_duration(text) / 1000
    except SkerryError as error:
        raise typer.BadParameter(f"--max-latency: {error}") from error


@contextlib.contextmanager
def _progress(here: Session, word: str) -> Iterator[Callable[[int, int], None] | None]:
    """A line on stderr that counts up, on a terminal only."""
    if here.quiet or not sys.stderr.isatty():
        yield None
        return

    def tell(done: int, whole: int) -> None:
        sys.stderr.write(f"\r{word}: {done} of {whole}")
        sys.stderr.flush()

    try:
        yield tell
    finally:
        sys.stderr.write("\r\033[K")
        sys.stderr.flush()


def _apart(found: "Difference") -> str:
    agreement = "" if found.agreement is None else f", labels agree in {found.agreement:.2%}"
    return f"max difference {found.max_abs:.3g}, mean {found.mean_abs:.3g} over {counted(found.rows, 'row')}{agreement}"


def _remark(text: str) -> str:
    return f" ({text})" if text else ""


def _built(found: object) -> dict[str, Any]:
    import msgspec  # late: --help goes without

    built: dict[str, Any] = msgspec.to_builtins(found)
    return built
