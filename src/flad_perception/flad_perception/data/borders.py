# SPDX-License-Identifier: Apache-2.0
"""How much of a picture is kept beside the crop, so that it can still be enlarged or shrunk.

LMDrive resizes the picture by a random 0.9 to 1.1 and then crops it. Resizing by s and cropping
``w x h`` shows the part of ``w/s x h/s`` of the unscaled picture, so the part for the smallest s is
what a packed data set holds. Views of a zoom camera are not resized, and have no border.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from flad_perception.config import ViewConfig

SMALLEST_SCALE = 0.9


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A part of a picture, in whole pixels."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class BorderedView:
    """A view with the border that is stored."""

    view: ViewConfig
    stored_px: tuple[int, int]  # width and height
    is_resized: bool

    @property
    def stored_view(self) -> ViewConfig:
        """The view as it must be cut to get the stored part."""
        return replace(self.view, crop_px=self.stored_px)

    def part(self, scale: float) -> Rectangle:
        """The stored part's rectangle that the crop shows when the picture is resized by ``scale``.

        Scales that would need more than is stored are raised to what is. 1 is the view itself.
        """
        pairs = list(zip(self.stored_px, self.view.crop_px, strict=True))
        scale = max(scale, *(crop / stored for stored, crop in pairs))
        width, height = (min(stored, round(crop / scale)) for stored, crop in pairs)
        outer = crop_corner(self.view, self.stored_px)
        inner = crop_corner(self.view, (width, height))
        return Rectangle(
            left=min(max(0, inner[0] - outer[0]), self.stored_px[0] - width),
            top=min(max(0, inner[1] - outer[1]), self.stored_px[1] - height),
            width=width,
            height=height,
        )


def bordered(view: ViewConfig) -> BorderedView:
    """The view with the border that random resizing needs, as far as the picture reaches."""
    if view.fallback_camera:  # a zoom camera
        return BorderedView(view, view.crop_px, is_resized=False)
    width, height = (
        min(whole, math.ceil(crop / SMALLEST_SCALE))
        for whole, crop in zip(view.resize_px, view.crop_px, strict=True)
    )
    return BorderedView(view, (width, height), is_resized=(width, height) != view.crop_px)


def crop_corner(view: ViewConfig, crop_px: tuple[int, int]) -> tuple[int, int]:
    """Left and top of a crop of ``crop_px``, by the rule of :func:`preprocess.cropped`."""
    columns, rows = (w - c for w, c in zip(view.resize_px, crop_px, strict=True))
    return (columns // 2, round(rows * view.crop_down))
