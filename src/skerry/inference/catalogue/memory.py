"""What a model may take of memory, held against what its trial measured. Imports no engine."""

from skerry.core.errors import RejectedError
from skerry.core.units import parse_size, show_size
from skerry.inference.catalogue.config import ModelConfig
from skerry.inference.catalogue.versions import Catalogue


def memory_limit(catalogue: Catalogue, name: str) -> int:
    """Bytes that a version of a model may take: `memory` of its `[[models]]` table, of the last one where it has several."""
    named = [config.memory for config in catalogue.configs() if config.name == name]
    return parse_size(named[-1] if named else ModelConfig(name, "").memory)


def check_memory(catalogue: Catalogue, name: str, taken: int, where: str) -> None:
    """Raise `RejectedError` when a model takes more memory than it may."""
    limit = memory_limit(catalogue, name)
    if limit and taken > limit:
        raise RejectedError(
            f"it takes {show_size(taken)} of memory, {show_size(taken - limit)} more than the {show_size(limit)} that it may",
            where=where,
            mend=f"raise `memory` in the [[models]] table of {name}, or make the model smaller: skerry model quantize",
        )
