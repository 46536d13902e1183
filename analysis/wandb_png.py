"""A PNG file as an image of W&B. Imports wandb: only for who sends one."""

from __future__ import annotations

import struct
from pathlib import Path

import wandb

SIZE = struct.Struct(">II")
SIZE_AT = 16
"""Where width and height stand in a PNG file (specification, 11.2.1)."""


class Png(wandb.Image):
    """What `wandb.Image` makes of a path, without Pillow, with which that one reads the picture for its size."""

    image = None

    def __init__(self, path: Path):
        super().__init__(str(path))
        self._width, self._height = SIZE.unpack_from(path.read_bytes(), SIZE_AT)

    def _initialize_from_path(self, path: str) -> None:
        self._set_file(path)
        self.format = "png"
