"""Looking at model files in a process of their own: one that crashes the engine must not crash the node."""

import asyncio
from pathlib import Path
from typing import Any

from skerry.inference import EngineHost, ModelConfig, describe

Row = dict[str, Any]
Mark = tuple[int, int]


def mark_of(file: Path) -> Mark | None:
    """Size and time of change of a file; None when it is not there."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


async def look_at(models: list[ModelConfig], base: Path, host: EngineHost) -> list[Row]:
    """Rows with `inputs`, `outputs` and `metadata` of models, or with `error`. The host is ended afterwards."""
    rows = [await asyncio.to_thread(describe, model, base, host) for model in models]
    if rows:
        await asyncio.to_thread(host.rest)  # this was the start or a reload, and not a person who is at work on models
    return rows
