"""Does the steps of packaging/Containerfile without a container engine, and packaging/install.sh in a Debian of its own.

`sudo python3 scripts/try_packaging.py [--bind DIR]…` (some minutes, 2 GiB below --folder). debootstrap makes a Debian bookworm
with its own Python 3.11, which stands in for the base image too. Each RUN is a chroot in mount and process namespaces of its own.
Then the demo and a node run as the image's user, with no network but a loopback: the health command has to say 0 while the node
runs and 3 afterwards. install.sh runs there twice, its node is started as the unit would, and all is taken away again; without
systemd. `--bind` shows a directory of this computer in there too: where pip is configured to look for packages in one.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "packaging" / "Containerfile"
NEEDS = ("debootstrap", "unshare", "chroot", "ip")
PACKAGES = "python3,python3-venv,ca-certificates"
STEP = re.compile(r"^([A-Z]+) (.+)$")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LIST = re.compile(r'"([^"]*)"')


def steps(text: str) -> list[tuple[str, str]]:
    """The steps of a container file, in order. Raises ValueError for a line that is none."""
    found = []
    for line in text.splitlines():
        if line and not line.startswith("#"):
            match = STEP.match(line)
            if match is None:
                raise ValueError(f"no step: {line!r}")
            found.append((match[1], match[2]))
    return found


def missing() -> str:
    """Why it cannot be done here, in a sentence; empty where it can."""
    if os.geteuid() != 0:
        return "it needs root, for chroot and namespaces"
    lacking = [name for name in NEEDS if shutil.which(name) is None]
    if lacking:
        return f"{', '.join(lacking)} not installed"
    tried = subprocess.run(["unshare", "-m", "-p", "-n", "-f", "true"], capture_output=True, text=True, check=False)
    return "" if tried.returncode == 0 else f"no namespaces: {tried.stderr.strip()}"


class Image:
    """One stage of the file as a directory, and what its steps have set so far."""

    def __init__(self, root: Path, binds: list[Path]) -> None:
        self.root = root
        self.binds = binds
        self.env = {"PATH": PATH}
        self.told: dict[str, str] = {}
        self.folder = "/"

    def argv(self, command: list[str], *, user: str = "root", network: bool = True) -> list[str]:
        """The command that runs a command in there; without `network` it has a loopback of its own and nothing else."""
        mounts = [f"mount --rbind /dev {self.root}/dev", f"mount -t proc proc {self.root}/proc"]
        for each in self.binds:
            (self.root / each.relative_to("/")).mkdir(parents=True, exist_ok=True)
            mounts.append(f"mount --rbind -o ro {each} {self.root}{each}")
        if not network:
            mounts.append("ip link set lo up")
        given = {"HOME": "/var/lib/skerry" if user != "root" else "/root", **self.env}
        inside = ["env", "-i", *(f"{name}={value}" for name, value in given.items())]
        inside += ["sh", "-c", f"cd {self.folder} && exec {shlex.join(command)}"]
        enter = ["chroot", f"--userspec={user}", str(self.root), *inside]
        shell = " && ".join([*mounts, f"exec {shlex.join(enter)}"])
        return ["unshare", "-m", "-p", "-f", "--kill-child", *([] if network else ["-n"]), "sh", "-c", shell]

    def run(self, command: list[str], *, user: str = "root", network: bool = True) -> subprocess.CompletedProcess[str]:
        """Run it to its end; what it printed."""
        argv = self.argv(command, user=user, network=network)
        return subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False, timeout=1800)

    def do(self, step: str, rest: str, stages: dict[str, "Image"]) -> None:
        """One step."""
        if step == "WORKDIR":
            self.folder = rest
            (self.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif step == "ENV":
            name, _, value = rest.partition("=")
            self.env[name] = value
        elif step == "COPY":
            self._copy(rest.split(), stages)
        elif step == "RUN":
            done = self.run(["env", *pip_settings(), "sh", "-ec", rest])
            if done.returncode != 0:
                raise SystemExit(f"RUN {rest}: exit code {done.returncode}\n{done.stdout[-3000:]}")
        else:
            self.told[step] = rest

    def _copy(self, words: list[str], stages: dict[str, "Image"]) -> None:
        source = ROOT
        if words[0].startswith("--from="):
            source = stages[words.pop(0).removeprefix("--from=")].root
        *names, target = words
        into = self.root / (target if target.startswith("/") else f"{self.folder}/{target}").lstrip("/")
        for name in names:
            there = source / name.lstrip("/")
            to = into / there.name if len(names) > 1 or target.endswith("/") else into
            to.parent.mkdir(parents=True, exist_ok=True)
            if there.is_dir():
                shutil.copytree(there, to, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(there, to)


def debootstrap(root: Path, packages: str, say: Callable[[str], None]) -> str:
    """A Debian bookworm with these packages and nothing else; why it cannot be made, empty where it was."""
    say(f"debootstrap bookworm with {packages}")
    command = ["debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", str(root)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return f"debootstrap: {done.stdout[-2000:]}" if done.returncode else ""


def base(folder: Path) -> Path:
    """Debian with Python, in place of the base image."""
    root = folder / "base"
    if not (root / "usr/bin/python3").exists() and (why := debootstrap(root, PACKAGES, say)):
        raise SystemExit(why)
    (root / "usr/local/bin/python").unlink(missing_ok=True)
    (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    for name in ("/etc/resolv.conf", dict(each.split("=", 1) for each in pip_settings()).get("PIP_CERT", "")):
        if name and Path(name).exists():
            (root / name[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(name, root / name[1:])
    return root


@cache
def pip_settings() -> tuple[str, ...]:
    """How pip is configured on this computer, as variables."""
    told = subprocess.run([sys.executable, "-m", "pip", "config", "list"], stdout=subprocess.PIPE, text=True, check=True)
    found = re.findall(r"^(?:global|install|:env:)\.([\w.-]+)='(.*)'$", told.stdout, re.MULTILINE)
    return tuple(f"PIP_{name.lstrip('.').replace('-', '_').upper()}={value}" for name, value in found)


def build(folder: Path, binds: list[Path]) -> Image:
    """All steps of the file, one after the other; the last stage."""
    root, stages, image = base(folder), {}, None
    for number, (step, rest) in enumerate(steps(FILE.read_text("utf-8"))):
        say(f"{step} {rest}")
        if step == "FROM":
            name = rest.partition(" AS ")[2] or str(number)
            shutil.rmtree(folder / name, ignore_errors=True)
            subprocess.run(["cp", "-a", str(root), str(folder / name)], check=True)
            image = stages[name] = Image(folder / name, binds)
        else:
            assert image is not None, "the first step is FROM"
            image.do(step, rest, stages)
    assert image is not None, "no step"
    image.binds = []
    return image


def run(image: Image) -> None:
    """The demo, then a node, as the image's user; raises SystemExit at what is wrong."""
    user, entry, start = image.told["USER"], LIST.findall(image.told["ENTRYPOINT"]), LIST.findall(image.told["CMD"])
    told = image.run(["skerry", "demo", "--headless", "--seconds", "20", "--json"], user=user, network=False)
    demo = json.loads(told.stdout or "{}")
    say("demo: " + ", ".join(f"{name} {demo.get(name)}" for name in ("messages", "events", "windows", "lost", "duplicates")))
    if told.returncode != 0 or demo["lost"] != 0 or not demo["windows"]:
        raise SystemExit(f"the demo: exit code {told.returncode}")
    etc = image.root / "etc/skerry"
    etc.mkdir(exist_ok=True)
    (etc / "skerry.toml").write_text('[node]\nname = "box"\nsite = "quay"\n[broker]\nmqtt = "0.0.0.0:1883"\n', encoding="utf-8")
    stop = getattr(signal, image.told["STOPSIGNAL"])
    serve(image, [*entry, *start], LIST.findall(image.told["HEALTHCHECK"]), user, stop)


def serve(image: Image, command: list[str], health: list[str], user: str, stop: int = signal.SIGTERM) -> None:
    """A node of that command as that user, until it is healthy, then ended; raises SystemExit at what is wrong."""
    with subprocess.Popen(image.argv(command, user=user, network=False)) as node:
        try:
            end, code = time.monotonic() + 60, -1
            while code != 0 and time.monotonic() < end and node.poll() is None:
                time.sleep(1)
                code = image.run(health, user=user).returncode
            if code != 0:
                raise SystemExit(f"{shlex.join(command)}: {shlex.join(health)} says {code}")
            within = agent(node.pid)
            uid = Path(f"/proc/{within}").stat().st_uid
            os.kill(within, stop)
            ended = node.wait(30)
        finally:
            node.kill()
    after = image.run(health, user=user).returncode
    say(f"health while it runs: {code}; ran as {uid}, ended with {ended}; health afterwards: {after}")
    if uid == 0 or (ended, after) != (0, 3):
        raise SystemExit("expected: not root, ended with 0, 3 afterwards")


def install(folder: Path, binds: list[Path]) -> None:
    """install.sh twice, a node as the unit would start it, and --uninstall --purge; raises SystemExit at what is wrong."""
    shutil.rmtree(folder / "installed", ignore_errors=True)
    subprocess.run(["cp", "-a", str(base(folder)), str(folder / "installed")], check=True)
    debian = Image(folder / "installed", binds)
    debian.do("COPY", "requirements packaging src pyproject.toml README.md LICENSE NOTICE /src/", {})
    script = ["env", *pip_settings(), "sh", "/src/packaging/install.sh"]
    toml = debian.root / "etc/skerry/skerry.toml"
    for attempt in ("first", "again"):
        say(f"install.sh, {attempt}")
        if (code := debian.run(script).returncode) != 0:
            raise SystemExit(f"install.sh: exit code {code}")
        with toml.open("a", encoding="utf-8") as file:
            file.write(f"# {attempt}\n")
    if not toml.read_text("utf-8").endswith("# first\n# again\n"):
        raise SystemExit("skerry.toml was written over")
    debian.binds = []
    unit = (debian.root / "etc/systemd/system/skerry.service").read_text("utf-8")
    command = shlex.split(re.findall(r"^ExecStart=(.+)$", unit, re.MULTILINE)[0])
    serve(debian, command, ["skerry", *command[1:-1], "status", "-q"], "skerry:skerry")
    if (code := debian.run([*script, "--uninstall", "--purge"]).returncode) != 0:
        raise SystemExit(f"install.sh --uninstall: exit code {code}")
    left = [name for name in ("opt/skerry", "etc/skerry", "var/lib/skerry", "usr/local/bin/skerry") if there(debian.root / name)]
    if left or "skerry" in (debian.root / "etc/passwd").read_text("utf-8"):
        raise SystemExit(f"left behind: {left}, or its user")


def there(path: Path) -> bool:
    """Whether it exists, be it a link that leads nowhere."""
    return path.exists() or path.is_symlink()


def agent(pid: int) -> int:
    """The process of the image's command: the child of `unshare`."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    return int(children[0])


def say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bind", type=Path, action="append", default=[], metavar="DIR")
    parser.add_argument("--folder", type=Path, help="where to work; kept, and its base used again. Default: a new one, removed")
    given = parser.parse_args()
    why = missing()
    if why:
        say(f"left out: {why}")
        return 0
    folder = given.folder or Path(tempfile.mkdtemp(prefix="skerry-packaging-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        image = build(folder, given.bind)
        size = sum(path.lstat().st_size for path in image.root.rglob("*") if not path.is_relative_to(image.root / "proc"))
        say(f"built: {size / 2**20:,.0f} MiB with its base")
        run(image)
        install(folder, given.bind)
    finally:
        if given.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    say("all of it was done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
