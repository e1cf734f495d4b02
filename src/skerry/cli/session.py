"""What one command works with: the global options, the configuration, the node's client, and the paper to print on."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from skerry.core.errors import ConfigError, RejectedError

if TYPE_CHECKING:
    from skerry.config import NodeConfig
    from skerry.http import Client

LOG_FILE = Path("logs") / "skerry.log"
_WIDE = 100_000
T = TypeVar("T")


@dataclass(frozen=True)
class Session:
    """The global options of one call, and what follows from them."""

    config_file: Path | None = None
    json: bool = False
    url: str = ""
    quiet: bool = False
    verbose: bool = False
    token_file: Path | None = None
    ca: Path | None = None

    @property
    def file(self) -> Path | None:
        """The configuration file, or None where there is none."""
        from skerry import config  # late: most of the start-up time is its imports

        return config.find(self.config_file)

    def config(self, with_models: bool = True) -> "NodeConfig":
        """The checked configuration. Raises `ConfigError`, also when there is no file (and no variable in its place)."""
        from skerry import config  # late: most of the start-up time is its imports

        file = self.file
        if file is None and not any(name.startswith("SKERRY_") and "__" in name for name in os.environ):
            raise ConfigError(
                "there is no configuration: neither $SKERRY_CONFIG nor ./skerry.toml nor /etc/skerry/skerry.toml",
                mend="make one with `skerry init`, or name it with --config",
            )
        return config.load(file, with_models)

    def client(self, timeout: float = 10.0) -> "Client":
        """A client of the node: at `--url` with the token given, else through the Unix socket in the data directory."""
        from skerry.http import Client  # late: commands that ask no node go without

        if self.url:
            token = self._token()
            if token:
                self._warn_of_clear_text()
            return Client(self.url, timeout, token=token, ca=self.ca or "", told=self.note)
        if self.token_file is not None:
            raise ConfigError("is for another node's URL", where="--token-file", mend="add --url https://host:port")
        return Client(self.socket(), timeout, told=self.note)

    def asked(self, ask: Callable[[], T], alone: Callable[[], T]) -> T:
        """What the node answers; where none runs on this computer, and `--url` names no other, what is found without one."""
        from skerry.http import UnreachableError  # late: commands that ask no node go without

        try:
            return ask()
        except UnreachableError:
            if self.url:
                raise
        return alone()

    def socket(self) -> Path:
        """The Unix socket of the node in this configuration."""
        socket = self._usual_socket()
        if socket is None:
            from skerry import config  # late: most of the start-up time is its imports

            # without a bundle: where the node is does not depend on one, and `bundle rollback` must work where one is damaged
            socket = config.socket_path(config.load(self.file, with_models=False, bundle=""))
        return socket

    def _token(self) -> str:
        """What `--token-file` holds, else `$SKERRY_TOKEN`; empty where there is neither."""
        if self.token_file is None:
            return os.environ.get("SKERRY_TOKEN", "").strip()
        try:
            token = self.token_file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not text"
            raise ConfigError(f"cannot be read: {why}", where=str(self.token_file), mend="name the file with the token") from error
        if not token:
            raise ConfigError("is empty", where=str(self.token_file), mend="put the token into it")
        return token

    def _warn_of_clear_text(self) -> None:
        from skerry.http import parse_target
        from skerry.runtime import is_loopback  # late: commands that ask no node go without

        target = parse_target(self.url)
        if not target.tls and not is_loopback(target.host):
            self.note("warning: over http:// the token can be read on the way; use https://")

    def _usual_socket(self) -> Path | None:
        """The node's socket where it usually is, if it is there.

        Looks at nothing but `node.data_dir`: four times as fast, and it works while the file has a fault in another place.
        """
        from skerry.core.settings import load_tables  # late: --help goes without

        named = self.config_file or (Path(os.environ["SKERRY_CONFIG"]) if os.environ.get("SKERRY_CONFIG") else Path("skerry.toml"))
        if not named.is_file():
            return None
        node = load_tables(named).values.get("node", {})
        data_dir = node.get("data_dir", "./data") if isinstance(node, dict) else None
        socket = (named.parent / data_dir).resolve() / "skerry.sock" if isinstance(data_dir, str) else None
        return socket if socket is not None and socket.exists() else None

    def show(self, answer: object, draw: "Callable[[Paper], None]") -> None:
        """Print the answer: as JSON, or drawn for people unless they want quiet."""
        if self.json:
            print_json(answer)
        elif not self.quiet:
            draw(Paper())

    def note(self, text: str) -> None:
        """A word beside the answer, on stderr."""
        if not self.quiet:
            print(text, file=sys.stderr)


@contextmanager
def new_file(out: Path | None) -> Iterator[Callable[[str], object]]:
    """What writes into a new file of mode 0600, which is there before anything else is done and gone when that fails.

    Raises `RejectedError` where it cannot be made. Without a file, what is written goes nowhere."""
    if out is None:
        yield len
        return
    try:
        descriptor = os.open(out, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except OSError as error:
        raise RejectedError(f"cannot be made: {error.strerror}", where=str(out), mend="name a new file") from error
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            yield file.write
    except BaseException:
        out.unlink(missing_ok=True)
        raise


def session(context: typer.Context) -> Session:
    """The session of a command's context."""
    found = context.find_object(Session)
    assert found is not None
    return found


def print_json(answer: object) -> None:
    """One JSON object: indented on a terminal, one line elsewhere."""
    import msgspec  # late: --help goes without

    text = msgspec.json.encode(answer)
    print((msgspec.json.format(text, indent=2) if sys.stdout.isatty() else text).decode(), flush=True)


def clean(value: Any) -> str:
    """A value as text that cannot drive a terminal: what is not printable is written as an escape. None is a dash."""
    if value is None:
        return "-"
    text = str(value)
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def number(value: Any, digits: int = 0, unit: str = "") -> str:
    """`1,234.5 ms`; a dash where there is none."""
    if not isinstance(value, int | float):
        return "-"
    return f"{value:,.{digits}f}{' ' + unit if unit else ''}"


class Paper:
    """Lines and tables on stdout: 80 columns and colour on a terminal, natural width and plain elsewhere."""

    def line(self, text: str = "") -> None:
        """One line of text, as it is."""
        print(text)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Any]], right: Sequence[str] = ()) -> None:
        """A table; the columns named in `right` hold numbers."""
        from rich.console import Console  # late: it takes a tenth of a second
        from rich.table import Table
        from rich.text import Text

        console = Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False, markup=False, emoji=False)
        table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False, padding=(0, 2, 0, 0))
        for name in columns:
            table.add_column(name.upper(), justify="right" if name in right else "left", overflow="fold")
        for row in rows:
            table.add_row(*[Text(clean(cell)) for cell in row])
        with console.capture() as captured:
            console.print(table)
        for line in captured.get().splitlines():
            print(line.rstrip())
