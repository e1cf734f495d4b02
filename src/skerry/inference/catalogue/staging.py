"""From a file to a staged version, and from a staged one to the active: each only after a trial in a child process."""

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from skerry.core.errors import RejectedError
from skerry.inference.catalogue.memory import check_memory
from skerry.inference.catalogue.trial import Report, try_model
from skerry.inference.catalogue.version import Version
from skerry.inference.catalogue.versions import Catalogue
from skerry.inference.host import EngineHost

MAX_SLOWDOWN = 3.0
_NOISE_MS = 0.5  # runs that are shorter are never too slow: on a shared box their ratio is noise


def stage(
    catalogue: Catalogue,
    name: str,
    file: Path,
    version: str = "",
    *,
    labels: Sequence[str] = (),
    threshold: float | None = None,
    features: Sequence[str] = (),
    convert: bool = False,
    host: EngineHost | None = None,
) -> Version:
    """Try a file and add it as STAGED. Blocks for the time of the trial.

    Args:
        version: the next number where empty.
        labels, threshold, features: over those in the model's metadata.
        convert: bring the model to a newer opset first; refused unless the outputs agree.
        host: what runs the trial; one of its own where there is none.

    Raises `RejectedError`, `InsufficientResources`, `ConfigError` (the name).
    """
    with TemporaryDirectory(prefix="skerry-model-") as folder:
        converted = Path(folder) / "converted.onnx" if convert else None
        # tried before it is stored, so that what is refused leaves nothing behind, and again by `activate` where it is kept
        report = try_model(file, convert_to=converted, host=host)
        check_memory(catalogue, name, report.memory, str(file))
        sha256, size = catalogue.store(converted or file)
    row = report.version(name, version, sha256, size)
    named = {"labels": tuple(labels) or _texts(report, "labels"), "features": tuple(features) or _texts(report, "features")}
    return catalogue.add(msgspec.structs.replace(row, threshold=_number(report) if threshold is None else threshold, **named))


def activate(
    catalogue: Catalogue,
    name: str,
    version: str,
    max_slowdown: float = MAX_SLOWDOWN,
    *,
    cache: Path | None = None,
    host: EngineHost | None = None,
) -> Version:
    """Try a version where it is kept, hold it to what the active one showed, and only then move the pointer.

    Args:
        cache: where workers look for the optimized graph: the trial leaves it there. host: as in `stage`.

    A version that fails is marked so, and the pointer stays. Raises `ConfigError`, `RejectedError`.
    """
    row = catalogue.find(f"{name}@{version}")
    active = catalogue.active(name)
    try:
        report = try_model(catalogue.path(row), where=row.reference, engine=row.engine or "auto", cache=cache, host=host)
        check_memory(catalogue, name, report.memory, row.reference)
        if active is not None and active.version != row.version:
            reason = misfit(active, report, max_slowdown)
            if reason:
                raise RejectedError(reason, where=row.reference, mend=f"{active.reference} stays active")
    except RejectedError as error:
        catalogue.fail(name, row.version, error.message)
        raise
    return catalogue.activate(name, row.version)


def misfit(active: Version, report: Report, max_slowdown: float = MAX_SLOWDOWN) -> str:
    """Why a new version cannot stand in for the active one, by what the trials of both saw; empty when it can."""
    if not active.inputs:
        return ""  # of a version in the configuration nothing is recorded
    if [(each.name, each.dtype, each.shape[1:]) for each in active.inputs] != [
        (each.name, each.dtype, each.shape[1:]) for each in report.inputs
    ]:
        return "its inputs are not those of the active version"
    missing = {each.name for each in active.outputs} - {each.name for each in report.outputs}
    if missing:
        return f"it has no output {', '.join(sorted(missing))}, which the active version has"
    if report.nan and not active.nan:
        return "it answers NaN where the active version does not"
    if report.latency_ms > max(_NOISE_MS, active.latency_ms * max_slowdown):
        took = f"{report.latency_ms:.2f} ms a run, the active version {active.latency_ms:.2f} ms"
        return f"it takes {took} (bound {max_slowdown:g} times)"
    return ""


def _texts(report: Report, key: str) -> tuple[str, ...]:
    try:
        found = json.loads(report.metadata.get(key, "[]"))
    except ValueError:
        return ()
    return tuple(map(str, found)) if isinstance(found, list) else ()


def _number(report: Report) -> float | None:
    try:
        return float(report.metadata["threshold"])
    except (KeyError, ValueError):
        return None
