"""Pictures and text as tensors: a JPEG or PNG becomes float32 numbers of a fixed shape, a line of text a string.

A message is one tensor, and its window is closed at once; tensors are never kept in a checkpoint. What fails in the model is
a dead letter of the message itself, with the payload as it came, so that it can be tried again.
"""

import warnings
from collections.abc import Callable
from io import BytesIO
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skerry.broker import Frame
from skerry.core.errors import ConfigError, RejectedError
from skerry.pipeline.spec import SourceSpec
from skerry.window.state import Closed

Tensor = NDArray[Any]
ToTensor = Callable[[bytes], Tensor]
_MODES = {"RGB": "RGB", "BGR": "RGB", "GRAY": "L"}


class NotATensorError(Exception):
    """A payload that is no picture or no text of the kind that the source takes; its text says why."""


class TensorWindow(Closed):
    """The window of one message; `tensor` is its payload without a batch dimension, `frame` the message."""

    tensor: Any = None
    frame: Frame = (b"", b"", b"", b"")


def tensor_window(window: Closed, tensor: Tensor, frame: Frame) -> TensorWindow:
    """A window that a message has closed, with what the message holds."""
    times, counts = (window.start, window.end), (window.samples, window.messages)
    return TensorWindow(window.key, *times, [], *counts, index=window.index, tensor=tensor, frame=frame)


def stack(windows: list[Closed]) -> Tensor:
    """The tensors of windows as one batch: float32 `[N, C, H, W]` or `[N, H, W, C]`, or strings `[N, 1]`."""
    return np.stack([window.tensor for window in windows if isinstance(window, TensorWindow)])


def to_tensor(source: SourceSpec) -> ToTensor:
    """The function that makes a payload a tensor, of `source.tensor_shape`; it raises `NotATensorError`.

    Raises `ConfigError` where pictures are wanted and pillow is not installed.
    """
    return _to_string if source.format == "string" else _to_picture(source)


def _to_string(payload: bytes) -> Tensor:
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        raise NotATensorError(f"not UTF-8 text: {error.reason} at byte {error.start}") from error
    return np.array([text.rstrip("\r\n")], np.object_)


def _to_picture(source: SourceSpec) -> ToTensor:
    """Decode, turn upright (EXIF), convert the colours, scale to the size (bilinear), `(pixel / 255 - mean) / std`."""
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ConfigError("pictures need pillow", where="source.format", mend="pip install 'skerry[image]'") from error
    mode, size = _MODES[source.color], (source.width, source.height)
    channels = 1 if mode == "L" else 3
    mean = np.broadcast_to(np.array(source.mean or (0.0,), np.float32), channels)
    std = np.broadcast_to(np.array(source.std or (1.0,), np.float32), channels)

    def read(payload: bytes) -> Any:
        with warnings.catch_warnings():
            # what is too large is refused here by the header, before its pixels are there; pillow's own bound only warns
            warnings.simplefilter("error")
            image: Any = Image.open(BytesIO(payload), formats=("JPEG", "PNG"))
            if image.width * image.height > source.max_pixels:
                raise NotATensorError(f"{image.width} x {image.height} pixels, allowed are {source.max_pixels} (max_pixels)")
            image.load()
            image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):  # 16 bits a pixel, which pillow would clip
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        return image.convert(mode).resize(size, Image.Resampling.BILINEAR)

    def decode(payload: bytes) -> Tensor:
        try:
            pixels = np.asarray(read(payload), np.float32).reshape(source.height, source.width, channels)
        except (NotATensorError, MemoryError):
            raise
        except Exception as error:  # pillow's readers raise whatever a broken file makes them meet
            raise NotATensorError(f"not a JPEG or PNG that can be read: {type(error).__name__}") from error
        if source.color == "BGR":
            pixels = pixels[:, :, ::-1]
        pixels = (pixels / np.float32(255.0) - mean) / std
        return np.ascontiguousarray(pixels.transpose(2, 0, 1) if source.layout == "NCHW" else pixels)

    return decode


def check_fits(source: SourceSpec, scorer: Any) -> None:
    """Raise `RejectedError` when the model's input takes no tensors of this source; what the model leaves open fits."""
    # a worker counts and shadows its models behind a scorer that has the model itself as `model`
    inputs = getattr(getattr(scorer, "model", scorer), "inputs", None)
    if not inputs:
        return
    wanted, shape = inputs[0], source.tensor_shape
    kind = wanted.dtype.removeprefix("tensor(").removesuffix(")")
    text = source.format == "string"
    if text is not (kind == "string"):
        makes, reads = ("strings", "numbers") if text else ("pictures", "strings")
        raise RejectedError(f"model {scorer.name} reads {reads} (input {wanted.name!r}), the pipeline makes {makes}")
    if len(wanted.shape) < 2 or _agree(wanted.shape[1:], shape):
        return
    turned = not text and _agree(wanted.shape[1:], (shape[1], shape[2], shape[0]) if source.layout == "NCHW" else
                                 (shape[2], shape[0], shape[1]))  # fmt: skip
    other = "NHWC" if source.layout == "NCHW" else "NCHW"
    raise RejectedError(
        f"model {scorer.name} takes {_show(wanted.shape)} (input {wanted.name!r}), the pipeline makes {_show((None, *shape))}",
        mend=f'set layout = "{other}"' if turned else "change width, height, color, layout or the model",
    )


def _agree(wanted: tuple[int | None, ...], shape: tuple[int, ...]) -> bool:
    """Whether a row of this shape fits; a picture fits a flat row of as many numbers."""
    if len(wanted) == 1 and len(shape) > 1:
        shape = (prod(shape),)
    return len(wanted) == len(shape) and all(size in (None, made) for size, made in zip(wanted, shape, strict=True))


def _show(shape: tuple[int | None, ...]) -> str:
    return "[" + ", ".join("N" if size is None else str(size) for size in shape) + "]"
