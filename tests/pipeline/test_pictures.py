"""Pictures in a pipeline: decoded as pillow decodes them, scored by a model in batches, and no picture harms another."""

import base64
import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from skerry.core.errors import ConfigError, RejectedError
from skerry.inference import Model, load_model
from skerry.pipeline import RETRY_PREFIX, PipelineSpec, PipelineState, books, decode_state, encode_state, run_file, run_messages
from skerry.pipeline.decode import Undecoded, decoder
from tests.fixtures.frames import ARRIVAL, events, feed, frame, letters, log_of, new_runner, run, spec_of

SOURCE = {"topic": "devices/+/v", "format": "image", "width": 8, "height": 6, "time": "", "values": []}


def camera(**source: Any) -> PipelineSpec:
    return spec_of(source={**SOURCE, **source}, model="colour")


def picture(color: tuple[int, ...] | int, kind: str = "PNG", size: tuple[int, int] = (16, 12), mode: str = "RGB") -> bytes:
    body = io.BytesIO()
    Image.new(mode, size, color).save(body, kind)
    return body.getvalue()


def noise(seed: int, kind: str, size: tuple[int, int] = (31, 23)) -> bytes:
    body = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(body, kind)
    return body.getvalue()


def write_classifier(path: Path, shape: tuple[Any, ...] = ("N", 3, "H", "W"), axes: tuple[int, ...] = (2, 3)) -> Path:
    """A classifier of the main colour: means of the three channels, ten times as large, through a softmax."""
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["means"], keepdims=0),
        helper.make_node("Mul", ["means", "ten"], ["large"]),
        helper.make_node("Softmax", ["large"], ["probabilities"], axis=1),
    ]
    constants = [
        helper.make_tensor("axes", TensorProto.INT64, [len(axes)], axes),
        helper.make_tensor("ten", TensorProto.FLOAT, [], [10.0]),
    ]
    taken = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    given = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ("N", 3))
    graph = helper.make_graph(nodes, "colour", [taken], [given], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, {"labels": '["red", "green", "blue"]'})
    onnx.save(model, path)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return load_model(write_classifier(tmp_path / "colour.onnx"), "colour")


RED, GREEN, BLUE = (250, 5, 5), (5, 250, 5), (5, 5, 250)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("color", ["RGB", "BGR", "GRAY"])
def test_a_picture_becomes_the_tensor_that_pillow_and_numpy_make_of_it(kind: str, layout: str, color: str) -> None:
    mean, std = ([0.5], [0.25]) if color == "GRAY" else ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    payload = noise(3, kind)
    _, tensor = decoder(camera(layout=layout, color=color, mean=mean, std=std).source)(payload)
    image = Image.open(io.BytesIO(payload)).convert("L" if color == "GRAY" else "RGB").resize((8, 6), Image.Resampling.BILINEAR)
    wanted = np.asarray(image, np.float64).reshape(6, 8, -1)
    wanted = wanted[:, :, ::-1] if color == "BGR" else wanted
    wanted = (wanted / 255 - np.array(mean)) / np.array(std)
    wanted = wanted.transpose(2, 0, 1) if layout == "NCHW" else wanted
    assert isinstance(tensor, np.ndarray)
    assert (tensor.dtype, tensor.shape) == (np.float32, camera(layout=layout, color=color).source.tensor_shape)
    np.testing.assert_allclose(tensor, wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("mode", "color", "value"),
    [
        ("RGBA", (255, 0, 0, 9), (1, 0, 0)),
        ("L", 255, (1, 1, 1)),
        ("1", 1, (1, 1, 1)),
        ("P", 0, (0, 0, 0)),
        ("I;16", 65535, (1, 1, 1)),
    ],
)
def test_other_kinds_of_pixels_are_converted(mode: str, color: Any, value: tuple[int, ...]) -> None:
    _, tensor = decoder(camera().source)(picture(color, mode=mode))
    assert np.asarray(tensor)[:, 3, 4].tolist() == list(value)


def test_a_picture_is_turned_upright() -> None:
    image = Image.new("RGB", (8, 6))
    image.paste((255, 255, 255), (0, 0, 4, 6))
    exif = image.getexif()
    exif[274] = 3  # upside down
    body = io.BytesIO()
    image.save(body, "PNG", exif=exif)
    _, tensor = decoder(camera().source)(body.getvalue())
    assert np.asarray(tensor)[0, 0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def lying_png(width: int, height: int) -> bytes:
    """A PNG whose header claims a size that its data has not."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


RUBBISH = [
    b"", b"rubbish", b"\xff\xd8\xff\xe0" + b"\0" * 50, b"\x89PNG\r\n\x1a\n", noise(1, "JPEG")[:400], noise(1, "PNG")[:-400],
    picture(RED, "GIF"), picture(RED, "BMP"), lying_png(3000, 3000), lying_png(0, 5),
]  # fmt: skip


@pytest.mark.parametrize("payload", RUBBISH)
def test_what_is_no_picture_is_undecodable(payload: bytes) -> None:
    with pytest.raises(Undecoded) as caught:
        decoder(camera().source)(payload)
    assert caught.value.reason == "undecodable"


@pytest.mark.parametrize(("width", "height"), [(5000, 5000), (12_000, 12_000), (2**31 - 1, 2**31 - 1)])
def test_a_bomb_is_refused_by_its_header(width: int, height: int) -> None:
    with pytest.raises(Undecoded, match=r"allowed are|DecompressionBomb|not a JPEG"):
        decoder(camera().source)(lying_png(width, height))


def test_the_bound_of_pixels_can_be_set() -> None:
    with pytest.raises(Undecoded, match="16 x 12 pixels, allowed are 100"):
        decoder(camera(max_pixels=100).source)(picture(RED))


def test_pictures_are_scored_in_one_run_and_rubbish_fails_alone(model: Model) -> None:
    payloads = [
        picture(RED),
        picture(BLUE, "JPEG"),
        b"rubbish",
        picture(GREEN, size=(300, 200)),
        lying_png(9000, 9000),
        b"x" * 2**21,
    ]
    runner = run(camera(), log_of(payloads), model)
    found = events(runner.outputs)
    assert [event["label"] for event in found] == ["red", "blue", "green"]
    assert [round(event["score"]) for event in found] == [0, 1, 0]
    assert {(event["count"], event["state"], event["model"], event["version"]) for event in found} == {(1, "info", "colour", "1")}
    assert [event["features"] for event in found] == [{}, {}, {}]
    assert model.runs == 1
    assert [(letter.sequence, letter.reason) for letter in letters(runner.outputs)] == [
        (3, "undecodable"), (5, "undecodable"), (6, "oversized"),
    ]  # fmt: skip
    assert letters(runner.outputs)[0].payload == b"rubbish"
    assert books(runner.state)["difference"] == 0
    assert (books(runner.state)["scored"], books(runner.state)["received"]) == (3, 6)


def test_a_rule_makes_alarms_of_pictures(model: Model) -> None:
    spec = spec_of(source=SOURCE, model="colour", rule={"field": "score", "above": 0.9})
    runner = run(spec, log_of(map(picture, [RED, BLUE, BLUE, GREEN])), model)
    assert [event["state"] for event in events(runner.outputs)] == ["firing", "cleared"]


def test_large_pictures_are_scored_as_they_come(model: Model) -> None:
    runner = run(camera(width=512, height=512), log_of([picture(RED)] * 5), model)
    assert len(events(runner.outputs)) == 5
    assert model.runs == 3  # two of them are a million numbers


def test_a_replay_from_a_checkpoint_puts_out_the_same_and_the_checkpoint_holds_no_pixels(model: Model) -> None:
    frames = log_of(noise(seed, "JPEG") for seed in range(12))
    whole = run(camera(), frames, model)
    first = new_runner(camera(), model)
    feed(first, frames[:7])
    stored = encode_state(first.state)
    assert len(stored) < 400
    second = new_runner(camera(), model, decode_state(stored))
    feed(second, frames[4:])  # five to seven come again
    assert [o.id for o in first.outputs + second.outputs] == [o.id for o in whole.outputs]
    assert books(second.state) == books(whole.state)
    assert len({output.id for output in whole.outputs}) == 12


def test_a_picture_that_the_model_fails_on_comes_back_as_the_message_it_was(tmp_path: Path) -> None:
    good = load_model(write_classifier(tmp_path / "good.onnx"), "colour")
    bad = load_model(write_classifier(tmp_path / "bad.onnx", ("N", 3, 4, 4)), "colour")
    runner = new_runner(camera(), None, PipelineState())
    runner._stage.scorer = bad  # as after a swap to a version that does not fit
    payload = picture(RED)
    feed(runner, [frame(1, payload), frame(2, b"rubbish")])
    letter, other = sorted(letters(runner.outputs), key=lambda each: each.sequence)
    assert (letter.reason, letter.payload, letter.topic, letter.window) == ("model-error", payload, "devices/d/v", False)
    assert other.reason == "undecodable"
    assert books(runner.state)["difference"] == 0
    again = new_runner(camera(), good, runner.state)
    feed(again, [frame(3, letter.payload, prefix=f"{RETRY_PREFIX}p.")])
    assert [(event["key"], event["label"]) for event in events(again.outputs)] == [("d", "red")]
    assert books(again.state)["difference"] == 0


def test_poison_is_passed_over_before_it_is_decoded(model: Model) -> None:
    runner = new_runner(camera(), model, poison=["2"])
    feed(runner, log_of([picture(RED)] * 3))
    assert [(letter.sequence, letter.reason) for letter in letters(runner.outputs)] == [(2, "poison")]
    assert len(events(runner.outputs)) == 2


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ({"width": 0}, "width"), ({"height": 5000}, "height"), ({"mean": [1, 2]}, "mean"), ({"std": [0.0]}, "std"),
        ({"values": ["x"]}, "values"), ({"time": "ts"}, "time"), ({"key": "{.a}"}, "key"), ({"layout": "CHW"}, "layout"),
        ({"max_pixels": 0}, "max_pixels"), ({"format": "json", "values": ["x"]}, "format"),
    ],
)  # fmt: skip
def test_a_source_that_is_none_is_refused_by_its_key(more: dict[str, Any], where: str) -> None:
    with pytest.raises(ConfigError, match=rf"source\.{where}"):
        camera(**more)


@pytest.mark.parametrize(
    ("more", "where"),
    [({"window": {"kind": "count", "size": 2}}, "window"), ({"features": ["mean"]}, "features"), ({"model": ""}, "model")],
)
def test_pictures_have_no_windows_and_no_features_and_need_a_model(more: dict[str, Any], where: str) -> None:
    with pytest.raises(ConfigError, match=where):
        spec_of(**{"source": SOURCE, "model": "colour", **more})


def test_a_model_that_does_not_fit_is_named_with_the_mend(tmp_path: Path) -> None:
    other = load_model(write_classifier(tmp_path / "nhwc.onnx", ("N", 6, 8, 3), (1, 2)), "colour")
    with pytest.raises(RejectedError, match=r"takes \[N, 6, 8, 3\].*makes \[N, 3, 6, 8\].*NHWC"):
        new_runner(camera(), other)
    assert events(run(camera(layout="NHWC"), log_of([picture(GREEN)]), other).outputs)[0]["label"] == "green"
    fixed = load_model(write_classifier(tmp_path / "large.onnx", ("N", 3, 224, 224)), "colour")
    with pytest.raises(RejectedError, match="change width"):
        new_runner(camera(), fixed)


def test_a_recorded_file_holds_pictures_in_base64_or_names_their_files(tmp_path: Path, model: Model) -> None:
    (tmp_path / "blue.jpg").write_bytes(picture(BLUE, "JPEG"))
    encoded = base64.b64encode(picture(RED)).decode()
    rows: list[dict[str, Any]] = [
        {"topic": "devices/a/v", "payload_base64": encoded, "at": ARRIVAL / 1e6},
        {"topic": "devices/b/v", "payload_file": "blue.jpg", "at": ARRIVAL / 1e6 + 1},
        {"topic": "devices/c/v", "payload": f"base64:{encoded}"},
        {"topic": "devices/d/v", "payload": "no picture"},
    ]
    file = tmp_path / "recorded.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    answer = run_file(camera(), model, "rock", file)
    assert [(event["key"], event["label"]) for event in answer["events"]] == [("a", "red"), ("b", "blue"), ("c", "red")]
    assert [letter["reason"] for letter in answer["dead_letters"]] == ["undecodable"]
    assert answer == run_file(camera(), model, "rock", file)
    assert answer["ledger"]["difference"] == 0


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"payload_file": "none.jpg"}, "cannot be read"), ({"payload_base64": "%%"}, "not base64"),
        ({"payload": {"a": 1}}, "a picture is"),
        ({}, "not a message"), ({"payload": "x", "payload_file": "y"}, "not a message"),
    ],
)  # fmt: skip
def test_a_line_without_a_picture_is_named(tmp_path: Path, row: dict[str, Any], says: str) -> None:
    file = tmp_path / "recorded.jsonl"
    file.write_text(json.dumps({"topic": "devices/a/v", **row}))
    with pytest.raises(RejectedError, match=says):
        run_file(camera(), None, "rock", file)


def test_a_table_of_numbers_is_no_recording_of_pictures(tmp_path: Path) -> None:
    file = tmp_path / "recorded.csv"
    file.write_text("device,x\na,1\n")
    with pytest.raises(RejectedError, match=r"use \.jsonl"):
        run_file(camera(), None, "rock", file)


def test_messages_of_a_library_user_are_bytes(model: Model) -> None:
    answer = run_messages(camera(), model, "rock", iter([("devices/a/v", picture(GREEN), None)]))
    assert [event["label"] for event in answer["events"]] == ["green"]
