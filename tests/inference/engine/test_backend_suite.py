"""The ONNX standard backend suite through `EdgeInference`: what plain onnxruntime passes passes here."""

import asyncio
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

from skerry.inference.batching import runs
from skerry.inference.batching.edge import EdgeInference


def read(path: Path, kind: Any) -> Any:
    content = path.read_bytes()
    if kind.HasField("sequence_type"):
        return numpy_helper.to_list(onnx.SequenceProto.FromString(content))
    if kind.HasField("optional_type"):
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(content))
    return numpy_helper.to_array(onnx.TensorProto.FromString(content))


def same(found: Any, expected: Any, case: Any) -> bool:
    if isinstance(expected, list):
        return (
            isinstance(found, list)
            and len(found) == len(expected)
            and all(same(*pair, case) for pair in zip(found, expected, strict=True))
        )
    if expected is None or found is None:
        return found is expected
    first, second = np.asarray(found), np.asarray(expected)
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    if first.dtype.kind in "OU":
        return bool(np.array_equal(first, second))
    with np.errstate(all="ignore"):
        return bool(np.allclose(first.astype(complex), second.astype(complex), case.rtol, case.atol, equal_nan=True))


def passes(run: Any, sets: list[tuple[dict[str, Any], list[Any]]], case: Any) -> bool:
    return all(all(same(*pair, case) for pair in zip(run(feed), expected, strict=True)) for feed, expected in sets)


def data_of(model: Any, folder: Path) -> list[tuple[dict[str, Any], list[Any]]]:
    sets = []
    for each in sorted(folder.glob("test_data_set_*")):
        feed = {
            value.name: read(each / f"input_{at}.pb", value.type)
            for at, value in enumerate(model.graph.input)
            if (each / f"input_{at}.pb").exists()
        }
        sets.append((feed, [read(each / f"output_{at}.pb", value.type) for at, value in enumerate(model.graph.output)]))
    return sets


def files_of(case: Any, folder: Path) -> tuple[Path, list[tuple[dict[str, Any], list[Any]]]]:
    """The model's file and its data: some cases lie in files, some come as objects."""
    if case.model_dir is not None:
        path = Path(case.model_dir) / "model.onnx"
        return path, data_of(onnx.load(path), path.parent)
    path = folder / "case.onnx"
    path.write_bytes(case.model.SerializeToString())
    names = [value.name for value in case.model.graph.input]
    return path, [(dict(zip(names, given, strict=False)), list(expected)) for given, expected in case.data_sets]


def plain(path: Path, sets: Any, case: Any) -> bool:
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    settings.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
        return passes(lambda feed: session.run(None, feed), sets, case)
    except Exception:  # noqa: BLE001 - whatever the engine says, it does not pass
        return False


async def ours(path: Path, sets: Any, case: Any) -> str:
    """Empty when it passes, else why not."""
    try:
        async with await EdgeInference.load(path, max_batch=2) as model:
            for feed, expected in sets:
                found = await model.infer(feed)
                if not all(same(*pair, case) for pair in zip(found.values(), expected, strict=True)):
                    return "other outputs"
    except Exception as error:  # noqa: BLE001 - shown, whatever it is
        return repr(error)
    return ""


@pytest.mark.asyncio
@pytest.mark.filterwarnings("ignore")
async def test_what_plain_onnxruntime_passes_passes_here(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "_EACH_S", 0.0)  # how fast they are is not asked here
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = [case for kind in ("node", "simple") for case in load_model_tests(kind=kind)]
    theirs: set[str] = set()
    mine: set[str] = set()
    lost: dict[str, str] = {}
    unreadable = 0
    for case in cases:
        try:
            path, sets = files_of(case, tmp_path)
        except Exception:  # noqa: BLE001 - data of a type that onnx itself cannot read back
            unreadable += 1
            continue
        if plain(path, sets, case):
            theirs.add(case.name)
        reason = await ours(path, sets, case)
        if not reason:
            mine.add(case.name)
        elif case.name in theirs:
            lost[case.name] = reason
        await asyncio.sleep(0)
    with capsys.disabled():
        read_of = f"{len(cases)} cases ({unreadable} unreadable)"
        print(f"\nONNX backend suite, {read_of}: onnxruntime passes {len(theirs)}, EdgeInference {len(mine)}")
    assert not lost
    assert len(theirs) > 1000
