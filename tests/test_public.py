"""What `from skerry import …` gives: there, typed, documented, and light to import."""

import importlib
import inspect
import re
import subprocess
import sys
from enum import Enum
from importlib import metadata
from importlib.resources import files
from types import ModuleType
from typing import Any

import pytest

import skerry
from skerry import errors

PROMISED = {
    "ClusterManager", "DeviceClient", "DeviceConfig", "EdgeInference", "EdgeNode", "NodeStatus", "EdgeRuntime",
    "MemoryPool", "MqttClient", "MqttConfig", "Node",
    "Pipeline", "ResourceManager",
    "ResourceUsage", "RuntimeConfig", "SyncInference", "errors",
}  # fmt: skip


def test_every_promised_name_is_there() -> None:
    assert set(skerry.__all__) >= PROMISED
    for name in skerry.__all__:
        assert getattr(skerry, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nod'"):
        _ = skerry.Nod
    namespace: dict[str, Any] = {}
    exec("from skerry import *", namespace)
    assert set(skerry.__all__) <= set(namespace)


def test_the_package_says_that_it_is_typed_and_which_version_it_is() -> None:
    assert files("skerry").joinpath("py.typed").is_file()
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", metadata.version("skerry"))


def classes(module: ModuleType) -> list[type]:
    return [each for name in module.__all__ if inspect.isclass(each := getattr(module, name))]


def methods(kind: type) -> list[str]:
    """Public methods and properties that the class defines itself."""
    return [
        name for name, each in vars(kind).items()
        if not name.startswith("_") and (callable(each) or isinstance(each, property | classmethod | staticmethod))
    ]  # fmt: skip


def test_every_public_class_and_method_is_documented() -> None:
    bare = [kind.__name__ for kind in [*classes(skerry), *classes(errors)] if not kind.__doc__]
    for kind in classes(skerry):
        for name in methods(kind):
            each = getattr(kind, name)
            plain = isinstance(vars(kind)[name], property) and len(inspect.getsource(each.fget).splitlines()) <= 3
            if not (inspect.getdoc(each) or plain):
                bare.append(f"{kind.__name__}.{name}")
    assert bare == []


def test_every_public_call_is_typed() -> None:
    loose = []
    for kind in classes(skerry):
        for name in ["__init__", *methods(kind)] if not issubclass(kind, Enum) else []:
            each = inspect.getattr_static(kind, name)
            function = each.__func__ if isinstance(each, classmethod | staticmethod) else each
            if not inspect.isfunction(function):
                continue
            signature = inspect.signature(function)
            untyped = [p.name for p in list(signature.parameters.values())[1:] if p.annotation is p.empty]
            if untyped or signature.return_annotation is signature.empty:
                loose.append(f"{kind.__name__}.{name}: {untyped}")
    assert loose == []


def test_errors_are_one_family() -> None:
    kinds = classes(errors)
    assert {kind.__name__ for kind in kinds} == set(errors.__all__)
    assert all(issubclass(kind, errors.SkerryError) for kind in kinds)
    told = errors.RejectedError("is wrong", where="here", mend="do so")
    assert str(told) == "here: is wrong; do so"


LIGHT = "import sys; import skerry; print(*sorted(m for m in sys.modules if m.split('.')[0] in {}), sep=',')"
HEAVY = {"numpy", "onnxruntime", "aiohttp", "rich", "typer", "paho", "nats", "psutil", "uvloop", "prometheus_client"}


def test_importing_the_package_loads_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", LIGHT.format(HEAVY)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


ROOMS = (
    "api", "broker", "cluster", "core", "demo", "device", "http", "inference", "mqtt",
    "node", "pipeline", "runtime", "trust", "uplink", "worker",
)  # fmt: skip


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_says_what_it_is_and_exports_what_it_says(room: str) -> None:
    module = importlib.import_module(f"skerry.{room}")
    assert module.__doc__
    for name in getattr(module, "__all__", ()):
        each = getattr(module, name)
        if inspect.isclass(each) or inspect.isfunction(each):
            assert each.__doc__, f"skerry.{room}.{name}"
