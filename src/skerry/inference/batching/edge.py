"""A model for asyncio: requests of any number of tasks, batched together when they come together."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from numpy.typing import NDArray

from skerry.core.units import at_key, parse_duration
from skerry.inference.batching.batcher import Ticket, ranges
from skerry.inference.batching.dispatch import Dispatcher
from skerry.inference.batching.loading import Described, Loaded, Optimized, Stats, load
from skerry.inference.batching.packing import Answer, cut_rows, join_answers, pack, raise_first
from skerry.inference.batching.runs import Feed
from skerry.inference.engine.seam import EngineOptions
from skerry.runtime import MemoryPool


class EdgeInference(Described):
    """A loaded model whose concurrent requests share runs. Made by `load`; for the tasks of one event loop.

    Attributes:
        name, version: as given at load.
        load_seconds: what loading took, measuring included.
    """

    def __init__(self, loaded: Loaded, *, max_delay: float = 0.0, queue: int = 4096) -> None:
        super().__init__(loaded)
        self._dispatcher = Dispatcher(loaded.runner, self.name, max_delay, queue)

    @classmethod
    async def load(
        cls,
        source: Path | str | bytes,
        *,
        name: str = "",
        version: str = "",
        options: EngineOptions = EngineOptions(),  # noqa: B008 - frozen, so it can be shared
        max_batch: int | str = "auto",
        max_delay: str = "0ms",
        queue: int = 4096,
        pool: MemoryPool | None = None,
        cache: Path | None = None,
        sample: Feed | None = None,
    ) -> Self:
        """Load a model, warm it up and measure it, in a thread.

        Args:
            source: an ONNX file, or its bytes.
            max_batch: most rows of a run; `auto` measures what is best, for about 50 ms.
            max_delay: how long a batch that is not full waits for more. At `0ms` an idle model answers at once.
            queue: most requests that wait; one more is refused with `OverloadedError`.
            pool: where batches are assembled, so that the steady state allocates none (see `stats`); by default in new
                arrays, which is no slower.
            cache: directory for optimized graphs.
            sample: a feed of real input; without it one is made up from the signature, to warm up, measure and batch with.

        Raises `RejectedError` when the file is missing or cannot be loaded, `ConfigError`.
        """
        seconds = at_key("max_delay", parse_duration, max_delay) / 1e6
        loaded = await asyncio.to_thread(
            load, source, name=name, version=version, options=options, max_batch=max_batch, pool=pool, cache=cache, sample=sample
        )
        return cls(loaded, max_delay=seconds, queue=queue)

    @property
    def stats(self) -> Stats:
        """Counts since load."""
        did = self._dispatcher
        return self._loaded.stats(
            did.requests, did.waiting, inline=did.inline, threaded=did.threaded, refused=did.refused, cancelled=did.cancelled
        )

    async def infer(self, feed: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None) -> Answer:
        """Run the model on one feed, together with what else is waiting.

        Args:
            feed: an array for each input, of the model's full rank, batch dimension included, any number of rows.
            outputs: names of the outputs wanted; all by default.

        Returns the outputs by name, a row for each row. Raises `RejectedError` (name, dtype, rank or shape does not fit, or the
        model cannot run on this input), `OverloadedError` (the queue is full), `UnavailableError` (unloaded).
        """
        part, group = self._runner.check(feed)
        wanted = None if outputs is None else self._runner.wanted(outputs)
        if group is not None:
            if part[0] > self._dispatcher.max_batch:
                return join_answers([answer async for _, _, answer in self.stream(feed, outputs)])
            group = (group, wanted)
        ticket = Ticket(part[0], group, (part,), wanted)
        return _only(await self._dispatcher.results(ticket))

    async def batch_infer(self, feeds: Sequence[Mapping[str, NDArray[Any]]], outputs: Sequence[str] | None = None) -> list[Answer]:
        """Run the model on several feeds, in one run where they fit; answers in their order.

        Feeds whose rows differ in shape, and rows over `max_batch`, make further runs. Raises as `infer`; a feed that does not
        fit is named by its index before anything runs.
        """
        tickets, places = pack(self._runner, feeds, outputs)
        answers: list[Any] = [None] * len(feeds)
        for found, place in zip(await self._dispatcher.together(tickets), places, strict=True):
            for at, answer in zip(place, found, strict=True):
                answers[at] = answer
        raise_first(answers)
        return answers

    async def stream(
        self, feed: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None, chunk: int = 0
    ) -> AsyncIterator[tuple[int, int, Answer]]:
        """Run the model on the rows of arrays of any length, range by range, in order, without copying them.

        Args:
            chunk: rows of a range; by default those of the fastest run that was measured.

        Yields `(first, end, outputs)`. One range is ahead of the one that is read. The model must take any number of rows.
        """
        part, group = self._runner.check(feed)
        wanted = None if outputs is None else self._runner.wanted(outputs)
        rows, arrays = part
        if group is None:
            yield 0, rows, await self.infer(feed, outputs)
            return
        size = chunk or self._runner.stream_batch or self._dispatcher.max_batch
        ahead: list[tuple[int, int, Ticket]] = []
        try:
            for first, end in ranges(rows, size):
                ahead.append((first, end, self._dispatcher.enter(cut_rows(arrays, first, end), (group, wanted), wanted)))
                if len(ahead) > 2:
                    first, end, ticket = ahead.pop(0)
                    yield first, end, _only(await self._dispatcher.follow(ticket))
            while ahead:
                first, end, ticket = ahead.pop(0)
                yield first, end, _only(await self._dispatcher.follow(ticket))
        finally:
            self._dispatcher.withdraw([ticket for _, _, ticket in ahead])

    async def optimize(self, sample: Mapping[str, NDArray[Any]] | None = None) -> Optimized:
        """Measure runs of 1 to 512 rows for up to 2 s, in a thread, and batch up to the best size from now on.

        Args:
            sample: real input to measure with; one row or more.
        """
        found = await asyncio.to_thread(self._loaded.optimize, sample)
        self._dispatcher.max_batch = self._runner.max_batch
        return found

    async def unload(self) -> None:
        """Take no more requests, answer those that wait, and free the model."""
        await self._dispatcher.close()
        self._runner.session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.unload()


def _only(results: Sequence[Any]) -> Answer:
    """The answer of a request of one feed. Raises its error."""
    answer = results[0]
    if isinstance(answer, Exception):
        raise answer
    return answer  # type: ignore[no-any-return]  # what the engine gave
