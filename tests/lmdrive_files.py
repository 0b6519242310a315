# SPDX-License-Identifier: Apache-2.0
"""A tiny drive in LMDrive's layout: straight north past a parked car, through a red light's area.

CARLA's world has y to the right, so driving north is towards -y with yaw -90. Four metres a second,
0.4 m a frame. The parked car stands 10 m ahead of the first frame and 3 m to the left.
"""

import io
import json
import math
from pathlib import Path

import numpy as np
from PIL import Image

GPS_SCALE = 111324.60662786 / (math.pi * 6378137.0 / 180.0)
STEP_M = 0.4
CAR = {"x": -3.0, "y": -10.0, "half_length": 2.0, "half_width": 0.9}
# One colour a camera, so that a swapped camera shows.
COLOURS = ((200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30))
FOCUS_COLOUR = (30, 200, 200)


def write_run(
    root: Path,
    name: str = "routes_town05_short_w8_11_22_15_30_54",
    num_frames: int = 40,
    size: tuple[int, int] = (64, 48),
    has_focus: bool = False,
    document: dict | None = None,
) -> Path:
    """Write a run and list it in the index; returns its folder."""
    folder = root / name
    for kind in ("rgb_full", "lidar", "lidar_odd", "measurements_full"):
        (folder / kind).mkdir(parents=True)
    if has_focus:
        (folder / "rgb_focus").mkdir()
    for frame in range(num_frames):
        (folder / f"rgb_full/{frame:04d}.jpg").write_bytes(stacked(size, frame))
        if has_focus:
            zoomed = jpeg(plain((128, 128), FOCUS_COLOUR))
            (folder / f"rgb_focus/{frame:04d}.jpg").write_bytes(zoomed)
        np.save(folder / f"lidar/{frame:04d}.npy", sweep(frame, rear=True))
        np.save(folder / f"lidar_odd/{frame:04d}.npy", sweep(frame, rear=False))
        text = json.dumps(measurement(frame))
        (folder / f"measurements_full/{frame:04d}.json").write_text(text)
    if document is not None:
        (folder / "run.json").write_text(json.dumps({"num_frames": num_frames, **document}))
    with (root / "dataset_index.txt").open("a") as index:
        index.write(f"{name} {num_frames}\n")
    return folder


def measurement(frame: int) -> dict:
    """``measurements_full`` of a frame."""
    y = -STEP_M * frame
    return {
        "x": 0.0,
        "y": y,
        "theta": 0.0,  # north
        "speed": 4.0,
        # The route goes on north for 40 m, then right: in the GPS plane x is north.
        "far_node_x": 40.0 * GPS_SCALE,
        "far_node_y": 8.0,
        "is_red_light_present": [42] if frame >= 10 else [],
        "affected_light_id": 42,
        "stop_sign": frame == 3,
        "actors_data": {
            "1": _actor(0.0, y, (0.0, -1.0), (2.4, 0.9), (0.0, -4.0), 0),
            "7": _actor(
                CAR["x"], CAR["y"], (0.0, -1.0), (CAR["half_length"], CAR["half_width"]), (0, 0), 0
            ),
            "8": _actor(5.0, -6.0, (1.0, 0.0), (0.25, 0.25), (1.0, 0.0), 1),
            # Beyond the crossing, facing south; its area lies at y -20 across our lane.
            "42": {
                "loc": [4.0, -35.0, 0.0],
                "ori": [0.0, 1.0, 0.0],
                "sta": 0,
                "tpe": 2,
                "taigger_loc": [15.0, 4.0, 0.5],
                "trigger_ori": [1.0, 0.0, 0.0],
                "trigger_box": [1.0, 1.5],
            },
        },
    }


def sweep(frame: int, *, rear: bool) -> np.ndarray:
    """Half a sweep in the sensor's frame (x left, y forward of the mount at 1.3 m, 2.5 m up)."""
    rng = np.random.default_rng([frame, int(rear)])
    ground = np.zeros((300, 4))
    ground[:, 0] = rng.uniform(-20.0, 20.0, 300)
    ground[:, 1] = rng.uniform(-18.0, -3.0, 300) if rear else rng.uniform(3.0, 18.0, 300)
    ground[:, 2], ground[:, 3] = -2.5, 0.7
    rng = np.random.default_rng(frame)  # both halves see the same car
    car = np.zeros((50, 4))
    ahead = rng.uniform(-1.9, 1.9, 50) - CAR["y"] - STEP_M * frame
    car[:, 0], car[:, 1] = rng.uniform(-0.8, 0.8, 50) - CAR["x"], ahead - 1.3
    car[:, 2], car[:, 3] = -1.5, 0.9
    car = car[(car[:, 1] < 0.0) == rear]
    return np.concatenate([ground, car]).astype(np.float16)


def stacked(size: tuple[int, int], frame: int) -> bytes:
    """``rgb_full``: four cameras below each other, a white patch in the middle of the front one."""
    pictures = [plain(size, colour) for colour in COLOURS]
    width, height = size
    pictures[0][height // 2 - 2 : height // 2 + 2, width // 2 - 2 : width // 2 + 2] = 255
    return jpeg(np.concatenate(pictures))


def plain(size: tuple[int, int], colour: tuple[int, int, int]) -> np.ndarray:
    """A picture of one colour."""
    return np.broadcast_to(np.uint8(colour), (size[1], size[0], 3)).copy()


def jpeg(picture: np.ndarray) -> bytes:
    """A picture as a JPEG."""
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "JPEG", quality=95, subsampling=0)
    return out.getvalue()


def _actor(x, y, ori, box, vel, tpe) -> dict:
    return {
        "loc": [x, y, 0.0],
        "ori": [*ori, 0.0],
        "box": list(box),
        "vel": [*vel, 0.0],
        "tpe": tpe,
    }
