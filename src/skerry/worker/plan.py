"""What a pool of workers runs, and within which bounds."""

from pathlib import Path

import msgspec

from skerry.runtime import Confinement
from skerry.worker.protocol import Assignment


class WorkerPlan(msgspec.Struct, frozen=True):
    """What the pool runs: assignments without their number, how many workers, and their bounds.

    Attributes:
        stall_s: a worker that is busy with the same thing, or silent for twice as long, is killed (for a minute while it starts).
        memory: bytes; a worker whose resident memory is over it is killed.
        cpu: cores that a worker may take, where a cgroup can hold it to them; 0: no bound.
    """

    assignment: Assignment
    workers: int
    run_dir: Path
    stall_s: float
    memory: int
    cpu: float = 0.0
    confinement: Confinement = msgspec.field(default_factory=Confinement)
