"""What the API needs to know of a node: the seam that the node fills."""

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from skerry.core.journal import Sieve
from skerry.http import Request, Response
from skerry.pipeline import LetterFilter

if TYPE_CHECKING:
    from skerry.store import KeyValueStore

Row = dict[str, Any]


class UplinkView(Protocol):
    """The link to the centre as the API sees it, and this node as the centre of others."""

    def shown(self) -> Row:
        """`{uplink, received}`, each None where it is off."""
        ...

    async def hold(self, paused: bool) -> None:
        """Send no more, or go on; over restarts too. Raises `UnavailableError` where there is no uplink."""
        ...

    async def test(self) -> Row:
        """`{ok, round_trip_ms, sentence}` of an empty envelope. Raises `UnavailableError` where there is no uplink."""
        ...

    async def receive(self, envelope: bytes, by: str) -> Row:
        """`{digest, again, commands}`: the envelope is in the log; `again`: it was before. Raises `RejectedError` and others."""
        ...

    async def command(self, frame: bytes) -> Row:
        """`{id, topic, expires}` of a signed command that waits for its node now. Raises `RejectedError`, `OverloadedError`."""
        ...

    def answer(self, identity: str) -> Row | None:
        """`{id, waiting, outcome}` of a command; None where it is not known, or no more."""
        ...


class ConnectorsView(Protocol):
    """The connectors as the API sees them."""

    def shown(self) -> Row:
        """`{connectors: [{name, kind, direction, state, moved, refused: {reason: count}, errors, waiting, last, trouble}]}`."""
        ...

    async def ingest(self, name: str, body: bytes, headers: Mapping[str, str], by: str) -> Row:
        """`{stored}`: all items of the body are in the log. Raises `NotFoundError`, `RefusedError`, `RejectedError`,
        `TooManyRequestsError` where the log is full or too much is under way, `UnavailableError`."""
        ...


class BundlesView(Protocol):
    """The bundles as the API sees them."""

    async def shown(self) -> Row:
        """`{bundles, active, trial, history}`; a bundle is `{id, name, version, needs, models, pipelines, connectors, state,
        signers}`, a trial `{id, bundle, at, phase, seconds_left, reason}`, of the history `{at, id, bundle, what, reason}`.
        In a cluster `nodes` besides: `{node, status, number, active, title, phase, failed}` each."""
        ...

    async def upload(self, content: bytes, file: str = "") -> Row:
        """Take one in: its row. Raises `RejectedError`, `UnavailableError`."""
        ...

    async def apply(self, bundle: str, probation: str = "", dead_letters: int = 0) -> Row:
        """Begin to apply one: the trial. Raises `RejectedError`, `ConfigError`."""
        ...

    async def rollback(self) -> Row:
        """Back to what was active before: `{active}`. Raises `RejectedError`, `ConfigError`, `UnavailableError`."""
        ...


class ClusterView(Protocol):
    """The cluster as the API sees it. All but `shown` raise `RejectedError` on a node that is in none."""

    def shown(self) -> Row:
        """`{enabled, sentence}`, and in a cluster `{name, nodes, leader, epoch, no_quorum_since, partitions, members}`."""
        ...

    def members(self) -> list[Row]:
        """`{id, address, status, reason, leader, capabilities, resources, version, site, started, partitions}` each, by id."""
        ...

    def leader(self) -> Row:
        """`{leader, epoch, no_quorum_since}`; `leader` is None where nobody is known to lead."""
        ...

    def changes(self, after: int) -> Row:
        """`{changes: [{sequence, at, kind, node, before, after, reason}], next}`: the last ones, behind a sequence."""
        ...

    async def token(self, seconds: float) -> Row:
        """`{token, expires_in}`: one node may join with it, once. Raises `RejectedError` for too long a time; as `drain` does."""
        ...

    def pending(self) -> list[Row]:
        """`{node, address, code}` of each that waits here for a person."""
        ...

    def approve(self, node: str, code: str) -> None:
        """Let one of them in. Raises `RejectedError` where none waits with this code."""
        ...

    async def drain(self, node: str) -> None:
        """Its work goes elsewhere. Raises `RejectedError` for an unknown node, `UnavailableError` without a quorum."""
        ...

    async def resume(self, node: str) -> None:
        """It gets work again; raises as `drain` does."""
        ...

    async def remove(self, node: str) -> None:
        """Take it out for good; raises as `drain` does, and `RejectedError` while it is there."""
        ...

    async def step_down(self) -> Row:
        """Have who leads give the office up. Raises `UnavailableError` where nobody does."""
        ...

    def promote(self) -> Row:
        """`{promoted, copied, behind}`: this node, which stands by, goes on with its copy of the log. Raises `RejectedError`."""
        ...


class AlarmsView(Protocol):
    """Alarms and what people did about them."""

    async def shown(self) -> Row:
        """`{alarms, complete}`; an alarm is `{alarm_id, pipeline, key, severity, label, score, flaps, since, last, state,
        acknowledged, shelved, comments}`, of which the last three say `{by, at, comment, until}`."""
        ...

    async def note(self, id: str, what: str, by: str, comment: str, duration: int = 0) -> Row | None:
        """Keep that somebody did `acknowledge`, `shelve`, `unshelve` or `comment`: durable when it returns. The alarm, or None."""
        ...


class JournalView(Protocol):
    """The node's log and its audit log."""

    async def log(self, sieve: Sieve, last: int) -> Row:
        """`{entries: [{timestamp, level, event, part, ...}], whole}`, oldest first, without secrets; `whole`: nothing older that
        fits was left unread. Raises `UnavailableError`."""
        ...

    async def audit(self, sieve: Sieve, last: int) -> Row:
        """The same of the audit log: `{timestamp, event, by, address, reason, ...}`."""
        ...


class NodeView(Protocol):
    """A node as its API sees it.

    Errors are those of `skerry.core.errors`. An unknown pipeline or device is None where the answer may be None; the other
    calls are made only with names that are known a moment before.
    """

    @property
    def uplink(self) -> UplinkView:
        """What has to do with the link to a centre."""
        ...

    @property
    def connectors(self) -> ConnectorsView:
        """What is brought in from other systems, and out to them."""
        ...

    @property
    def bundles(self) -> BundlesView:
        """Models, pipelines and connectors that came in one file."""
        ...

    @property
    def cluster(self) -> ClusterView:
        """Who is in the cluster, and what people have it do."""
        ...

    @property
    def alarms(self) -> AlarmsView:
        """What fires, and what people did about it."""
        ...

    @property
    def journal(self) -> JournalView:
        """What the node wrote down of itself."""
        ...

    def stale(self) -> str:
        """Why what is read here may be old, in a sentence; empty where it is not."""
        ...

    def ready(self) -> tuple[bool, str]:
        """Whether the node does its work, and why not (or what it does) in one sentence."""
        ...

    async def status(self) -> Row:
        """The node as a whole: node, site, version, ready, reason, uptime_ratio, pipelines, models, broker, storage,
        resources, uplink, cluster, ledger, warnings.

        A pipeline is `{name, state, reason, rate, lag, events, latency_ms: {p50, p99}, ledger}`, a ledger `{received, scored,
        open, waiting, duplicates, dead_letters: {reason: count}, difference}`; broker, storage and resources have a `sentence`.
        """
        ...

    def uptime(self, over_us: int) -> Row:
        """The last so many microseconds, 0: all: `{since, until, ratio, up_s, planned_s, unplanned_s, starts, gaps}`; a gap is
        `{begin, end, seconds, planned, reason, over}`."""
        ...

    def pipelines(self) -> list[Row]:
        """The pipelines as `status` has them."""
        ...

    def pipeline(self, name: str) -> Row | None:
        """One pipeline, with what the configuration says about it in `config`."""
        ...

    def windows(self, name: str) -> list[Row]:
        """`{key, end, score}` of the last windows that a pipeline scored, oldest first; of very fast ones a sample."""
        ...

    async def trace(self, pipeline: str, device: str, seconds: float) -> Row:
        """Its next message: `{key, topic, sequence, outcome, event, window, batch, total_ms, spans: [{step, begin, ms}]}`.

        Raises `UnavailableError` where none comes in time, `RejectedError`, `OverloadedError`."""
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

    async def model_server(self, request: Request) -> Response:
        """The model server's answer to a request under /v2 (Open Inference Protocol v2)."""
        ...

    def models(self) -> list[Row]:
        """`{name, version, active, state, file, inputs, outputs, metadata}` a version, or `error` where one does not load."""
        ...

    def model(self, name: str) -> Row | None:
        """`{name, active, versions: [row], running, shadow, rolled_back, history}`; None where there is none so named."""
        ...

    async def model_add(
        self,
        name: str,
        file: str,
        version: str | None,
        labels: list[str],
        threshold: float | None,
        features: list[str],
        convert: bool,
    ) -> Row:
        """Try a file (converted to a newer opset before, where asked for) and keep it as a staged version; its row.

        Raises `RejectedError` with what is wrong with the file."""
        ...

    async def model_upload(self, name: str, file: bytes, version: str | None) -> Row:
        """The same with what is in the file."""
        ...

    async def model_activate(self, name: str, version: str) -> None:
        """Switch to a version. Raises `ConfigError` or `RejectedError` for one that is not there or not fit."""
        ...

    async def model_rollback(self, name: str) -> None:
        """Switch to the version before. Raises `RejectedError` where there is none."""
        ...

    async def model_shadow(self, name: str, version: str | None) -> None:
        """Run a version beside the active one; None ends that."""
        ...

    async def model_remove(self, name: str, version: str) -> None:
        """Remove a version. Raises `RejectedError` for the active one."""
        ...

    async def devices(self) -> list[Row]:
        """`{id, kind, created, revoked, topics, connected, last_seen, since, messages, bytes}` each; no secret. `connected` is None
        where the broker does not say; `last_seen`: when it last said something or left, since the broker started."""
        ...

    def device_nodes(self) -> list[Row]:
        """Where devices reach each node of the cluster, this one first: `{node, mqtt, mqtts, websocket, http}`; or none."""
        ...

    async def device(self, id: str) -> Row | None:
        """One device."""
        ...

    async def device_add(
        self, id: str, topics: list[str], password: str | None = None, key: str = "", certificate: str = ""
    ) -> Row:
        """Add a device that proves itself with one of password, key (public, PEM) and certificate (PEM, `sha256:<hex>` or `ca`).

        The answer has its `password`, made where nothing was given. Raises `RejectedError` for an id, topic, key or certificate
        that will not do, or a device that is there already."""
        ...

    async def device_rotate(self, id: str, password: str | None, key: str, certificate: str) -> Row:
        """Give it another credential and end its connections; the answer has its `password`, if it has one now.

        Raises `RejectedError` for a key or certificate that will not do, and for a revoked device."""
        ...

    async def device_revoke(self, id: str) -> None:
        """Refuse it from now on and end its connection; it stays in the list."""
        ...

    async def device_remove(self, id: str) -> None:
        """Forget it and end its connection."""
        ...

    async def auth_challenge(self, device: str, address: str) -> Row:
        """`{challenge, expires_in}` for whatever name."""
        ...

    async def auth_token(self, device: str, challenge: str, signature: str, address: str) -> Row | None:
        """`{token, expires_in}`, or None where the device is not let in."""
        ...

    async def backup_begin(self) -> Row:
        """Hold the log and copy what only the node may open: `{place, copied, seconds}`."""
        ...

    async def backup_end(self) -> None:
        """Let go of both."""
        ...

    async def store(self) -> "KeyValueStore":
        """The node's key-value store, open."""
        ...

    async def series(self, prefix: str, after: str, limit: int) -> list[str]:
        """Names of the history's series in order, behind one. Raises `UnavailableError` where there is no history."""
        ...

    async def series_page(self, name: str, start: int, end: int, every: int | None, aggregate: str, limit: int) -> Row | None:
        """`{times, values, next}` of `[start, end)`, all in microseconds; None for an unknown series. Raises `RejectedError`."""
        ...

    async def messages(self, topic: str, since: int | None, limit: int, after: str | None) -> Row:
        """A page of the log: `{messages: [{sequence, at, topic, payload or payload_base64}], next, through, oldest, trimmed}`."""
        ...

    async def deadletters(self, pipeline: str, limit: int, after: str | None, which: LetterFilter) -> tuple[list[Row], str | None]:
        """A page of dead letters, oldest first, and the token of the next page; with what is inside where ids are asked for."""
        ...

    async def deadletters_retry(self, pipeline: str, which: LetterFilter) -> int:
        """Put those back to be processed again; how many."""
        ...

    async def deadletters_drop(self, pipeline: str, which: LetterFilter) -> int:
        """Forget those; how many."""
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
