"""Another number of partitions: the states of the old ones re-dealt by key. Pure."""

import zlib

from skerry.inference import DriftState, merge_states
from skerry.pipeline.state import Ledger, PipelineState


def partition_of(key: str, count: int) -> int:
    """Which of `count` partitions a key belongs to."""
    return zlib.crc32(key.encode()) % count


def unit_name(pipeline: str, partition: int) -> str:
    """One partition of a pipeline, as a cluster names it."""
    return f"{pipeline}/{partition}"


def parse_unit(unit: str) -> tuple[str, int]:
    """Pipeline and partition of a unit."""
    pipeline, _, partition = unit.rpartition("/")
    return pipeline, int(partition)


def redeal(old: list[PipelineState], count: int) -> list[PipelineState]:
    """States of `count` partitions out of those of the old ones, in their order.

    The old cursors differ, so the new ones begin at the lowest and remember in `taken` how far each old partition was: what its
    keys had up to there is not taken in again. Ledgers and outboxes go to the first: their sums stay what they were.
    """
    first, cursors = old[0], [one.cursor for one in old]
    taken = [cursors] if len(set(cursors)) > 1 else []
    for one in old:
        taken += [before for before in one.taken if before not in taken]
    dealt = []
    for at in range(count):
        state = PipelineState(
            cursor=min(cursors),
            events_seq=min(one.events_seq for one in old),
            dead_seq=min(one.dead_seq for one in old),
            window_digest=first.window_digest,
            taken=list(taken),
            share=max(one.share for one in old),  # what one has scored and put out must not be shed now
        )
        for one in old:
            state.keys.update({key: value for key, value in one.keys.items() if partition_of(key, count) == at})
            state.alarms.update({key: value for key, value in one.alarms.items() if partition_of(key, count) == at})
            state.recent.update({key: value for key, value in one.recent.items() if partition_of(key, count) == at})
        dealt.append(state)
    dealt[0].outbox = [output for one in old for output in one.outbox]
    dealt[0].ledger = _sum([one.ledger for one in old])
    for at, drift in enumerate(_drifts([one.drift for one in old if one.drift is not None], count)):
        dealt[at].drift = drift
    return dealt


def _drifts(old: list[DriftState], count: int) -> list[DriftState]:
    """The counts so far for the first partition, the reference for all."""
    if not old:
        return []
    whole = merge_states(old)
    if whole.reference is None:
        return [whole]
    rest = [DriftState(whole.model, list(whole.columns), whole.source, whole.reference) for _ in range(count - 1)]
    return [whole, *rest]


def _sum(ledgers: list[Ledger]) -> Ledger:
    total = Ledger()
    for ledger in ledgers:
        for name in Ledger.__struct_fields__:
            if name == "dead":
                for reason, messages in ledger.dead.items():
                    total.bury(reason, messages)
            else:
                setattr(total, name, getattr(total, name) + getattr(ledger, name))
    return total
