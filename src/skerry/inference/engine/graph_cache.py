"""Optimized graphs on disk: by content, engine version and CPU; bounded, and never needed."""

import contextlib
import hashlib
import mmap
import os
import platform
import tempfile
from pathlib import Path

from skerry.inference.engine.seam import EngineOptions

MOST_CACHED = 64  # files in a cache directory; the oldest go
_EXTERNAL = b"\x0a\x08location"  # the key of external_data, as protobuf writes it
_MOST_INLINE = 1 << 30  # a larger graph is not written a second time
_PIECE = 1 << 20


def scratch_for(kept: Path | None) -> str | None:
    """A file beside a graph's place that the engine may write it to; None where nothing can be kept."""
    if kept is None:
        return None
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=kept.parent, prefix=".", suffix=".tmp")
    except OSError:
        return None
    os.close(handle)
    return name


def keep(written: Path, kept: Path) -> None:
    """Put a whole file in place, and let the oldest go."""
    with contextlib.suppress(OSError):
        with written.open("rb") as file:
            os.fsync(file.fileno())
        written.replace(kept)
        let_go(kept.parent, "*.opt.onnx")


def let_go(cache: Path, pattern: str) -> None:
    """Bound a cache: of the files of one kind the newest stay."""
    with contextlib.suppress(OSError):
        aged = sorted(cache.glob(pattern), key=lambda path: path.stat().st_mtime)
        for old in aged[:-MOST_CACHED]:
            old.unlink(missing_ok=True)


def place_of(source: Path | bytes, options: EngineOptions, cache: Path) -> Path | None:
    """Where the optimized graph of a model is kept; None when it has data beside it or is large."""
    import onnxruntime as ort

    try:
        digest = content_digest(source)
    except (OSError, ValueError):
        return None
    if digest is None:
        return None
    key = f"{digest} {ort.__version__} {options.optimize} {platform.machine()} {cpu_flags()}"
    return cache / f"{hashlib.sha256(key.encode()).hexdigest()[:40]}.opt.onnx"


def content_digest(source: Path | bytes) -> str | None:
    """sha256 of a model file; None when it has external data, which is not in it, or is over 1 GiB.

    Raises `OSError`, `ValueError` (empty).
    """
    if isinstance(source, bytes):
        return None if _EXTERNAL in source or len(source) > _MOST_INLINE else hashlib.sha256(source).hexdigest()
    if source.stat().st_size > _MOST_INLINE:
        return None
    with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return None if _holds(content, _EXTERNAL) else hashlib.sha256(content).hexdigest()


def _holds(content: mmap.mmap, word: bytes) -> bool:
    """Whether a word is in a file; looked for piece by piece, since other threads stand still while a piece is looked through."""
    return any(content.find(word, at, at + _PIECE + len(word)) >= 0 for at in range(0, len(content), _PIECE))


def cpu_flags() -> str:
    """What the CPU can do, as a short digest: an optimized graph holds for one kind of CPU. Empty where the system does not say."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return hashlib.sha256(line.encode()).hexdigest()[:16]
    except OSError:
        pass
    return platform.processor()
