"""The man page, packaging/skerry.1, out of the command tree: written by `scripts/man.py --write`, else only compared."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from skerry.cli.app import app
from skerry.cli.explain import words

FILE = Path(__file__).resolve().parents[1] / "packaging" / "skerry.1"
FILES = (
    ("./skerry.toml, /etc/skerry/skerry.toml", "The configuration: the first that is there, unless --config names one."),
    ("data/, /var/lib/skerry", "What a node keeps: `node.data_dir`; the second as a service."),
)
ENVIRONMENT = (
    ("SKERRY_CONFIG", "The configuration file."),
    ("SKERRY_TOKEN", "The token for --url, where --token-file names none."),
    ("SKERRY_<SECTION>__<KEY>", "The value of a key of the configuration, such as SKERRY_BROKER__MQTT=0.0.0.0:1883."),
)


def page() -> str:
    """The man page in roff (man(7))."""
    root: Any = typer.main.get_command(app)
    context = root.make_context("skerry", [], resilient_parsing=True)
    lines = ['.\\" Written by scripts/man.py --write.', '.TH SKERRY 1 "" skerry "User Commands"', ".nh", ".ad l"]
    lines += [".SH NAME", escaped("skerry - run ONNX models on live MQTT device data")]
    lines += [".SH SYNOPSIS", ".B skerry", escaped("[OPTIONS] COMMAND [ARGS]..."), ".SH DESCRIPTION", escaped(root.help)]
    lines += [".SH OPTIONS", escaped("They may stand before the command or after it."), *options(root, context)]
    lines.append(".SH COMMANDS")
    for command, inside in leaves(root, context):
        usage = " ".join(piece for piece in command.collect_usage_pieces(inside) if piece != "[OPTIONS]")
        lines += [f".SS {quoted(f'{inside.command_path} {usage}'.rstrip())}", escaped(" ".join((command.help or "").split()))]
        lines += options(command, inside)
    exits = tuple((each.word, each.what) for each in words() if each.kind == "exit code")
    for title, rows in (("EXIT STATUS", exits), ("FILES", FILES), ("ENVIRONMENT", ENVIRONMENT)):
        lines.append(f".SH {quoted(title)}")
        for name, told in rows:
            lines += [".TP", f".B {quoted(name)}", escaped(told)]
    return "\n".join(lines) + "\n"


def leaves(group: Any, context: Any) -> Iterator[tuple[Any, Any]]:
    """Each command with a context of its own, groups gone through in the order of the help."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        inside = type(context)(command, info_name=name, parent=context)
        if command.hidden:
            continue
        if hasattr(command, "list_commands"):
            yield from leaves(command, inside)
        else:
            yield command, inside


def options(command: Any, context: Any) -> list[str]:
    """The arguments and options of one command, as tagged paragraphs."""
    records = [each.get_help_record(context) for each in command.get_params(context)]
    found = []
    for record in records:
        if record is not None and not record[0].startswith("-h,"):
            found += [".TP", f".B {quoted(record[0])}", escaped(" ".join(record[1].split()))]
    return found


def escaped(text: str) -> str:
    """Text that roff prints as it is."""
    plain = text.replace("\\", "\\e").replace("-", "\\-")
    plain = "".join(each if each.isascii() else f"\\[u{ord(each):04X}]" for each in plain)
    return f"\\&{plain}" if plain.startswith((".", "'")) else plain


def quoted(text: str) -> str:
    """The same as one argument of a macro."""
    return '"' + escaped(text).replace('"', '""') + '"'


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the file")
    given = parser.parse_args()
    if given.write:
        FILE.write_text(page(), encoding="utf-8")
    elif not FILE.exists() or FILE.read_text("utf-8") != page():
        print("packaging/skerry.1 is not what the command line says: .venv/bin/python scripts/man.py --write", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
