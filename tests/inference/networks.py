"""The nine networks that the onnx package carries as its own test data, each exported for one picture: freed and compared."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx.backend.test
import onnxruntime
import pytest

from skerry.inference.batching.sync import SyncInference
from skerry.inference.engine.samples import sample_feed

LIGHT = Path(onnx.backend.test.__file__).parent / "data" / "light"
QUICK = ("bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet", "squeezenet")
LARGE = ("vgg19", "zfnet512")  # up to 11 s of CPU and 1.5 GB each: `make soak` has them


def plain(path: Path) -> Any:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    settings.log_severity_level = 4
    return onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])


def compare(name: str, cache: Path) -> None:
    """Two pictures in one run, one in a run, and both as requests of their own, against plain onnxruntime with one at a time."""
    path = LIGHT / f"light_{name}.onnx"
    session = plain(path)
    assert session.get_inputs()[0].shape[0] == 1
    with SyncInference.load(path, max_batch=2, cache=cache) as model:
        assert model.batching.kind == "rows"
        feed = sample_feed(model.inputs, 2)
        single = [{key: value[at : at + 1] for key, value in feed.items()} for at in range(2)]
        together, alone, apart = model.infer(feed), model.infer(single[0]), model.batch_infer(single)
    expected = [session.run(None, each) for each in single]
    for at, (key, value) in enumerate(together.items()):
        each = [outputs[at] for outputs in expected]
        assert value == pytest.approx(np.concatenate(each), rel=1e-3, abs=1e-5)
        assert alone[key] == pytest.approx(each[0], rel=1e-3, abs=1e-5)
        assert np.concatenate([part[key] for part in apart]) == pytest.approx(value, rel=1e-3, abs=1e-5)


def report(folder: Path, names: Sequence[str] = (*QUICK, *LARGE)) -> str:
    """All of them, compared, and how long each took."""
    lines = []
    for name in names:
        began = time.monotonic()
        compare(name, folder / name)
        lines.append(f"{name} {time.monotonic() - began:.1f} s")
    return f"networks exported for one picture, two together as one by one: {', '.join(lines)}"
