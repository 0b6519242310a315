# SPDX-License-Identifier: Apache-2.0
"""Falling rain over the finished picture: streaks, the same for the same random generator."""

from __future__ import annotations

import numpy as np

from flad_sim.sensors.jit import kernel, pointer

_STREAKS_PER_PIXEL = 0.006  # at full precipitation


def add_rain(
    image: np.ndarray, share: float, wind: float, brightness: float, rng: np.random.Generator
) -> None:
    """Draw rain of intensity ``share`` in [0, 1] into ``image`` ``[H, W, 4]``.

    ``wind`` in [0, 1] slants it; ``brightness`` in [0, 255] is what the drops reflect.
    """
    height, width = image.shape[:2]
    count = int(share * _STREAKS_PER_PIXEL * height * width)
    if count == 0:
        return
    streaks = rng.random((count, 4), dtype=np.float32)
    # Near drops are few, long and bright; far ones many, short and faint.
    near = streaks[:, 2] ** 3
    streaks[:, 0] *= width
    streaks[:, 1] *= height
    streaks[:, 2] = (0.015 + 0.085 * near) * height
    streaks[:, 3] = (0.10 + 0.25 * near) * (0.5 + 0.5 * streaks[:, 3])
    draw_streaks(image, streaks, np.float32(0.08 + 0.35 * wind), np.float32(brightness))


@kernel
def draw_streaks(
    image: np.ndarray, streaks: np.ndarray, slant: np.float32, brightness: np.float32
) -> None:
    """Blend streaks ``[N, 4]`` (x, y, length, opacity) into ``image``."""
    height, width = image.shape[0], image.shape[1]
    pixels, rows = pointer(image), pointer(streaks)
    for i in range(len(streaks)):
        x, y, length, alpha = rows[4 * i], rows[4 * i + 1], rows[4 * i + 2], rows[4 * i + 3]
        for step in range(int(length) + 1):
            px, py = int(x + slant * np.float32(step)), int(y) + step
            if px < 0 or px >= width or py >= height:
                break
            at = 4 * (py * width + px)
            for c in range(3):
                old = np.float32(pixels[at + c])
                pixels[at + c] = int(old + (brightness - old) * alpha)
