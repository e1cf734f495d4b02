"""A model that takes more memory than it may is refused, by what its trial measured, in a sentence that says how to mend it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry.core.clock import ManualClock
from skerry.core.errors import RejectedError
from skerry.inference import EngineHost, ModelConfig
from skerry.inference.catalogue.memory import check_memory, memory_limit
from skerry.inference.catalogue.staging import activate, stage
from skerry.inference.catalogue.versions import Catalogue
from tests.fixtures.models import adding, heavy

MIB = 1 << 20


@pytest.fixture(scope="module")
def host() -> Iterator[EngineHost]:
    with EngineHost() as running:
        yield running


def catalogue_of(folder: Path, *limits: str) -> Catalogue:
    """A catalogue whose configuration names the model once for each limit."""
    configs = [ModelConfig("m", "small.onnx", version=f"c{at}", memory=limit) for at, limit in enumerate(limits)]
    return Catalogue(folder / "models", configs, folder, ManualClock(7))


def test_the_limit_is_that_of_the_table_of_its_name_and_256_mib_without_one(tmp_path: Path) -> None:
    assert memory_limit(catalogue_of(tmp_path), "m") == 256 * MIB
    assert memory_limit(catalogue_of(tmp_path, "64MiB"), "m") == 64 * MIB
    assert memory_limit(catalogue_of(tmp_path, "64MiB", "32MiB"), "m") == 32 * MIB
    assert memory_limit(catalogue_of(tmp_path, "64MiB"), "other") == 256 * MIB


@pytest.mark.parametrize(("taken", "limit", "fits"), [(MIB, "1MiB", True), (MIB + 1, "1MiB", False), (MIB, "0B", True)])
def test_at_the_limit_it_fits(tmp_path: Path, taken: int, limit: str, fits: bool) -> None:
    catalogue = catalogue_of(tmp_path, limit)
    if fits:
        check_memory(catalogue, "m", taken, "m@1")
    else:
        with pytest.raises(RejectedError, match=r"m@1: it takes 1\.0 MiB of memory, 1 B more than the 1\.0 MiB"):
            check_memory(catalogue, "m", taken, "m@1")


def test_a_model_that_takes_too_much_is_not_added(tmp_path: Path, host: EngineHost) -> None:
    adding(tmp_path / "small.onnx", 1)
    large = heavy(tmp_path / "large.onnx", 16)
    tight = catalogue_of(tmp_path, "8MiB")
    with pytest.raises(RejectedError) as refused:
        stage(tight, "m", large, host=host)
    told = str(refused.value)
    assert told.startswith(f"{large}: it takes ")
    assert "more than the 8.0 MiB that it may" in told
    assert told.endswith("raise `memory` in the [[models]] table of m, or make the model smaller: skerry model quantize")
    assert [row.version for row in tight.versions("m")] == ["c0"], "what is refused leaves nothing behind"
    assert not (tmp_path / "models" / "blobs").exists()
    assert stage(tight, "m", tmp_path / "small.onnx", host=host).memory <= 8 * MIB
    wide = catalogue_of(tmp_path, "96MiB")
    assert 14 * MIB < stage(wide, "m", large, host=host).memory <= 96 * MIB


def test_a_version_that_may_no_longer_take_so_much_is_not_activated(tmp_path: Path, host: EngineHost) -> None:
    adding(tmp_path / "small.onnx", 1)
    row = stage(catalogue_of(tmp_path, "96MiB"), "m", heavy(tmp_path / "large.onnx", 16), host=host)
    tight = catalogue_of(tmp_path, "8MiB")
    with pytest.raises(RejectedError, match=rf"{row.reference}: it takes .* more than the 8\.0 MiB that it may"):
        activate(tight, "m", row.version, host=host)
    failed = tight.find(row.reference)
    assert failed.state == "failed"
    assert "more than the 8.0 MiB" in failed.reason
    active = tight.active("m")
    assert active is not None
    assert active.version == "c0"
    assert activate(catalogue_of(tmp_path, "96MiB"), "m", row.version, host=host).state == "active"
