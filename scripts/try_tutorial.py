"""Does docs/tutorial.md word for word, from a fresh clone in a Debian that has nothing of skerry's, up to the alarm.

`sudo python3 scripts/try_tutorial.py`, or `make soak ARGS=tutorial` (five minutes, 3 GiB below --folder). debootstrap makes a
Debian bookworm with its Python, make, git and mosquitto-clients. There a user without privileges has terminals: shells that are
given the document's blocks, line by line. Only the first block, which installs, has a network; all others have a loopback.
What a line prints is printed; the first one that fails ends it with exit code 1.
"""

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from scripts.try_packaging import agent, debootstrap, missing, pip_settings, say
from tests.docs.blocks import ROOT, Block, every

PACKAGES = "python3,python3-venv,ca-certificates,make,git,mosquitto-clients"
USER, HOME = "reader", "home/reader"
DONE = "-- done: "
Say = Callable[[str], None]


class Wrong(Exception):
    """What the reader of the tutorial would have been stopped by."""


class Terminal:
    """A shell of the reader, which is told lines and says what they print."""

    def __init__(self, argv: list[str]) -> None:
        pipe = subprocess.PIPE
        self._shell = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True, bufsize=1)

    def start(self, line: str) -> None:
        """Give it a line, and do not wait."""
        assert self._shell.stdin is not None, "it has a pipe"
        self._shell.stdin.write(line + "\n")

    def type(self, line: str) -> str:
        """Give it a line; what that prints. Raises Wrong where it fails."""
        self.start(line)
        self.start(f"echo; echo '{DONE}'$?")
        said = self.heard(DONE)
        text, _, code = said.rpartition(DONE)
        if code.strip() != "0":
            raise Wrong(f"{line}\n{text}exit code {code.strip() or 'none: the shell has ended'}")
        return text

    def heard(self, mark: str) -> str:
        """What it prints up to the first line with `mark` in it."""
        assert self._shell.stdout is not None, "it has a pipe"
        lines = []
        for line in self._shell.stdout:
            lines.append(line)
            if mark in line:
                break
        return "".join(lines)

    def interrupt(self) -> int:
        """Ctrl-C for the line that has taken the place of the shell; its exit code."""
        os.kill(agent(self._shell.pid), signal.SIGINT)
        self._shell.communicate(timeout=60)
        return self._shell.returncode

    def close(self) -> None:
        """Wait for what has been killed with all else in there."""
        self._shell.communicate()


class Reader:
    """Somebody with a Debian of their own who follows the tutorial."""

    def __init__(self, root: Path, say: Say) -> None:
        self.root, self.say = root, say
        self._open = contextlib.ExitStack()
        self._where = f"/{HOME}"
        self._said = ""
        self.node: Terminal | None = None
        self.phone: Terminal | None = None

    def __enter__(self) -> Self:
        mounts = f"mount --rbind /dev {self.root}/dev && mount -t proc proc {self.root}/proc"
        shell = f"{mounts} && ip link set lo up && exec sleep infinity"
        spaces = subprocess.Popen(["unshare", "-m", "-p", "-n", "-f", "--kill-child", "sh", "-c", shell])
        self._open.callback(spaces.wait)
        self._spaces_end = spaces.kill
        end = time.monotonic() + 30
        while not (self.root / "proc/1").exists() and time.monotonic() < end:
            with contextlib.suppress(IndexError, FileNotFoundError):
                self._spaces = agent(spaces.pid)
                if Path(f"/proc/{self._spaces}/comm").read_text("ascii") == "sleep\n":
                    break
            time.sleep(0.1)
        self._terminal = self.terminal(network=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._spaces_end()  # and with it all that runs in there
        self._open.close()

    def terminal(self, *, network: bool = False) -> Terminal:
        """A new one, in the directory that they are in while they install, else at home."""
        enter = ["nsenter", "--target", str(self._spaces), "-m", "-p", *([] if network else ["-n"])]
        given = [f"HOME=/{HOME}", "PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", *(settings() if network else ())]
        shell = ["env", "-i", *given, "sh", "-c", f"cd {self._where} && exec bash"]
        made = Terminal([*enter, "chroot", f"--userspec={USER}:{USER}", str(self.root), *shell])
        self._open.callback(made.close)
        return made

    def follow(self, block: Block) -> None:
        """One block: a file is written, lines are typed."""
        if block.language == "text":
            self._lines(block.text.replace("<this repository>", "/source.bundle"))
            # what comes now needs no network, so it has none
            self._where = self._terminal.type("pwd").strip()
            self._terminal = self.terminal()
        elif block.language in ("python", "toml"):
            self._write(block)
        elif block.info == "background":
            self._leave(block.text)
        elif block.language == "sh":
            if block.info == "terminal":
                self._where = f"/{HOME}"
                self._terminal = self.terminal()
            self._lines(block.text)

    def _lines(self, text: str) -> None:
        for line in text.splitlines():
            began = time.monotonic()
            said = self._terminal.type(line)
            self._said += said
            self.say(f"$ {line}   # {time.monotonic() - began:.1f} s\n{tail(said)}")

    def _write(self, block: Block) -> None:
        here = self.root / self._terminal.type("pwd").strip()[1:]
        file = here / (block.info.removeprefix("file=") if block.language == "python" else "skerry.toml")
        text = file.read_text("utf-8") if block.info in ("append", "keys") else ""
        if block.info == "keys":
            last = next(line for line in text.splitlines() if line.startswith("features = "))
            text = text.replace(last, f"{last}\n{block.text}")
        else:
            text += f"\n{block.text}" if text else block.text
        file.write_text(text, "utf-8")
        owner = here.stat()
        os.chown(file, owner.st_uid, owner.st_gid)
        self.say(f"# {block.place}: {file.name}, {len(text.splitlines())} lines")

    def _leave(self, text: str) -> None:
        """A line that does not end, in this terminal, which is left to it."""
        (line,) = text.splitlines()
        if "PASSWORD" in line:
            password = re.findall(r"^password: (\S+) ", self._said, re.MULTILINE)[-1]
            line = line.replace("PASSWORD", password)
        self._terminal.start(f"exec {line}")
        self.say(f"$ {line}   # left to run")
        if line.startswith("skerry run"):
            self.node = self._terminal
            self.say(tail(self.node.heard("ready")))
        else:
            self.phone = self._terminal


def tail(text: str) -> str:
    """Its last lines, moved in."""
    return "\n".join(f"    {line}" for line in text.strip().splitlines()[-12:])


def settings() -> list[str]:
    """What pip is told in there: how this computer reaches its index, and nothing that lies on this computer."""
    found = [each for each in pip_settings() if "=/" not in each and "file:" not in each]
    return found + [each for each in pip_settings() if each.startswith("PIP_CERT=")]


def debian(folder: Path, say: Say) -> Path:
    """A Debian with a user and the source in it."""
    base, root = folder / "base", folder / "root"
    if not (base / "usr/bin/mosquitto_sub").exists() and (why := debootstrap(base, PACKAGES, say)):
        raise Wrong(why)
    shutil.rmtree(root, ignore_errors=True)
    subprocess.run(["cp", "-a", str(base), str(root)], check=True)
    for name in ("/etc/resolv.conf", *(each.partition("=")[2] for each in pip_settings() if each.startswith("PIP_CERT="))):
        shutil.copy(name, root / name[1:])
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n", "ascii")  # as Debian's installer does, and debootstrap does not
    subprocess.run(["chroot", str(root), "useradd", "--create-home", USER], check=True)
    bundle = ["git", "-C", str(ROOT), "bundle", "create", "--quiet", str(root / "source.bundle"), "HEAD"]
    subprocess.run(bundle, check=True)
    return root


def follow(folder: Path, say: Say) -> str:
    """All of it, in one sentence. Raises Wrong where a reader would be stopped."""
    why = missing()
    if why:
        return f"left out: {why}"
    root, began = debian(folder, say), time.monotonic()
    with Reader(root, say) as reader:
        for block in every(ROOT / "docs" / "tutorial.md"):
            reader.follow(block)
            if reader.phone is not None and "simulate" in block.text:
                alarm = reader.phone.heard('"state"')
                say(f"the phone: {alarm.strip()[:300]}")
                if not all(word in alarm for word in ('"state":"firing"', '"label":"binds"', "motor-2")):
                    raise Wrong(f"that is not the alarm of the tutorial: {alarm}")
        if reader.node is None or reader.phone is None:
            raise Wrong("the tutorial runs no node, or has no phone")
        code = reader.node.interrupt()
        if code != 0:
            raise Wrong(f"skerry run ended with {code} at Ctrl-C")
    return f"the tutorial, from the clone to the alarm: {time.monotonic() - began:.0f} s"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where to work; kept, and its base used again. Default: a new one, removed")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="skerry-tutorial-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        print(follow(folder, say))
    except Wrong as error:
        print(f"stopped: {error}")
        return 1
    finally:
        if given.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
