# SPDX-License-Identifier: Apache-2.0
"""What a recording hands to the evaluation's harness: routes with their weather, the rig.

The harness drives; a data set is one more observer. A run that is already complete in the data
set is not driven again, so the same command goes on after a crash.
"""

from __future__ import annotations

import copy
import dataclasses
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from flad_carla.evaluation.routes import RouteConfig, read_routes
from flad_carla.recorder.dataset import CAMERAS, FOCUS, DatasetRecorder
from flad_carla.recorder.runs import RunKey, completed_keys
from flad_carla.recorder.weather import NAMES, weather_parameters
from flad_carla.rig import Rig, SensorSpec
from flad_carla.run_log import Observer, SensorTick, TickEntry
from flad_common.config import to_yaml

PICTURE_PERIOD_S = 0.1

ImageSize = tuple[int, int]


class RecordingStoppedError(Exception):
    """There is no point in driving on: the recording has ended. The text says why."""


class StopWhenFull(Observer):
    """Ends the drive once the recorder could not go on; to be told after the recorder."""

    def __init__(self, recorder: DatasetRecorder) -> None:
        self._recorder = recorder

    def on_tick(self, tick: SensorTick, entry: TickEntry) -> None:
        """Look whether the recorder still records.

        Raises:
            RecordingStoppedError: if it does not.
        """
        if self._recorder.is_full:
            raise RecordingStoppedError(self._recorder.failures[-1])


def missing_routes(
    routes: Path, only: Sequence[str], root: Path, seed: int, driver: str
) -> list[str]:
    """Ids of the routes that the data set does not hold completely for this seed and driver."""
    done = completed_keys(root)
    return [
        route.route_id
        for route in read_routes(routes, only)
        if not any(_key(route, seed, driver).is_same_as(key) for key in done)
    ]


def _key(route: RouteConfig, seed: int, driver: str) -> RunKey:
    return RunKey(
        town=route.town,
        route_id=f"RouteScenario_{route.route_id}",
        repetition=0,
        seed=seed,
        driver=driver,
        route_digest=route.digest,
    )


def choose_weather(choice: str, route_id: str, seed: int) -> int | None:
    """The weather id of a route: ``random`` (by route and seed), a number, or None for ``route``.

    Raises:
        ValueError: if the choice is none of these.
    """
    if choice == "route":
        return None
    if choice == "random":
        rng = np.random.default_rng([seed & 0xFFFFFFFF, zlib.crc32(route_id.encode())])
        return int(rng.integers(len(NAMES)))
    if choice.isdigit() and int(choice) < len(NAMES):
        return int(choice)
    raise ValueError(
        f"weather is {choice!r}; allowed are random, route, and LMDrive's ids 0..{len(NAMES) - 1}"
    )


def write_routes(source: Path, target: Path, weather_ids: Mapping[str, int | None]) -> None:
    """Copy a route file; routes with an id in ``weather_ids`` get that weather."""
    root = copy.deepcopy(ET.parse(source).getroot())
    for route in root.iter("route"):
        weather_id = weather_ids.get(route.get("id", ""))
        if weather_id is None:
            continue
        for tag in ("weather", "weathers"):
            for old in route.findall(tag):
                route.remove(old)
        values = {name: f"{value:g}" for name, value in weather_parameters(weather_id).items()}
        parent = ET.SubElement(route, "weathers")
        ET.SubElement(parent, "weather", {"route_percentage": "0", **values})
    ET.ElementTree(root).write(target, encoding="utf-8", xml_declaration=True)


def recording_rig(rig: Rig, size: ImageSize) -> Rig:
    """A rig for recording: pictures of ``size`` at 10 Hz; the focus camera keeps its own size."""
    return dataclasses.replace(rig, sensors=tuple(_sensor(s, size) for s in rig.sensors))


def write_rig(rig: Rig, path: Path) -> None:
    """Write a rig as the harness reads it."""
    path.write_text(to_yaml(rig), encoding="utf-8")


def _sensor(sensor: SensorSpec, size: ImageSize) -> SensorSpec:
    if sensor.id not in (*CAMERAS, FOCUS):
        return sensor
    changes: dict[str, int | float] = {"sensor_tick": PICTURE_PERIOD_S}
    if sensor.id in CAMERAS:
        changes |= {"image_size_x": size[0], "image_size_y": size[1]}
    return dataclasses.replace(sensor, attributes={**sensor.attributes, **changes})


def parse_size(text: str) -> ImageSize:
    """``800x600`` as numbers.

    Raises:
        ValueError: if it is no size of 32 to 4096 pixels.
    """
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise ValueError(f"image size is {text!r}, expected WIDTHxHEIGHT such as 800x600")
    size = (int(width), int(height))
    if not all(32 <= side <= 4096 for side in size):
        raise ValueError(f"image size is {text}, both sides must be in 32..4096")
    return size
