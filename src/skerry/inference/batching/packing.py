"""Feeds of one call packed into requests, and their answers put back in order."""

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from skerry.core.errors import RejectedError
from skerry.inference.batching.batcher import Ticket
from skerry.inference.batching.runs import Feed, Part, Runner
from skerry.inference.engine.samples import join

Answer = dict[str, NDArray[Any]]


def pack(
    runner: Runner, feeds: Sequence[Mapping[str, NDArray[Any]]], outputs: Sequence[str] | None
) -> tuple[list[Ticket], list[list[int]]]:
    """Requests of one group and at most `max_batch` rows each, in order, and which feeds each of them holds.

    A feed that has more rows is a request of its own. Raises `RejectedError` naming the index of a feed that does not fit.
    """
    wanted = runner.wanted(outputs)
    tickets: list[Ticket] = []
    places: list[list[int]] = []
    open_at: dict[Any, int] = {}
    for at, feed in enumerate(feeds):
        try:
            part, group = runner.check(feed)
        except RejectedError as error:
            raise _numbered(error, at) from error
        last = open_at.get(group) if group is not None else None
        if last is not None and tickets[last].rows + part[0] <= runner.max_batch:
            tickets[last].parts.append(part)
            tickets[last].rows += part[0]
            places[last].append(at)
            continue
        open_at[group] = len(tickets)
        tickets.append(Ticket(part[0], None if group is None else (group, wanted), [part], wanted))
        places.append([at])
    return tickets, places


def raise_first(answers: Sequence[Any]) -> None:
    """Raise the first error among the answers, naming its index."""
    for at, answer in enumerate(answers):
        if isinstance(answer, RejectedError):
            raise _numbered(answer, at) from answer
        if isinstance(answer, Exception):
            raise answer


def cut_rows(arrays: Feed, first: int, end: int) -> Part:
    """Some rows of a feed, not copied."""
    return end - first, {name: array[first:end] for name, array in arrays.items()}


def join_answers(answers: Sequence[Answer]) -> Answer:
    """Answers of ranges that followed each other as one."""
    return {name: join([answer[name] for answer in answers]) for name in answers[0]}


def _numbered(error: RejectedError, at: int) -> RejectedError:
    where = f"feed {at}, {error.where}" if error.where else f"feed {at}"
    return RejectedError(error.message, where=where, mend=error.mend)
