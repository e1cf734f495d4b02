"""The bundles of a node on disk, and which one runs: one small file that is replaced whole.

    bundles/<id>/manifest.json, signatures.json, models/<sha256>.onnx   one bundle; never changed
    bundles/state.json                                                  the active one, the one on trial, what happened

A bundle is whole in its directory before `state.json` names it. So at any moment the node is wholly on one bundle or another: the
switch is the rename of that file. A switch that nobody has confirmed is taken back by the next start (`settle`).
"""

import hashlib
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from skerry.bundle.manifest import Manifest, bundle_id, check_manifest, summary
from skerry.bundle.signing import Signatures, decode_signatures, signer_of, signers
from skerry.core.clock import Clock, SystemClock, to_rfc3339
from skerry.core.errors import CorruptError, RejectedError, UnavailableError, suggestion
from skerry.core.files import replace_synced, sync_names

if TYPE_CHECKING:
    from skerry.bundle.archive import BundleFile

FORMAT = 1
HISTORY = 50
PAST = 20
_DRAFT = ".draft-"
CUT_SHORT = "the node ended within the probation"
_MEND = "go back with `skerry bundle rollback`, or upload the bundle again"
Row = dict[str, Any]


class Trial(msgspec.Struct, frozen=True):
    """A bundle that was switched to and is not kept yet: what was active before, since when (microseconds), for how long."""

    id: str
    before: str
    began: int
    probation: int


class State(msgspec.Struct):
    """What `state.json` holds. `active`: an id, or empty: skerry.toml alone. `past`: what was active before, the last one last."""

    format: int = FORMAT
    active: str = ""
    trial: Trial | None = None
    past: list[str] = []
    history: list[Row] = []


class Shelf:
    """The directory `bundles` of a data directory. Who changes it holds the lock of the data directory, or is its node."""

    def __init__(self, directory: Path, clock: Clock | None = None) -> None:
        self.directory = directory
        self._clock = clock or SystemClock()

    def read(self) -> State:
        """The state; a node that never had a bundle has an empty one. Raises `CorruptError`."""
        path = self.directory / "state.json"
        try:
            state = msgspec.json.decode(path.read_bytes(), type=State)
        except FileNotFoundError:
            return State()
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            mend = "move it away to go on with skerry.toml alone, and apply the bundle again"
            raise CorruptError(f"is not what was written: {error}", where=str(path), mend=mend) from error
        if state.format != FORMAT:
            mend = "use the skerry that wrote it"
            raise CorruptError(f"has format {state.format}, this skerry reads {FORMAT}", where=str(path), mend=mend)
        return state

    def folder(self, id: str) -> Path:
        """Where a bundle lies."""
        return self.directory / id

    def manifest(self, id: str) -> Manifest:
        """What a bundle says of itself. Raises `CorruptError`: it is not there, or not what its id says."""
        return check_manifest(self._data(id))

    def _data(self, id: str) -> bytes:
        path = self.folder(id) / "manifest.json"
        try:
            data = path.read_bytes()
        except OSError as error:
            raise CorruptError(f"cannot be read: {error.strerror}", where=str(path), mend=_MEND) from error
        if bundle_id(data) != id:
            raise CorruptError("is not the manifest that was applied", where=str(path), mend=_MEND)
        return data

    def ids(self) -> list[str]:
        """All bundles that are there whole, the newest first."""
        if not self.directory.is_dir():
            return []
        found = [each for each in self.directory.iterdir() if each.is_dir() and not each.name.startswith(".")]
        return [each.name for each in sorted(found, key=lambda each: (-each.stat().st_mtime_ns, each.name))]

    def find(self, text: str) -> str:
        """The id that begins so, or the newest bundle of that name. Raises `RejectedError`."""
        ids = self.ids()
        begins = [each for each in ids if each.startswith(text)] if text else []
        named = [each for each in ids if text in (self.manifest(each).name, self.manifest(each).title)]
        if len(begins) == 1 or named:
            return begins[0] if begins else named[0]
        known = ", ".join(each[:12] for each in ids) or "none"
        raise RejectedError(f"there is no bundle {text[:80]!r}{suggestion(text, ids)}", mend=f"there are: {known}")

    def install(self, file: "BundleFile", trusted: Sequence[bytes]) -> str:
        """Take a bundle in, once its signature and all of it have been checked: its id. Nothing runs it yet.

        Raises `RejectedError` (nobody trusted signed it), `CorruptError`, `UnavailableError` (the disk); nothing stays then."""
        signer_of(file.data, file.signatures, trusted)
        target, draft = self.folder(file.id), self.directory / f"{_DRAFT}{file.id}"
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(mode=0o700)
            file.unpack(draft)
            replace_synced(draft / "manifest.json", file.data)
            replace_synced(draft / "signatures.json", msgspec.json.encode(file.signatures))
            sync_names(draft)
            if target.exists():  # it may be the active one, whose models are in use: only who signed it may be new
                replace_synced(target / "signatures.json", msgspec.json.encode(file.signatures))
            else:
                draft.rename(target)
            sync_names(self.directory)
        except OSError as error:
            raise UnavailableError(f"cannot be written: {error.strerror}", where=str(self.directory), mend="make room") from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return file.id

    def pack(self, id: str, path: Path) -> None:
        """Write a bundle that is here to a file again, as others take it in. Raises `CorruptError`, `RejectedError`."""
        from skerry.bundle.archive import write_bundle  # late: few nodes hand bundles on

        data = self._data(id)
        files = {member.sha256: self.folder(id) / member.name for member in check_manifest(data).members}
        write_bundle(path, data, self._signatures(id), files)

    def verify(self, id: str, trusted: Sequence[bytes]) -> str:
        """Check a bundle where it lies, every byte of it: the fingerprint of who signed it. Raises as `install` does."""
        data = self._data(id)
        who = signer_of(data, self._signatures(id), trusted)
        for member in check_manifest(data).members:
            path = self.folder(id) / member.name
            if not _is(path, member.sha256):
                raise CorruptError("is not the model that was signed", where=str(path), mend="upload the bundle again")
        return who

    def _signatures(self, id: str) -> Signatures:
        try:
            return decode_signatures((self.folder(id) / "signatures.json").read_bytes())
        except OSError as error:
            raise CorruptError(f"its signatures cannot be read: {error.strerror}", where=id, mend=_MEND) from error

    def switch(self, id: str, probation: int) -> Trial:
        """Make a bundle the active one, on trial for so many microseconds: one atomic write. Raises `UnavailableError`."""
        state = self.read()
        trial = Trial(id, state.active, self._clock.now(), probation)
        self._note(state, id, "switched to, on probation")
        self._write(msgspec.structs.replace(state, active=id, trial=trial))
        return trial

    def keep(self) -> None:
        """The bundle on trial is the active one from now on. Raises `UnavailableError`."""
        state = self.read()
        if state.trial is None:
            return
        self._note(state, state.trial.id, "kept")
        past = [each for each in state.past if each not in (state.trial.before, state.trial.id)]
        self._write(msgspec.structs.replace(state, trial=None, past=[*past, state.trial.before][-PAST:]))

    def take_back(self, reason: str) -> str:
        """End the trial with what was active before: one atomic write; the id that is active now. Raises `UnavailableError`."""
        state = self.read()
        if state.trial is None:
            return state.active
        self._note(state, state.trial.id, "rolled back", reason)
        self._write(msgspec.structs.replace(state, active=state.trial.before, trial=None))
        return state.trial.before

    def rollback(self, reason: str) -> str:
        """Back to what was active before: a bundle that is still there, or skerry.toml alone; what is active now.

        Raises `RejectedError` where no bundle is active, `UnavailableError`."""
        state = self.read()
        if state.trial is not None:
            return self.take_back(reason)
        if not state.active:
            raise RejectedError("no bundle is active here", mend="see `skerry bundle list`")
        there = {*self.ids(), ""}
        past = [each for each in state.past if each in there]
        back = past.pop() if past else ""
        self._note(state, state.active, "rolled back", reason)
        self._write(msgspec.structs.replace(state, active=back, past=past))
        return back

    def before(self) -> str:
        """What `rollback` would make active."""
        state = self.read()
        if state.trial is not None:
            return state.trial.before
        there = {*self.ids(), ""}
        return next((each for each in reversed(state.past) if each in there), "")

    def refused(self, id: str, reason: str) -> None:
        """Note that a bundle was not switched to. A disk without room loses the note."""
        state = self.read()
        self._note(state, id, "refused", reason)
        with suppress(UnavailableError):
            self._write(state)

    def settle(self) -> str:
        """What a node does first: a trial that its end cut short is taken back, drafts go. Why something changed, or nothing.

        Raises `CorruptError`, `UnavailableError`."""
        if self.directory.is_dir():
            for draft in self.directory.glob(f"{_DRAFT}*"):
                shutil.rmtree(draft, ignore_errors=True) if draft.is_dir() else draft.unlink(missing_ok=True)
        trial = self.read().trial
        if trial is None:
            return ""
        self.take_back(CUT_SHORT)
        return f"bundle {trial.id[:12]} was rolled back: {CUT_SHORT}"

    def collect(self, keep: int) -> None:
        """Delete all but the newest bundles, the active one, and those that a rollback goes to."""
        state = self.read()
        named = {state.active, self.before(), *(state.past[-keep:]), *([state.trial.before] if state.trial else [])}
        for old in [each for each in self.ids() if each not in named][keep:]:
            shutil.rmtree(self.folder(old), ignore_errors=True)

    def rows(self) -> list[Row]:
        """A row a bundle, the newest first: what is in it, who signed it, and its state."""
        state = self.read()
        found = []
        for each in self.ids():
            data = self._data(each)
            named = "on probation" if state.trial and state.trial.id == each else "active" if each == state.active else "stored"
            found.append({**summary(check_manifest(data), each), "state": named, "signers": signers(data, self._signatures(each))})
        return found

    def _note(self, state: State, id: str, what: str, reason: str = "") -> None:
        try:
            title = self.manifest(id).title
        except CorruptError:
            title = ""
        row = {"at": to_rfc3339(self._clock.now()), "id": id, "bundle": title, "what": what, "reason": reason}
        state.history = [*state.history, row][-HISTORY:]

    def _write(self, state: State) -> None:
        path = self.directory / "state.json"
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            replace_synced(path, msgspec.json.format(msgspec.json.encode(state), indent=1))
            sync_names(self.directory)
        except OSError as error:
            raise UnavailableError(f"cannot be written: {error.strerror}", where=str(path), mend="make room") from error


def _is(path: Path, sha256: str) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        return False
