"""The overview: how the node does, the four promises as live figures, alarms now, pipelines, and what a person should look at."""

from collections.abc import Sequence
from typing import Any

from skerry.dashboard.alarms import listed
from skerry.dashboard.html import (
    Html,
    card,
    count,
    empty,
    facts,
    h,
    join,
    ms,
    percent,
    pill,
    rate,
    size,
    table,
)
from skerry.dashboard.plot import Line, plot, spark
from skerry.dashboard.watch import Sample

Row = dict[str, Any]
MOST_ALARMS = 20
STATES = {
    "running": "good", "paused": "calm", "starting": "calm", "elsewhere": "calm", "quarantined": "bad", "stopped": "bad",
    "failed": "bad",
}  # fmt: skip


def overview(status: Row, samples: Sequence[Sample], alarms: Sequence[Row] | None) -> Html:
    """The page. `alarms` None: they are not known."""
    return join(
        [
            head(status),
            h("div", *promises(status, samples), class_="cards four"),
            card("Alarms now", _alarms(alarms), note=h("a", "All alarms", href="/alarms"), wide=True),
            card("Messages", _rates(samples), note="last ten minutes", wide=True),
            card("Pipelines", pipelines_table(status.get("pipelines") or []), wide=True),
            _warnings(status.get("warnings") or []),
        ]
    )


def head(status: Row) -> Html:
    """The node in one sentence, and its cluster in another."""
    ready = status.get("ready")
    state = pill("ready", "good") if ready else pill("not ready", "bad")
    cluster = status.get("cluster")
    words = cluster.get("sentence") if isinstance(cluster, dict) else "one node, no cluster"
    return h(
        "header",
        h("h1", status.get("node", "skerry"), h("small", f" {status.get('site', '')}")),
        h("p", state, " ", _sentence(status.get("reason") or ""), " ", h("span", _sentence(words or ""), class_="soft")),
        class_="page-head",
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def promises(status: Row, samples: Sequence[Sample]) -> list[Html]:
    """The four promises: a figure, what it means, and its last ten minutes."""
    told = status.get("promises") or {}
    latency, reliability = told.get("latency") or {}, told.get("reliability") or {}
    efficiency, bandwidth = told.get("efficiency") or {}, told.get("bandwidth") or {}
    arrival, ledger = latency.get("arrival_ms") or {}, status.get("ledger") or {}
    lost = int(ledger.get("given_up") or 0) + abs(int(ledger.get("difference") or 0))
    came, saved = bandwidth.get("bytes_in") or 0, bandwidth.get("bytes_saved") or 0
    link = latency.get("link_ms")
    beside = f"the link alone takes {ms(link.get('p50') if isinstance(link, dict) else link)}" if link else "no link to compare"
    return [
        _promise(
            "Latency", ms(arrival.get("p99")), "p99, message at the broker to event",
            f"p50 {ms(arrival.get('p50'))}; {beside}", [(each.at, each.p99) for each in samples],
        ),
        _promise(
            "Reliability", percent(reliability.get("ratio"), 3), "of the time it was up",
            f"{count(lost)} acknowledged messages lost; {_gaps(reliability.get('gaps'))}",
            [(each.at, None if each.day_ratio is None else 100 * each.day_ratio) for each in samples],
        ),
        _promise(
            "Efficiency", count(efficiency.get("scored_per_cpu_s")), "messages scored a CPU-second",
            f"{size(efficiency.get('memory_per_device'))} of memory a device; {count(efficiency.get('devices'))} devices",
            [(each.at, each.scored_per_cpu_s) for each in samples],
        ),
        _promise(
            "Bandwidth", percent(saved / came if came else None), "of the bytes that came stayed here",
            f"{size(came)} in, {size(bandwidth.get('bytes_sent'))} sent up", [(each.at, each.bytes_in) for each in samples],
        ),
    ]  # fmt: skip


def _gaps(number: object) -> str:
    return "1 gap" if number == 1 else f"{count(number)} gaps"


def _promise(name: str, figure: str, what: str, more: str, points: list[tuple[float, float | None]]) -> Html:
    return h(
        "section", h("h2", name), h("p", figure, class_="figure"), h("p", what), spark(points, f"{name}, last ten minutes"),
        h("p", more, class_="soft"), class_="card promise", aria_label=name,
    )  # fmt: skip


def _alarms(alarms: Sequence[Row] | None) -> Html:
    if alarms is None:
        return empty("Which alarms are firing is not known.", "This log-in may not read events.")
    if not alarms:
        return empty("No alarm is firing.", "A pipeline with a rule raises one when its score passes the bound.")
    return listed("Alarms that are firing", alarms[:MOST_ALARMS])


def _rates(samples: Sequence[Sample]) -> Html:
    if len(samples) < 2:
        return empty("The first figures are on their way.")
    return plot([Line("messages", [(each.at, each.rate) for each in samples])], "Messages a second", "messages/s", zero=True)


def pipelines_table(pipelines: Sequence[Row]) -> Html:
    """A row a pipeline."""
    if not pipelines:
        return empty("There is no pipeline yet.", "Add a [[pipelines]] table to skerry.toml, then run: skerry config reload")
    rows = [
        (
            h("a", row["name"], href=f"/pipelines/{row['name']}"),
            pill(row["state"], STATES.get(row["state"], "warn")),
            rate(row["rate"]),
            count(row["lag"]),
            ms(row["latency_ms"]["p50"]),
            ms(row["latency_ms"]["p99"]),
            count(row["events"]),
            count(sum(row["ledger"]["dead_letters"].values())),
        )
        for row in pipelines
    ]
    heads = ("Pipeline", "State", "Messages", "Waiting", "p50", "p99", "Events", "Dead letters")
    return table("Pipelines", heads, rows, range(2, 8))


def _warnings(warnings: Sequence[str]) -> Html:
    if not warnings:
        return Html("")
    rows = [h("li", pill("look", "warn"), " ", _sentence(text)) for text in warnings]
    return card("To look at", h("ul", *rows, class_="plain"), wide=True)


def processes_table(processes: Sequence[Row]) -> Html:
    """A row a process."""
    rows = [
        (row["name"], row["pid"] or "–", size(row["memory"]), f"{row['cpu_s']:,.1f} s", count(row["restarts"])) for row in processes
    ]
    return table("Processes", ("Process", "PID", "Memory", "CPU time", "Restarts"), rows, range(1, 5))


def resources(status: Row) -> Html:
    """What is used of what may be."""
    found = status.get("resources") or {}
    return facts([("Resources", found.get("sentence", "")), ("Broker", (status.get("broker") or {}).get("sentence", ""))])
