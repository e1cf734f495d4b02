"""Pieces of a page: text that is escaped, elements, and numbers with their units. Pure."""

from collections.abc import Iterable, Sequence
from html import escape

from skerry.core.clock import from_rfc3339
from skerry.core.units import show_duration, show_size

NONE = "–"
_VOID = frozenset({"input", "br", "hr", "img", "meta"})


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def h(tag: str, /, *inside: object, **attributes: object) -> Html:
    """An element. Text in it is escaped; `class_` is `class`, `aria_label` is `aria-label`; None and False leave one out."""
    given = "".join(_attribute(key, value) for key, value in attributes.items())
    return Html(f"<{tag}{given}>" if tag in _VOID else f"<{tag}{given}>{join(inside)}</{tag}>")


def join(parts: Iterable[object]) -> Html:
    """Parts, one behind the other; None is nothing."""
    return Html("".join(part if isinstance(part, Html) else escape(str(part)) for part in parts if part is not None))


def _attribute(key: str, value: object) -> str:
    name = key.removesuffix("_").replace("_", "-")
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'


def count(value: object) -> str:
    """`12,345`."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if isinstance(value, float) else NONE


def rate(value: object) -> str:
    """Messages a second: `12.3 /s`, `4,500 /s`."""
    if not isinstance(value, int | float):
        return NONE
    return f"{value:,.0f} /s" if value >= 100 else f"{value:.1f} /s"


def ms(value: object) -> str:
    """Milliseconds: `0.47 ms`, `12.3 ms`, `1.5 s`."""
    if not isinstance(value, int | float):
        return NONE
    if value >= 1000:
        return f"{value / 1000:,.1f} s"
    return f"{value:.2f} ms" if value < 1 else f"{value:.1f} ms" if value < 100 else f"{value:.0f} ms"


def percent(ratio: object, digits: int = 1) -> str:
    """`99.95 %`; what is not quite all is never rounded up to all."""
    if not isinstance(ratio, int | float):
        return NONE
    shown = f"{100 * ratio:.{digits}f}"
    if ratio < 1 and float(shown) >= 100:
        shown = f"{100 - 10**-digits:.{digits}f}"
    return f"{shown} %"


def size(value: object) -> str:
    """`1.5 MiB`."""
    return show_size(value) if isinstance(value, int | float) else NONE


def score(value: object) -> str:
    """`0.973`, `12.4`."""
    if not isinstance(value, int | float):
        return NONE
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.4g}"


def moment(text: object, day: bool = True) -> Html:
    """A time of the API as people read it, in UTC, with the whole of it for machines and pointers."""
    if not isinstance(text, str) or len(text) < 19:
        return Html(NONE)
    shown = f"{text[:10]} {text[11:19]}" if day else text[11:19]
    return h("time", shown, datetime=text, title=f"{text} UTC")


def ago(text: object, now: int) -> Html:
    """How long a time of the API is past: `12 s ago`."""
    if not isinstance(text, str):
        return Html(NONE)
    try:
        passed = max(0, now - from_rfc3339(text))
    except ValueError:
        return Html(NONE)
    shown = f"{passed // 1_000_000} s" if passed < 120_000_000 else show_duration(passed)
    if passed >= 48 * 3_600_000_000:
        shown = f"{passed // 86_400_000_000} days"
    return h("time", f"{shown} ago", datetime=text, title=f"{text} UTC")


def topic(text: str) -> Html:
    """A topic that breaks between its levels, where it has to."""
    return Html(escape(text).replace("/", "/<wbr>"))


def pill(word: object, tone: str = "") -> Html:
    """A state in a word; the tone (good, warn, bad, calm) is never all that says it."""
    return h("span", h("i", aria_hidden="true"), word, class_=f"pill {tone}".strip())


def table(
    caption: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[object]],
    numbers: Iterable[int] = (),
    look: str = "",
    keys: Sequence[str] = (),
) -> Html:
    """A table that becomes a list of cards on a phone. `numbers`: columns set to the right. `look`: a class of its own. `keys`: of
    rows that people choose, so that a choice stays with its row."""
    right = set(numbers)
    head = h("tr", *[h("th", text, scope="col", class_="num" if at in right else None) for at, text in enumerate(heads)])
    body = [
        h(
            "tr",
            *[h("td", cell, class_="num" if at in right else None, data_label=heads[at]) for at, cell in enumerate(row)],
            data_key=keys[number] if keys else None,
        )
        for number, row in enumerate(rows)
    ]
    return h("table", h("caption", caption, class_="unseen"), h("thead", head), h("tbody", *body), class_=look or None)


def empty(sentence: object, *more: object) -> Html:
    """In the place of what is not there: a sentence, and what to do about it."""
    return h("div", h("p", sentence), *[h("p", each, class_="soft") for each in more], class_="empty")


def card(title: str, *inside: object, note: object = None, id: str = "", wide: bool = False) -> Html:
    """A titled part of a page."""
    head = h("header", h("h2", title, id=id or None), h("span", note, class_="soft") if note is not None else None)
    return h("section", head, *inside, class_="card wide" if wide else "card", aria_label=title)


def facts(rows: Iterable[tuple[str, object]]) -> Html:
    """Names and values."""
    return h("dl", *[h("div", h("dt", name), h("dd", value)) for name, value in rows], class_="facts")
