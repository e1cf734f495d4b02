"""The models that the server has loaded: found by name and version, swapped between two requests, freed when nobody uses them."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from skerry.core import log
from skerry.core.errors import SkerryError, UnavailableError
from skerry.http import NotFoundError
from skerry.inference import EdgeInference, EngineOptions, ModelConfig, load_engine
from skerry.runtime import resident
from skerry.serving.frames import Given, Held

EXTRA = 4  # versions loaded beside the active ones, because a path names them
_log = log.get("serving")
_FIELDS = set(ModelConfig.__struct_fields__)
Key = tuple[str, str]


class Entry:
    """One loaded version, and how many requests are using it."""

    def __init__(self, model: EdgeInference, config: ModelConfig, memory: int = 0) -> None:
        self.model = model
        self.memory = memory
        self.config = config
        self.users = 0
        self.failed = 0
        self.idle = asyncio.Event()
        self.idle.set()

    @contextlib.contextmanager
    def use(self) -> Iterator[EdgeInference]:
        """While it is used it is not unloaded: a request ends on the version it began with."""
        self.hold()
        try:
            yield self.model
        finally:
            self.release()

    def hold(self) -> None:
        """It is used from now on, until `release`."""
        self.users += 1
        self.idle.clear()

    def release(self) -> None:
        self.users -= 1
        if not self.users:
            self.idle.set()


class LoadedModels:
    """All versions known, and those loaded. `give` tells it which there are; for one event loop.

    Args:
        changed: called when a version has been loaded or let go, with all that are loaded.
    """

    def __init__(self, changed: Callable[[list[Held]], None] | None = None) -> None:
        self._changed = changed
        self.configs: dict[Key, ModelConfig] = {}
        self.active: dict[str, str] = {}
        self.failures: dict[Key, str] = {}
        self._entries: dict[Key, Entry] = {}
        self._unloaded: set[str] = set()
        self._given = Given([], ".", "")
        self._lock = asyncio.Lock()
        self._leaving: set[asyncio.Task[None]] = set()

    async def give(self, given: Given) -> None:
        """Take the models as they are from now on: load what became active, then switch, then free what no longer is.

        A version that does not load leaves the one before in its place; why is in `failures`.
        """
        async with self._lock:
            self._given = given
            configs: dict[Key, ModelConfig] = {}
            wanted: dict[str, str] = {}
            marked: set[str] = set()
            for row in given.models:
                found = {name: value for name, value in row.items() if name in _FIELDS and name != "active"}
                config = msgspec.convert(found, ModelConfig)
                configs[config.name, config.version] = config
                if row.get("active") or config.name not in marked:
                    wanted[config.name] = config.version
                if row.get("active"):
                    marked.add(config.name)
            held = {key: self.configs[key] for key in self.active.items() if key[0] in wanted}
            self.configs = {**held, **configs}
            self.active = {name: version for name, version in self.active.items() if name in wanted}
            for name, version in wanted.items():
                await self._switch(name, version)
            # what is still active because its successor does not load stays known
            self.configs = {**{key: self.configs[key] for key in self.active.items()}, **configs}
            for key in [key for key, entry in self._entries.items() if self.configs.get(key) != entry.config]:
                self._free(key)

    async def _switch(self, name: str, version: str) -> None:
        """Make a version the active one once it is loaded."""
        before = self.active.get(name)
        if name not in self._unloaded:
            try:
                await self._load((name, version))
            except SkerryError as error:
                _log.error(f"{name}@{version} is not served: {error}")
                if before is not None and (name, before) in self._entries:
                    return
        self.active[name] = version
        if before is not None and before != version:
            self._free((name, before))

    async def _load(self, key: Key) -> Entry:
        """The loaded version. Call it under the lock. Raises `SkerryError`."""
        entry = self._entries.get(key)
        if entry is not None and entry.config == self.configs[key]:
            return entry
        config, given = self.configs[key], self._given
        await asyncio.to_thread(load_engine, config.engine, True)
        before = resident()
        try:
            model = await EdgeInference.load(
                Path(given.base) / config.file, name=config.name, version=config.version, max_batch=config.max_batch,
                max_delay=config.max_delay,
                options=EngineOptions(threads=given.threads, optimize=config.optimize, engine=config.engine),
                cache=Path(given.cache) if given.cache else None,
            )  # fmt: skip
        except SkerryError as error:
            self.failures[key] = str(error)
            raise
        self.failures.pop(key, None)
        if entry is not None:
            self._drop_later(entry)
        entry = self._entries[key] = Entry(model, config, max(0, resident() - before))
        self._tell()
        return entry

    def _tell(self) -> None:
        if self._changed is not None:
            self._changed([Held(*key, each.memory, each.model.load_seconds) for key, each in self._entries.items()])

    def _free(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._drop_later(entry)
            self._tell()

    def _drop_later(self, entry: Entry) -> None:
        task = asyncio.create_task(_unload(entry))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def known(self, name: str, version: str | None) -> ModelConfig:
        """What a path names. Raises `NotFoundError`."""
        versions = [config.version for (each, _), config in self.configs.items() if each == name]
        if not versions:
            raise NotFoundError(f"there is no model {name!r}")
        if version is not None and version not in versions:
            raise NotFoundError(f"model {name!r} has no version {version!r}", mend=f"versions: {', '.join(versions)}")
        return self.configs[name, version or self.active.get(name, versions[-1])]

    def ready(self, name: str, version: str | None) -> Entry | None:
        """The loaded version that a path names, None when it is not loaded. Raises `NotFoundError`."""
        config = self.known(name, version)
        return self._entries.get((config.name, config.version))

    async def entry(self, name: str, version: str | None) -> Entry:
        """The loaded version that a path names; a version that is not active is loaded when it is first asked for.

        Raises `NotFoundError`, `UnavailableError` when it was unloaded or does not load.
        """
        found = self.ready(name, version)
        if found is not None:
            return found
        config = self.known(name, version)
        key = (config.name, config.version)
        if name in self._unloaded or key in self.failures or self.active.get(name) == config.version:
            why = self.failures.get(key, "it is not loaded")
            raise UnavailableError(f"model {name}@{config.version} is not ready: {why}", mend="load it")
        async with self._lock:
            if key not in self.configs:
                raise NotFoundError(f"model {name!r} has no version {config.version!r}")
            entry = await self._load(key)
            extra = [each for each in self._entries if self.active.get(each[0]) != each[1]]
            for each in extra[:-EXTRA]:
                self._free(each)
            return entry

    async def load(self, name: str) -> None:
        """Load the active version, again after an unload or a failure. Raises `NotFoundError`, `SkerryError`."""
        async with self._lock:
            config = self.known(name, None)
            await self._load((config.name, config.version))
            self._unloaded.discard(name)

    async def unload(self, name: str) -> None:
        """Free all versions of a model; it is not ready until it is loaded again. Raises `NotFoundError`."""
        async with self._lock:
            self.known(name, None)
            self._unloaded.add(name)
            for key in [key for key in self._entries if key[0] == name]:
                self._free(key)

    async def close(self) -> None:
        """Free all models."""
        for key in list(self._entries):
            self._free(key)
        await asyncio.gather(*self._leaving)


async def _unload(entry: Entry) -> None:
    while entry.users:
        await entry.idle.wait()
    await entry.model.unload()
