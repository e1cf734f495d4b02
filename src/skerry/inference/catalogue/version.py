"""One version of a model and the index of all, as they are kept on disk. Imports no numpy: the agent uses them."""

import msgspec

FORMAT = 1


class Tensor(msgspec.Struct, frozen=True):
    """An input or output as the trial saw it; a symbolic dimension is None."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


class Version(msgspec.Struct, frozen=True, omit_defaults=True):
    """One version of a model, with what its trial measured.

    Attributes:
        state: `staged`, `active`, `retired` (was active), or `failed` with `reason`.
        file: of a version in the configuration, which is used in place; empty for one whose file is a blob.
        added: microseconds since the epoch; 0 for a version in the configuration.
        size, memory: bytes; memory is what the process grew by.
        most_ir, most_opset: the newest that the engine took when the model was tried; 0 where it does not say.
        latency_ms: of one run of one row; load_ms: of opening it.
        labels, threshold, features: given at `add`, else from the model's metadata.
        nan: a run on made-up rows gave NaN.
        warnings: what the trial found that does not refuse the model.
    """

    name: str
    version: str
    sha256: str = ""
    file: str = ""
    state: str = "staged"
    reason: str = ""
    added: int = 0
    size: int = 0
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    metadata: dict[str, str] = {}
    labels: tuple[str, ...] = ()
    threshold: float | None = None
    features: tuple[str, ...] = ()
    ir: int = 0
    opset: int = 0
    most_ir: int = 0
    most_opset: int = 0
    engine: str = ""
    batching: str = ""
    latency_ms: float = 0.0
    load_ms: float = 0.0
    memory: int = 0
    nan: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def reference(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"


class Index(msgspec.Struct):
    """What `index.json` holds. `failed` has the reasons of versions in the configuration, whose rows are not kept here."""

    format: int = FORMAT
    versions: list[Version] = []
    active: dict[str, str] = {}
    history: dict[str, list[str]] = {}
    shadow: dict[str, str] = {}
    failed: dict[str, str] = {}
