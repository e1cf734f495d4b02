"""What a pipeline partition knows: cursor, open windows, alarms, ledger, outbox; written whole as one checkpoint."""

import msgspec
import zstandard

from skerry.core.errors import CorruptError
from skerry.inference import DriftState
from skerry.pipeline.event import DeadLetter, Output
from skerry.pipeline.rule import Alarm
from skerry.window.state import KeyState

FORMAT = 1
RECONFIGURED = "reconfigured"
_COMPRESS_OVER = 4096


class Ledger(msgspec.Struct, array_like=True):
    """Counts of messages since the pipeline began. received = scored + open + waiting + duplicates + dead letters +
    shed.

    `given_up` counts messages that the log let go before they were read (retention), which were never received.
    """

    received: int = 0
    scored: int = 0
    duplicates: int = 0
    dead: dict[str, int] = {}
    late_samples: int = 0
    windows: int = 0
    events: int = 0
    given_up: int = 0
    received_bytes: int = 0
    shed: int = 0

    def bury(self, reason: str, messages: int) -> None:
        self.dead[reason] = self.dead.get(reason, 0) + messages


class PipelineState(msgspec.Struct, array_like=True):
    """State of one pipeline partition at one place of the log.

    Attributes:
        cursor: stream sequence of the last message taken in.
        events_seq, dead_seq: sequences in the output streams up to which outputs of this state were acknowledged.
        outbox: outputs that were decided by time (not by the log alone) and may be published once this state is stored.
        taken: after changes of the number of partitions, how far each of the old ones had come, a list a change.
        recent: identities of the last messages a key, for de-duplication.
        drift: what the model's features are held against, and the counts so far.
        share: of the keys, those whose windows are scored; the others are shed.
    """

    format: int = FORMAT
    cursor: int = 0
    events_seq: int = 0
    dead_seq: int = 0
    window_digest: str = ""
    ledger: Ledger = msgspec.field(default_factory=Ledger)
    keys: dict[str, KeyState] = {}
    alarms: dict[str, Alarm] = {}
    recent: dict[str, list[int]] = {}
    outbox: list[Output] = []
    taken: list[list[int]] = []
    drift: DriftState | None = None
    share: float = 1.0

    @property
    def open_messages(self) -> int:
        """Messages in open windows, counted from the windows themselves."""
        return sum(pane.messages for key in self.keys.values() for pane in key.panes.values())


def adopt(state: PipelineState, window_digest: str) -> list[DeadLetter]:
    """Give up open windows that a changed source or window cannot carry on; they are counted, and told in a dead letter."""
    lost = 0
    if state.window_digest not in ("", window_digest):
        lost = state.open_messages
        state.keys.clear()
        state.alarms.clear()
    state.window_digest = window_digest
    if not lost:
        return []
    state.ledger.bury(RECONFIGURED, lost)
    detail = f"{lost} messages were in open windows when the window or the source was changed"
    return [DeadLetter(state.cursor, RECONFIGURED, detail, "", "", 0, b"", lost, mark="!")]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(PipelineState)


def encode_state(state: PipelineState) -> bytes:
    """A checkpoint: msgpack, in a zstd frame where it is larger than 4 KiB."""
    raw = _encoder.encode(state)
    return zstandard.ZstdCompressor(level=1).compress(raw) if len(raw) > _COMPRESS_OVER else raw


def decode_state(data: bytes) -> PipelineState:
    """The state of a checkpoint. Raises `CorruptError` when it is none, or of a newer format."""
    try:
        if data[:4] == zstandard.MAGIC_NUMBER.to_bytes(4, "little"):
            data = zstandard.ZstdDecompressor().decompress(data)
        state = _decoder.decode(data)
    except (msgspec.MsgspecError, zstandard.ZstdError) as error:
        raise CorruptError(f"the checkpoint cannot be read: {error}", mend="restore a backup or reset the pipeline") from error
    if state.format > FORMAT:
        raise CorruptError(
            f"the checkpoint has format {state.format}, this version reads up to {FORMAT}", mend="run the newer version"
        )
    return state


def books(state: PipelineState, waiting: int = 0) -> dict[str, object]:
    """The loss ledger as `status` shows it; `difference` is 0 when nothing is unaccounted for."""
    ledger = state.ledger
    opened = state.open_messages
    dead = sum(ledger.dead.values())
    accounted = ledger.scored + opened + waiting + ledger.duplicates + dead + ledger.shed
    return {
        "received": ledger.received,
        "scored": ledger.scored,
        "open": opened,
        "waiting": waiting,
        "duplicates": ledger.duplicates,
        "dead_letters": dict(sorted(ledger.dead.items())),
        "shed": ledger.shed,
        "difference": ledger.received - accounted,
        "windows": ledger.windows,
        "late_samples": ledger.late_samples,
        "given_up": ledger.given_up,
    }
