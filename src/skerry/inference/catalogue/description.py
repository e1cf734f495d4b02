"""What a model file says of itself, for the node's listing of models: read in a child process, for a file may take it down."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from skerry.core.errors import SkerryError
from skerry.inference.catalogue.config import ModelConfig, Models
from skerry.inference.host import EngineHost

SECONDS = 60.0


class Question(msgspec.Struct):
    """A `[[models]]` table and the directory that its file is relative to."""

    model: ModelConfig
    base: str


def describe(model: ModelConfig, base: Path, host: EngineHost) -> dict[str, Any]:
    """The row of `Models.listing` for one model, with `error` where its file does not load or ends the process that looks."""
    try:
        return host.ask(
            "catalogue.description:listed", Question(model, str(base)), dict[str, Any], seconds=SECONDS, where=model.file
        )
    except SkerryError as error:
        return {"name": model.name, "version": model.version, "file": model.file, "error": str(error)}


def listed(question: bytes, _progress: Callable[[int, int], None]) -> dict[str, Any]:
    """What the child does with a `Question`."""
    asked = msgspec.json.decode(question, type=Question)
    return Models([asked.model], Path(asked.base)).listing()[0]
