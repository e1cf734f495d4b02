"""The bill of materials of skerry: CycloneDX 1.5 as JSON out of requirements/run.txt; `make dist` writes it beside the wheel.

Names, versions, the SHA-256 of every file that the lock allows, and who needs whom. The same lock gives the same bytes.
"""

import argparse
import json
import re
import sys
import tomllib
import uuid
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements" / "run.txt"
PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[\w,-]+\])?==([^\s;\\]+)")
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
NAMESPACE = uuid.UUID("a5b4ab5e-1f0d-5a5d-9d38-3c1f6d1f3c57")
"""Of the serial numbers: version 5 of RFC 9562, by the content."""


class Locked:
    """One pinned package."""

    def __init__(self, name: str, version: str) -> None:
        self.name = re.sub(r"[-_.]+", "-", name).lower()
        self.version = version
        self.hashes: list[str] = []
        self.needed_by: list[str] = []

    @property
    def ref(self) -> str:
        """Its package URL."""
        return f"pkg:pypi/{self.name}@{self.version}"


def read(text: str) -> list[Locked]:
    """The pins of a lock as pip-compile writes it, with hashes and `# via`."""
    found: list[Locked] = []
    for line in text.splitlines():
        if pin := PIN.match(line):
            found.append(Locked(pin[1], pin[2]))
        elif found and (digest := HASH.search(line)):
            found[-1].hashes.append(digest[1])
        elif found and line.startswith("    #"):
            words = line.removeprefix("    #").strip().removeprefix("via").strip()
            found[-1].needed_by += [name.strip() for name in words.split(",") if name.strip()]
    return found


def bill(text: str, name: str, version: str, licence: str) -> dict[str, Any]:
    """The bill of materials. Where the lock does not say who needs a package, skerry does.

    Raises ValueError for a pin without a hash."""
    locked = read(text)
    refs = {each.name: each.ref for each in locked}
    product = f"pkg:pypi/{name}@{version}"
    needs: dict[str, list[str]] = {product: [], **{each.ref: [] for each in locked}}
    for each in locked:
        if not each.hashes:
            raise ValueError(f"{each.name} has no hash")
        for other in {refs.get(other, product) for other in each.needed_by} or {product}:
            needs[other].append(each.ref)
    components = [
        {
            "type": "library",
            "bom-ref": each.ref,
            "name": each.name,
            "version": each.version,
            "purl": each.ref,
            "hashes": [{"alg": "SHA-256", "content": digest} for digest in each.hashes],
        }
        for each in locked
    ]
    made = {
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": product,
                "name": name,
                "version": version,
                "purl": product,
                "licenses": [{"license": {"id": licence}}],
            }
        },
        "components": components,
        "dependencies": [{"ref": ref, "dependsOn": sorted(of)} for ref, of in needs.items()],
    }
    serial = uuid.uuid5(NAMESPACE, json.dumps(made, sort_keys=True))
    return {"bomFormat": "CycloneDX", "specVersion": "1.5", "serialNumber": f"urn:uuid:{serial}", "version": 1, **made}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where to write skerry-VERSION.cdx.json")
    folder = parser.parse_args().folder
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    made = bill(LOCK.read_text("utf-8"), project["name"], project["version"], project["license"])
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{project['name']}-{project['version']}.cdx.json"
    file.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {file}: {len(made['components'])} components")
    return 0


if __name__ == "__main__":
    sys.exit(main())
