"""The models that the configuration names, by `name@version` or `name@active`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from skerry.core.errors import ConfigError, RejectedError, suggestion
from skerry.core.units import at_key, parse_duration, parse_size

if TYPE_CHECKING:
    from skerry.inference.model import Model


class ModelConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One `[[models]]` table. `file` is relative to the configuration file.

    Attributes:
        active: this version is what `name` alone means; where no version of a name says so either way, the last one.
        optimize: graph optimizations, `all`, `extended`, `basic` or `none`; the result is cached in the data directory.
        engine: `auto` is what was faster when the version was added, onnxruntime for one that is named in the configuration only.
        labels, threshold, features: names of the classes, bound of the score and names of the inputs, over the model's metadata.
    """

    name: str
    file: str
    version: str = "1"
    optimize: Literal["all", "extended", "basic", "none"] = "all"
    engine: Literal["auto", "onnxruntime", "openvino"] = "auto"
    max_batch: int | str = "auto"
    max_delay: str = "0ms"
    memory: str = "256MiB"
    active: bool | None = None
    labels: Sequence[str] = ()
    threshold: float | None = None
    features: Sequence[str] = ()
    max_slowdown: float = 3.0

    def __post_init__(self) -> None:
        if not self.name or "@" in self.name:
            raise ConfigError(f"{self.name!r} is not a model name", where="name", allowed="text without @")
        if not self.version or "@" in self.version:
            raise ConfigError(f"{self.version!r} is not a version", where="version", allowed="text without @")
        at_key("max_delay", parse_duration, self.max_delay)
        at_key("memory", parse_size, self.memory)


class Models:
    """Finds and loads models by reference; the last version of a name in the file is the active one.

    Args:
        base: directory that relative files start from.
        cache: directory for optimized graphs and for models freed of a fixed batch; without it neither is done.
    """

    def __init__(self, configs: Sequence[ModelConfig], base: Path, threads: int = 1, cache: Path | None = None) -> None:
        self._configs = list(configs)
        self._base = base
        self._threads = threads
        self._cache = cache
        self._loaded: dict[tuple[str, str], Model] = {}
        seen = set()
        for at, config in enumerate(configs):
            if (config.name, config.version) in seen:
                raise ConfigError(f"{config.name}@{config.version} is there twice", where=f"models[{at}]")
            seen.add((config.name, config.version))

    def find(self, reference: str) -> ModelConfig:
        """The model that `name`, `name@version` or `name@active` means. Raises `ConfigError`."""
        name, _, version = reference.partition("@")
        found = [config for config in self._configs if config.name == name]
        if not found:
            known = sorted({config.name for config in self._configs})
            raise ConfigError(
                f"there is no model {name!r}{suggestion(name, known)}",
                where="model",
                mend="" if known else f"`skerry model add {name} FILE` adds it, or a table [[models]]",
                allowed=", ".join(known),
            )
        if version in ("", "active"):
            if all(config.active is None for config in found):
                return found[-1]
            for config in reversed(found):
                if config.active:
                    return config
            raise ConfigError(
                f"model {name!r} has no active version", where="model", mend=f"skerry model activate {name} {found[-1].version}"
            )
        for config in found:
            if config.version == version:
                return config
        versions = ", ".join(config.version for config in found)
        raise ConfigError(f"model {name!r} has no version {version!r}", where="model", allowed=f"{versions}, active")

    def load(self, reference: str) -> "Model":
        """The loaded model of a reference. Raises `ConfigError`, `RejectedError`."""
        config = self.find(reference)
        key = (config.name, config.version)
        if key not in self._loaded:
            from skerry.inference.model import load_model  # late: it brings numpy, and names alone need none

            self._loaded[key] = load_model(
                self._base / config.file,
                config.name,
                config.version,
                self._threads,
                config.labels,
                engine=config.engine,
                optimize=config.optimize,
                cache=self._cache,
            )
        return self._loaded[key]

    def listing(self) -> list[dict[str, Any]]:
        """All models, as `skerry model list` and the API show them; a file that does not load says why."""
        rows = []
        for config in self._configs:
            row: dict[str, Any] = {
                "name": config.name,
                "version": config.version,
                "active": config.active if config.active is not None else self.find(config.name) is config,
                "file": config.file,
            }
            try:
                model = self.load(f"{config.name}@{config.version}")
            except RejectedError as error:
                row["error"] = str(error)
            else:
                row["inputs"] = [msgspec.to_builtins(signature) for signature in model.inputs]
                row["outputs"] = [msgspec.to_builtins(signature) for signature in model.outputs]
                row["metadata"] = model.metadata
            rows.append(row)
        return rows
