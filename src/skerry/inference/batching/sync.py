"""A model for scripts and threads: the same checks, answers and batch sizes as `EdgeInference`, without an event loop."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from numpy.typing import NDArray

from skerry.core.errors import UnavailableError
from skerry.inference.batching.batcher import Ticket, ranges
from skerry.inference.batching.loading import Described, Loaded, Optimized, Stats, load
from skerry.inference.batching.packing import Answer, cut_rows, join_answers, pack, raise_first
from skerry.inference.batching.runs import Feed
from skerry.inference.engine.seam import EngineOptions
from skerry.runtime import MemoryPool


class SyncInference(Described):
    """A loaded model whose calls run at once, in the thread that calls. Made by `load`; several threads may share it.

    Attributes:
        name, version: as given at load.
        load_seconds: what loading took, measuring included.
    """

    def __init__(self, loaded: Loaded) -> None:
        super().__init__(loaded)
        self._requests = 0
        self._closed = False

    @classmethod
    def load(
        cls,
        source: Path | str | bytes,
        *,
        name: str = "",
        version: str = "",
        options: EngineOptions = EngineOptions(),  # noqa: B008 - frozen, so it can be shared
        max_batch: int | str = "auto",
        pool: MemoryPool | None = None,
        cache: Path | None = None,
        sample: Feed | None = None,
    ) -> Self:
        """Load a model, warm it up and measure it. Arguments and errors are those of `EdgeInference.load`."""
        return cls(
            load(source, name=name, version=version, options=options, max_batch=max_batch, pool=pool, cache=cache, sample=sample)
        )

    @property
    def stats(self) -> Stats:
        """Counts since load."""
        return self._loaded.stats(self._requests)

    def infer(self, feed: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None) -> Answer:
        """Run the model on one feed of any number of rows. Raises `RejectedError`, `UnavailableError` (unloaded)."""
        part, group = self._runner.check(feed)
        wanted = self._runner.wanted(outputs)
        if group is not None and part[0] > self._runner.max_batch:
            return join_answers([answer for _, _, answer in self.stream(feed, outputs)])
        return self._run(Ticket(part[0], group, (part,), wanted))

    def batch_infer(self, feeds: Sequence[Mapping[str, NDArray[Any]]], outputs: Sequence[str] | None = None) -> list[Answer]:
        """Run the model on several feeds, in one run where they fit; answers in their order. Raises as `infer`."""
        tickets, places = pack(self._runner, feeds, outputs)
        self._enter(len(feeds))
        answers: list[Any] = [None] * len(feeds)
        for ticket, place in zip(tickets, places, strict=True):
            self._runner.run([ticket])
            for at, answer in zip(place, ticket.results, strict=True):
                answers[at] = answer
        raise_first(answers)
        return answers

    def stream(
        self, feed: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None, chunk: int = 0
    ) -> Iterator[tuple[int, int, Answer]]:
        """Run the model on the rows of arrays of any length, range by range, in order, without copying them.

        Args:
            chunk: rows of a range; by default those of the fastest run that was measured.

        Yields `(first, end, outputs)`.
        """
        (rows, arrays), group = self._runner.check(feed)
        wanted = self._runner.wanted(outputs)
        if group is None:
            yield 0, rows, self.infer(feed, outputs)
            return
        for first, end in ranges(rows, chunk or self._runner.stream_batch or self._runner.max_batch):
            yield first, end, self._run(Ticket(end - first, group, (cut_rows(arrays, first, end),), wanted))

    def optimize(self, sample: Mapping[str, NDArray[Any]] | None = None) -> Optimized:
        """Measure runs of 1 to 512 rows for up to 2 s, and set the best. `sample`: real input to measure with, one row or more."""
        return self._loaded.optimize(sample)

    def unload(self) -> None:
        """Free the model."""
        if not self._closed:
            self._closed = True
            self._runner.session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.unload()

    def _enter(self, requests: int) -> None:
        if self._closed:
            raise UnavailableError(f"model {self.name} is unloaded", mend="load it again")
        self._requests += requests

    def _run(self, ticket: Ticket) -> Answer:
        self._enter(1)
        self._runner.run([ticket])
        answer: Any = ticket.results[0]
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]  # what the engine gave
