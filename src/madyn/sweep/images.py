"""Images in place of text: which checkpoints take them, and a folder of them as the pixel values that a model reads."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from madyn.checkpoints import Checkpoint
from madyn.errors import TextError, UsageError, one_line
from madyn.regular import open_regular

if TYPE_CHECKING:
    import numpy as np

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


def takes_images(config: Any) -> bool:
    """Whether the model of a config reads pixel values and no text."""
    from transformers import AutoModel

    kind = AutoModel._model_mapping.get(type(config), None)
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return any(getattr(one, "main_input_name", None) == "pixel_values" for one in kinds)


def refuse_without_images(checkpoint: Checkpoint, config: Any) -> None:
    """Say how a vision model is measured, where text would be prepared for it.

    Raises:
        UsageError: it is one.
    """
    if takes_images(config):
        raise UsageError(
            f"{checkpoint} is a vision model ({config.model_type}), which reads images and no text: madyn scan "
            "--images FOLDER measures it on some, and madyn.trace(..., inputs=pixel_values) over its training"
        )


def read_images(folder: str | Path, checkpoint: Checkpoint, count: int) -> np.ndarray:
    """The first images of a folder by name, as a checkpoint's own image processor prepares them.

    Returns:
        pixel values, shape (count, C, H, W), float32; of fewer images if the folder has no more.

    Raises:
        UsageError: the checkpoint's model reads no images, or count is below 1.
        TextError: there are no images in the folder, or one cannot be read.
        CheckpointError: the checkpoint has no image processor.
    """
    import numpy as np

    config = checkpoint.config()
    if not takes_images(config):
        raise UsageError(f"{checkpoint} is a {config.model_type} and reads no images; measure it on text")
    if count < 1:
        raise UsageError(f"{count} images: at least one is needed")
    try:
        files = sorted(p for p in Path(folder).iterdir() if p.suffix.lower() in _SUFFIXES)[:count]
    except OSError as e:
        raise TextError(f"{folder}: cannot be read as a folder of images: {e.strerror}") from e
    if not files:
        raise TextError(f"{folder}: no images in it ({', '.join(_SUFFIXES)})")
    processor = checkpoint.image_processor()
    try:
        pixels = processor(images=[_open(path) for path in files], return_tensors="np")["pixel_values"]
    except (ValueError, TypeError, KeyError) as e:
        raise TextError(f"{folder}: {type(processor).__name__} cannot prepare these images: {e}") from e
    pixels = np.asarray(pixels, dtype=np.float32)
    if pixels.ndim != 4:
        raise UsageError(
            f"{checkpoint}: its processor gives pixel values of shape {pixels.shape}; (B, C, H, W) is measured"
        )
    return pixels


def _open(path: Path) -> Any:
    from PIL import Image

    try:
        with open_regular(path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tags that no pixel depends on
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(file).convert("RGB")
    except Exception as e:  # what only looks like an image can make Pillow raise anything
        raise TextError(f"{path}: cannot be read as an image: {one_line(e)}") from e
