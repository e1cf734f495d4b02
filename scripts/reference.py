"""Reference pages out of the code, for `scripts/site.py`: command line, configuration, HTTP, Python, metrics, decisions."""

import inspect
import json
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import msgspec
import typer

import skerry
from scripts.man import leaves
from skerry import config
from skerry.api.endpoints import openapi
from skerry.api.handlers import Handlers
from skerry.cli.app import app
from skerry.node.metrics import Figures, render

WIDE = 80
ROOT = Path(__file__).resolve().parents[1]


def pages() -> dict[str, str]:
    """File name → text of every page."""
    return {
        "cli.md": cli(),
        "config.md": configuration(),
        "http.md": http(),
        "python.md": python(),
        "metrics.md": metrics(),
        "decisions.md": decisions(),
    }


def cli() -> str:
    """Every command with its arguments and options."""
    root: Any = typer.main.get_command(app)
    context = root.make_context("skerry", [], resilient_parsing=True)
    lines = ["# Command line", "", root.help, "", "Options of every command, before it or after it:", ""]
    lines += _options(root, context)
    group = ""
    for command, inside in leaves(root, context):
        path = inside.command_path
        _, first, *rest = path.split()
        if rest and first != group:
            group = first
            lines += ["", f"## skerry {group}"]
        usage = " ".join(piece for piece in command.collect_usage_pieces(inside) if piece != "[OPTIONS]")
        lines += ["", f"{'###' if rest else '##'} {path}", "", f"`{f'{path} {usage}'.rstrip()}`", ""]
        lines += [" ".join((command.help or "").split()), ""]
        lines += _options(command, inside)
    return _joined(lines)


def _options(command: Any, context: Any) -> list[str]:
    records = [each.get_help_record(context) for each in command.get_params(context)]
    rows = [
        (record[0], " ".join(record[1].split())) for record in records if record is not None and not record[0].startswith("-h,")
    ]
    return _table(("option", "what it does"), [(f"`{name}`", told) for name, told in rows])


def configuration() -> str:
    """Every table of skerry.toml, from the JSON Schema that `skerry config schema` prints."""
    schema = config.schema()
    lines = [
        "# Configuration schema", "",
        "What `skerry config schema` says, as text; what the keys mean is in the [guide](../docs/guide.md#configuration).",
    ]  # fmt: skip
    for name, table in schema["$defs"].items():
        properties = table.get("properties")
        if not properties:
            continue
        lines += ["", f"## {name}", "", *_quoted(table.get("description", "")), ""]
        rows = [(f"`{key}`", _type(each), _default(each)) for key, each in properties.items()]
        lines += _table(("key", "type", "default"), rows)
    return _joined(lines)


def _type(each: dict[str, Any]) -> str:
    if "$ref" in each:
        name = str(each["$ref"]).rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in each:
        return " or ".join(_type(one) for one in each["anyOf"])
    if "enum" in each:
        return " or ".join(f"`{json.dumps(value)}`" for value in each["enum"])
    if each.get("type") == "array" and isinstance(each.get("items"), dict):
        return f"list of {_type(each['items'])}"
    return str(each.get("type", "any"))


def _default(each: dict[str, Any]) -> str:
    return f"`{json.dumps(each['default'], ensure_ascii=False)}`" if "default" in each else ""


def http() -> str:
    """Every endpoint, from the OpenAPI document that the node serves."""
    handlers = Handlers(cast(Any, None), version("skerry"))  # the endpoints are asked of it, and nothing of a node
    document = openapi(handlers.endpoints(), version("skerry"))
    lines = [
        "# HTTP", "",
        "What `GET /api/v1/openapi.json` of a node says. Errors are `application/problem+json` with `title`, `detail`, `mend`.",
    ]  # fmt: skip
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            security = operation["security"]
            scope = f"scope `{security[0]['token'][0]}`" if security else "no token"
            lines += ["", f"## {method.upper()} {path}", "", f"{operation['summary']} ({scope}).", ""]
            rows = [(f"`{each['name']}`", each["in"], each.get("description", "")) for each in operation["parameters"]]
            lines += _table(("parameter", "in", "what"), rows)
            if "requestBody" in operation:
                body = operation["requestBody"]["content"]["application/json"]["schema"]
                lines += ["", "Body:", "", "```json", json.dumps(body, indent=2), "```"]
    return _joined(lines)


def python() -> str:
    """Every public name of the package with its signature and docstring, and those of its public methods."""
    lines = ["# Python", "", str(skerry.__doc__), "", "Every call returns, or raises an error of `skerry.errors`."]
    for name in sorted(skerry.__all__):
        found = getattr(skerry, name)
        if inspect.ismodule(found):
            lines += ["", f"## skerry.{name}", "", str(found.__doc__), ""]
            kinds = [(each, str(kind.__doc__)) for each, kind in vars(found).items() if inspect.isclass(kind)]
            lines += _table(("error", "what it means"), [(f"`{each}`", told.splitlines()[0]) for each, told in kinds])
            continue
        lines += ["", f"## {name}", "", *_code(f"class {name}{_signature(found)}"), "", *_quoted(inspect.getdoc(found) or "")]
        for method, what in _methods(found):
            head = f"{'async ' if inspect.iscoroutinefunction(what) else ''}def {method}{_signature(what)}"
            lines += ["", f"### {name}.{method}", "", *_code(head), "", *_quoted(inspect.getdoc(what) or "")]
    return _joined(lines)


def _methods(kind: Any) -> Iterator[tuple[str, Any]]:
    for name, _ in inspect.getmembers(kind):
        if name.startswith("_"):
            continue
        what = inspect.getattr_static(kind, name)
        what = what.__func__ if isinstance(what, classmethod | staticmethod) else what
        what = what.fget if isinstance(what, property) else what
        if inspect.isfunction(what) and inspect.getdoc(what):
            yield name, what


def _signature(what: Any) -> str:
    """On one line where that is short, else a line a parameter."""
    try:
        signature = inspect.signature(what)
    except (TypeError, ValueError):
        return "(…)"
    found = re.sub(r" at 0x[0-9a-f]+", "", str(signature))
    if len(found) <= WIDE:
        return found
    lines, named = [], False
    for each in signature.parameters.values():
        if each.kind is each.KEYWORD_ONLY and not named:
            named = True
            lines.append("    *,")
        lines.append(re.sub(r" at 0x[0-9a-f]+", "", f"    {each},"))
    return "(\n" + "\n".join(lines) + "\n)" + found.rpartition(")")[2]


def metrics() -> str:
    """Every metric of /metrics with its type and its help."""
    text = render(Figures())
    helps = dict(re.findall(r"^# HELP (\S+) (.*)$", text, re.MULTILINE))
    rows = [(f"`{name}`", kind, helps.get(name, "")) for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE)]
    more = "What to watch and what to do: [operations](../docs/operations.md#metrics)."
    return _joined(["# Metrics", "", f"What `GET /metrics` answers. {more}", "", *_table(("metric", "type", "what"), rows)])


def decisions() -> str:
    """The records of decisions, by number."""
    lines = ["# Decisions", "", "Each with its question, what was weighed, and what follows.", ""]
    for path in sorted((ROOT / "docs" / "adr").glob("[0-9]*.md")):
        title = path.read_text("utf-8").splitlines()[0].removeprefix("# ")
        lines.append(f"- [{title}](../docs/adr/{path.name})")
    return _joined(lines)


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    if not rows:
        return []
    cells = [[_cell(cell) for cell in row] for row in rows]
    return [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}", *[f"| {' | '.join(row)} |" for row in cells]]


def _cell(text: str) -> str:
    """Text that stays in its cell, and is no HTML outside of code."""
    return text.replace("|", "\\|") if text.startswith("`") else text.replace("|", "\\|").replace("<", "&lt;")


def _quoted(text: str) -> list[str]:
    """A docstring as it is: its line breaks and indents are its form."""
    return ["```text", *text.splitlines(), "```"] if text else []


def _code(text: str) -> list[str]:
    return ["```python", text, "```"]


def _joined(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(msgspec.json.encode({name: len(text) for name, text in pages().items()}).decode())
