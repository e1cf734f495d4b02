"""What the API needs to know of a node: the seam that the node fills."""

from collections.abc import AsyncIterator
from typing import Any, Protocol

Row = dict[str, Any]


class NodeView(Protocol):
    """A node as its API sees it.

    Errors are those of `skerry.core.errors`. An unknown pipeline or device is None where the answer may be None; the other
    calls are made only with names that are known a moment before.
    """

    def ready(self) -> tuple[bool, str]:
        """Whether the node does its work, and why not (or what it does) in one sentence."""
        ...

    async def status(self) -> Row:
        """The node as a whole: node, site, version, ready, reason, uptime_ratio, pipelines, models, broker, storage, uplink,
        cluster, ledger, warnings.

        A pipeline is `{name, state, reason, rate, lag, events, latency_ms: {p50, p99}, ledger}`, a ledger `{received, scored,
        open, waiting, duplicates, dead_letters: {reason: count}, difference}`; broker and storage have a `sentence`.
        """
        ...

    def pipelines(self) -> list[Row]:
        """The pipelines as `status` has them."""
        ...

    def pipeline(self, name: str) -> Row | None:
        """One pipeline, with what the configuration says about it in `config`."""
        ...

    async def events(
        self, pipeline: str | None, key: str | None, since: int | None, limit: int, after: str | None
    ) -> tuple[list[Row], str | None]:
        """A page of events in the log's order and the token of the next page, None at the end.

        `since`: microseconds; `after`: a token of a page before. Raises `RejectedError` for a token that is none.
        """
        ...

    async def last_events(self, pipeline: str | None, key: str | None, limit: int) -> tuple[list[Row], int]:
        """The last events, oldest first, and the sequence of the log's end: what to give to `event_stream` to go on from there."""
        ...

    def event_stream(self, after: int | None, pipeline: str | None, key: str | None) -> AsyncIterator[tuple[int, Row]]:
        """Sequence and event, for ever: those after a sequence, or from now on.

        Holds no more than a page, however slowly it is read."""
        ...

    def metrics(self) -> str:
        """Prometheus text."""
        ...

    def models(self) -> list[Row]:
        """`{name, version, active, file, inputs, outputs, metadata}` each, or `error` where one does not load."""
        ...

    async def devices(self) -> list[Row]:
        """`{id, kind, created, revoked, topics}` each; no secret."""
        ...

    async def device(self, id: str) -> Row | None:
        """One device."""
        ...

    async def device_add(self, id: str, password: str | None, topics: list[str]) -> Row:
        """Add a device; the answer has its `password`, made where none was given.

        Raises `RejectedError` for an id or topic that will not do, or a device that is there already."""
        ...

    async def device_revoke(self, id: str) -> None:
        """Refuse it from now on and end its connection; it stays in the list."""
        ...

    async def device_remove(self, id: str) -> None:
        """Forget it and end its connection."""
        ...

    async def deadletters(self, pipeline: str, limit: int, after: str | None) -> tuple[list[Row], str | None]:
        """A page of dead letters, oldest first, and the token of the next page."""
        ...

    async def deadletters_retry(self, pipeline: str) -> int:
        """Put all back to be processed again; how many."""
        ...

    async def deadletters_drop(self, pipeline: str) -> int:
        """Forget all; how many."""
        ...

    async def pause(self, pipeline: str) -> None:
        """Take no more messages; they wait in the log."""
        ...

    async def resume(self, pipeline: str) -> None:
        """Go on where it paused."""
        ...

    def config(self) -> list[Row]:
        """`{key, value, origin}` of every setting."""
        ...

    async def reload(self) -> Row:
        """Read the configuration again: `{changed: [key], needs_restart: [key]}`. Raises `ConfigError`."""
        ...
