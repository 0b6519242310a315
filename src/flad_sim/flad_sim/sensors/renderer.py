# SPDX-License-Identifier: Apache-2.0
"""Everything that looks: cameras and LiDARs of a frame, as the payloads the protocol carries."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import local

import numpy as np
from numpy.typing import NDArray

from flad_sim.protocol.payloads import pack_image
from flad_sim.scenery.scenery import Scenery
from flad_sim.sensors.camera import CameraConfig, encode_depth, encode_instances, encode_tags
from flad_sim.sensors.embree import PacketMemory
from flad_sim.sensors.frame import FOG_DENSITY, Surroundings, View
from flad_sim.sensors.glow import GlowMaker, spread_glows
from flad_sim.sensors.lidar import LidarConfig, Sweep, pack_labels, pack_returns, turn_deg
from flad_sim.sensors.rain import add_rain
from flad_sim.sensors.stage import Stage
from flad_sim.sensors.surroundings import SurroundingsMaker
from flad_sim.sensors.sweep import sweep_channels
from flad_sim.sensors.tracing import measure_rows, render_rows
from flad_sim.types import SensorRequest, Tag, Transform, Vec3, VisibleWorld, Weather

_LOG = logging.getLogger(__name__)
_SLOW_START_S = 3.0
_MEASURING = {
    "sensor.camera.depth",
    "sensor.camera.semantic_segmentation",
    "sensor.camera.instance_segmentation",
}
_LIDARS = {"sensor.lidar.ray_cast", "sensor.lidar.ray_cast_semantic"}
SERVED = frozenset({"sensor.camera.rgb", *_MEASURING, *_LIDARS})


@dataclass(frozen=True, kw_only=True, slots=True)
class RendererConfig:
    """How the renderer works; the pictures do not depend on ``num_threads``."""

    seed: int = 0
    num_threads: int = 0  # 0: as many as the process may use, at most 8
    pixels_per_task: int = 16_384


@dataclass(frozen=True, slots=True)
class _Measured:
    depth_m: NDArray[np.float32]  # [H, W]
    tag: NDArray[np.uint8]  # [H, W]
    actor: NDArray[np.int32]  # [H, W]


class Renderer:
    """Draws the measurements that are due; one caller at a time."""

    def __init__(self, scenery: Scenery, config: RendererConfig = RendererConfig()) -> None:
        self._config = config
        self._stage = Stage(scenery)
        self._surroundings = SurroundingsMaker(scenery)
        self._glows = GlowMaker(scenery)
        num_threads = config.num_threads or min(len(os.sched_getaffinity(0)), 8)
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix="renderer")
        self._memory = local()
        self._heads_deg: dict[int, float] = {}
        self._canvases: dict[int, NDArray[np.uint8]] = {}
        self._warm_up()

    def render(self, world: VisibleWorld, requests: Sequence[SensorRequest]) -> dict[int, bytes]:
        """Payloads by sensor id, without the 48-byte header.

        Raises:
            ValueError: if a sensor is not one of :data:`SERVED`, or an attribute is out of range.
        """
        self._stage.place(world.actors, world.elapsed_s)
        around = self._surroundings.make(world, self._stage.movers, self._stage.num_slots)
        jobs = [self._start(world, around, request) for request in requests]
        payloads: dict[int, Future[bytes]] = {}
        for request, work, finish in jobs:
            for part in work:
                part.result()
            payloads[request.sensor_id] = self._pool.submit(finish)
        return {sensor_id: payload.result() for sensor_id, payload in payloads.items()}

    def forget(self, sensor_id: int) -> None:
        """Drop what is kept for a destroyed sensor."""
        self._heads_deg.pop(sensor_id, None)
        self._canvases.pop(sensor_id, None)

    def cast_ray(self, world: VisibleWorld, start: Vec3, end: Vec3) -> list[tuple[Vec3, Tag]]:
        """Every surface between two points, from ``start`` on."""
        self._stage.place(world.actors, world.elapsed_s)
        a, b = np.array(start), np.array(end)
        length = float(np.linalg.norm(b - a))
        hits: list[tuple[Vec3, Tag]] = []
        if length == 0.0:
            return hits
        axes = np.zeros((3, 3), dtype=np.float32)
        axes[0] = (b - a) / length
        gone = 0.0
        while gone < length and len(hits) < 64:
            config = LidarConfig(channels=1, range_m=length - gone)
            sweep = _one_ray(config)
            self._sweep(sweep, a + (b - a) / length * gone, axes, length - gone, 0, 1)
            distance = float(sweep.distance_m[0, 0])
            if not np.isfinite(distance):
                break
            gone += distance
            x, y, z = (a + (b - a) / length * gone).tolist()
            hits.append(((x, y, z), Tag(int(sweep.tag[0, 0]))))
            gone += 1e-3
        return hits

    def depths_m(self, view: View) -> NDArray[np.float32]:
        """Depth ``[H, W]`` of a view at the last rendered world; inf where there is nothing."""
        work, found = self._measure(view)
        for part in work:
            part.result()
        return found.depth_m

    def close(self) -> None:
        """Stop the threads, release the scenes."""
        self._pool.shutdown()
        self._stage.close()

    def _warm_up(self) -> None:
        """Compile the kernels, or load them from the cache, before the first frame needs them."""
        weather = Weather(precipitation=100.0)
        world = VisibleWorld(frame=0, elapsed_s=0.0, delta_s=0.05, weather=weather)
        small = {"image_size_x": "32", "image_size_y": "32", "channels": "1"}
        began = time.monotonic()
        for name in sorted(SERVED):
            self.render(world, [SensorRequest(0, name, small, Transform(z=50.0))])
        self.forget(0)
        if (seconds := time.monotonic() - began) > _SLOW_START_S:
            _LOG.info("kernels compiled in %.0f s; the next start finds them in the cache", seconds)

    def _start(
        self, world: VisibleWorld, around: Surroundings, request: SensorRequest
    ) -> tuple[SensorRequest, list[Future[None]], Callable[[], bytes]]:
        if request.blueprint == "sensor.camera.rgb":
            return (request, *self._start_camera(world, around, request))
        if request.blueprint in _MEASURING:
            return (request, *self._start_measuring(request))
        if request.blueprint in _LIDARS:
            return (request, *self._start_lidar(world, request))
        raise ValueError(f"{request.blueprint} cannot be rendered; served are {sorted(SERVED)}")

    def _start_camera(
        self, world: VisibleWorld, around: Surroundings, request: SensorRequest
    ) -> tuple[list[Future[None]], Callable[[], bytes]]:
        camera = CameraConfig.from_attributes(request.attributes)
        view = camera.view(request.transform)
        image = self._canvas(request.sensor_id, (view.height, view.width, 4))
        stage = self._stage

        def rows(first: int, last: int) -> None:
            mem = self._packet_memory()
            render_rows(
                stage.handle, view, stage.surfaces, stage.movers, around, first, last, image,
                mem.packet(),
            )  # fmt: skip

        work = [self._pool.submit(rows, a, b) for a, b in self._bands(view.height, view.width)]

        def finish() -> bytes:
            picture = _shrunk(image, camera.supersampling)
            shown = replace(camera, supersampling=1).view(request.transform)
            lamps = self._glows.toward(shown, around, stage.movers, stage.num_slots)
            fog = float(around.light[FOG_DENSITY])
            spread_glows(stage.handle, shown, lamps, fog, picture, self._packet_memory().packet())
            if world.weather.precipitation > 0.0:
                self._rain(world, request, picture)
            return pack_image(picture, camera.fov_deg)

        return work, finish

    def _rain(self, world: VisibleWorld, request: SensorRequest, picture: np.ndarray) -> None:
        rng = self._random(world, request)
        share = min(world.weather.precipitation / 100.0, 1.0)
        wind = min(world.weather.wind_intensity / 100.0, 1.0)
        brightness = min(40.0 + 1.1 * float(picture[: len(picture) // 2, :, :3].mean()), 230.0)
        add_rain(picture, share, wind, brightness, rng)

    def _random(self, world: VisibleWorld, request: SensorRequest) -> np.random.Generator:
        return np.random.default_rng([self._config.seed, request.sensor_id, world.frame])

    def _start_measuring(
        self, request: SensorRequest
    ) -> tuple[list[Future[None]], Callable[[], bytes]]:
        camera = CameraConfig.from_attributes({**request.attributes, "supersampling": "1"})
        work, found = self._measure(camera.view(request.transform))

        def finish() -> bytes:
            if request.blueprint.endswith("depth"):
                return pack_image(encode_depth(found.depth_m), camera.fov_deg)
            if request.blueprint.endswith("semantic_segmentation"):
                return pack_image(encode_tags(found.tag), camera.fov_deg)
            return pack_image(encode_instances(found.tag, found.actor), camera.fov_deg)

        return work, finish

    def _measure(self, view: View) -> tuple[list[Future[None]], _Measured]:
        shape = (view.height, view.width)
        found = _Measured(
            np.empty(shape, dtype=np.float32),
            np.empty(shape, dtype=np.uint8),
            np.empty(shape, dtype=np.int32),
        )
        stage = self._stage

        def rows(first: int, last: int) -> None:
            packet = self._packet_memory().packet()
            measure_rows(
                stage.handle, view, stage.surfaces, stage.movers, first, last,
                found.depth_m, found.tag, found.actor, packet,
            )  # fmt: skip

        return [self._pool.submit(rows, a, b) for a, b in self._bands(*shape)], found

    def _start_lidar(
        self, world: VisibleWorld, request: SensorRequest
    ) -> tuple[list[Future[None]], Callable[[], bytes]]:
        config = LidarConfig.from_attributes(request.attributes)
        start_deg = self._heads_deg.get(request.sensor_id, 0.0)
        sweep = Sweep.aimed(config, start_deg, world.delta_s)
        head_deg = (start_deg + turn_deg(config, world.delta_s)) % config.horizontal_fov_deg
        self._heads_deg[request.sensor_id] = head_deg
        axes = np.ascontiguousarray(request.transform.rotation_matrix().T, dtype=np.float32)
        origin = np.array(request.transform.location)
        step = max(1, self._config.pixels_per_task // 2 // max(len(sweep.azimuth_rad), 1))
        work = [
            self._pool.submit(
                self._sweep, sweep, origin, axes, config.range_m, c, min(c + step, config.channels)
            )
            for c in range(0, config.channels, step)
        ]

        def finish() -> bytes:
            if request.blueprint.endswith("semantic"):
                return pack_labels(sweep, head_deg)
            return pack_returns(config, sweep, head_deg, self._random(world, request))

        return work, finish

    def _sweep(
        self,
        sweep: Sweep,
        origin: np.ndarray,
        axes: np.ndarray,
        range_m: float,
        channel0: int,
        channel1: int,
    ) -> None:
        mem, stage = self._packet_memory(), self._stage
        sweep_channels(
            stage.handle, origin.astype(np.float32), axes, sweep.elevation_rad, sweep.azimuth_rad,
            range_m, stage.surfaces, stage.movers, channel0, channel1, sweep.distance_m,
            sweep.cos_incidence, sweep.tag, sweep.actor,
            mem.packet(),
        )  # fmt: skip

    def _canvas(self, sensor_id: int, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
        """A camera's own memory, kept from frame to frame: fresh pages cost time."""
        canvas = self._canvases.get(sensor_id)
        if canvas is None or canvas.shape != shape:
            canvas = self._canvases[sensor_id] = np.empty(shape, dtype=np.uint8)
        return canvas

    def _packet_memory(self) -> PacketMemory:
        if not hasattr(self._memory, "packet"):
            self._memory.packet = PacketMemory()
        memory: PacketMemory = self._memory.packet
        return memory

    def _bands(self, height: int, width: int) -> list[tuple[int, int]]:
        rows = max(4, self._config.pixels_per_task // width // 4 * 4)
        return [(a, min(a + rows, height)) for a in range(0, height, rows)]


def _one_ray(config: LidarConfig) -> Sweep:
    flat = np.zeros(1, dtype=np.float32)
    shape = (1, 1)
    return Sweep(
        flat,
        flat,
        np.full(shape, np.inf, dtype=np.float32),
        np.zeros(shape, dtype=np.float32),
        np.zeros(shape, dtype=np.uint8),
        np.zeros(shape, dtype=np.int32),
    )


def _shrunk(image: np.ndarray, factor: int) -> np.ndarray:
    if factor == 1:
        return image
    h, w = image.shape[0] // factor, image.shape[1] // factor
    blocks = image.reshape(h, factor, w, factor, 4).astype(np.uint16)
    mean: np.ndarray = (blocks.sum(axis=(1, 3)) // factor**2).astype(np.uint8)
    return mean
