"""What the demo's screen shows. Pure: a state of the demo → lines of at most 80 columns (but for the line to paste)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from skerry.cli.session import clean, number
from skerry.cli.status import books_sentence
from skerry.core.units import counted, show_size

if TYPE_CHECKING:
    from skerry.demo import DemoState

_UNITS = {"cpu": "%", "memory": "%", "disk": "MiB/s", "network": "MiB/s"}
_WIDTH = 79


class Line(NamedTuple):
    """A line and how it looks."""

    text: str
    style: str = ""


def addresses(state: "DemoState") -> list[Line]:
    """Where the demo can be reached, and a message of one's own to paste."""
    mqtt, http = state.addresses.get("mqtt", ""), state.addresses.get("http", "")
    lines = [Line(f"MQTT broker  {mqtt}")]
    if state.addresses.get("dashboard"):
        lines.append(Line(f"dashboard    {state.addresses['dashboard']}"))
    if http:
        lines.append(Line(f"HTTP         http://{http}/api/v1/events  http://{http}/metrics"))
    return [*lines, Line("send a message of your own, from another terminal:"), Line(f"  {state.paste}")]


def screen(state: "DemoState") -> list[Line]:
    """The moving part of the screen."""
    alarm = bool(state.alarms)
    lines = [Line(""), *_sentence(state.sentence, "bold red" if alarm else "bold green"), Line("")]
    lines += [Line(f"{'DEVICE':24}{'TRUE':18}{'PREDICTED':18}{'SCORE':>8}", "bold")]
    lines += [_device(row) for row in state.devices]
    if state.computer:
        lines += [Line(""), Line(f"this computer: {_computer(state.computer)}", "red" if state.loaded else "")]
    lines += _sentence(f"alarms now: {', '.join(_alarm(each) for each in state.alarms) or 'none'}", "bold red" if alarm else "")
    lines += [Line(""), Line(_scores(state.scores)), Line(_episodes(state.scores))]
    lines.append(Line(f"{number(state.messages_per_s)} messages/s, publish to event {_latency(state.latency_ms)}"))
    lines.append(Line(_traffic(state.bytes_in, state.bytes_up)))
    lines += [Line(""), *_sentence(books_sentence(state.books), "" if _balanced(state.books) else "bold red")]
    lines += [Line(text, "dim") for text in _believe(state.acknowledged)]
    keys = "l: load this computer for some seconds (a real alarm)   " if state.computer else ""
    lines += [Line(""), Line(f"{keys}q or Ctrl-C: stop", "bold")]
    return lines


def summary(answer: Mapping[str, Any]) -> list[str]:
    """The end of the demo, for people."""
    latency = answer.get("latency_ms") or {}
    count = {name: number(answer.get(name)) for name in ("acknowledged", "lost", "duplicates", "dead_letters")}
    messages, windows, events = (counted(answer.get(f"{noun}s"), noun) for noun in ("message", "window", "event"))
    rate, passed = number(answer.get("messages_per_s"), 1), number(answer.get("seconds"), 1, "s")
    precision, recall = _ratio(answer.get("precision")), _ratio(answer.get("recall"))
    kept = f"acknowledged to the devices {count['acknowledged']}, lost {count['lost']}"
    lines = [
        f"{messages} in {passed}, {windows} scored, {events}",
        f"{kept}, duplicates {count['duplicates']}, dead letters {count['dead_letters']}",
        f"{rate} messages/s, publish to event {_latency(latency)}",
        f"faults: precision {precision}, recall {recall}, median delay {number(answer.get('delay_s'), 1, 's')}",
        _traffic(answer.get("bytes_in") or 0, answer.get("bytes_up") or 0),
    ]
    found = answer.get("versions") or {}
    return [*lines, ", ".join(f"{clean(name)} {clean(each)}" for name, each in found.items())]


def _sentence(text: str, style: str) -> list[Line]:
    """Cut between words to lines that fit."""
    lines = [""]
    for word in clean(text).split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > _WIDTH:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return [Line(line, style) for line in lines]


def _device(row: Mapping[str, Any]) -> Line:
    true, predicted = clean(row.get("true")), clean(row.get("predicted"))
    agree = true == predicted
    style = "" if agree and true == "normal" else "red" if agree else "yellow"
    return Line(f"{clean(row.get('device')):24.23}{true:18.17}{predicted:18.17}{number(row.get('score'), 2):>8}", style)


def _believe(acknowledged: int) -> tuple[str, str]:
    return (
        f"why a zero can be believed: the devices counted {number(acknowledged)} acknowledgements",
        "themselves; the books are made of what was read from the log: two counts apart",
    )


def _alarm(event: Mapping[str, Any]) -> str:
    what = clean(event["label"]) if event.get("label") is not None else f"score {number(event.get('score'), 2)}"
    return f"{clean(event.get('key'))} {what}"


def _computer(values: Mapping[str, float]) -> str:
    return ", ".join(
        f"{name} {number(values[name], 0 if unit == '%' else 1)} {unit}" for name, unit in _UNITS.items() if name in values
    )


def _scores(scores: Any) -> str:
    return (
        f"precision {_ratio(scores.precision)}, recall {_ratio(scores.recall)}, "
        f"median delay {number(scores.delay_s, 1, 's')} over {counted(scores.windows, 'window')}"
    )


def _episodes(scores: Any) -> str:
    return (
        f"faults so far {number(scores.episodes)}: {number(scores.detected)} found, {number(scores.missed)} missed; "
        f"{number(scores.false_alarms)} false alarms"
    )


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _latency(latency: Mapping[str, float | None]) -> str:
    return f"p50 {number(latency.get('p50'), 1, 'ms')}, p99 {number(latency.get('p99'), 1, 'ms')}"


def _traffic(bytes_in: int, bytes_up: int) -> str:
    less = f", {bytes_in / bytes_up:,.0f} times less" if bytes_up else ""
    return f"{show_size(bytes_in)} came in, {show_size(bytes_up)} of alarms would go up the link{less}"


def _balanced(books: Mapping[str, Any]) -> bool:
    return not books.get("difference")
