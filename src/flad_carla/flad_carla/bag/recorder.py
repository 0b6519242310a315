# SPDX-License-Identifier: Apache-2.0
"""Listens to runs and records a bag of each: ``messages`` makes them, ``writer`` stores them."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flad_carla.bag.messages import MAP, MessageMaker, plan_poses, ros_pose, sensor_pose
from flad_carla.bag.prediction_messages import (
    PREDICTION,
    TOKENS,
    prediction_markers,
    prediction_message,
    target_message,
    tokens_message,
)
from flad_carla.bag.safe_file import DiskFullError
from flad_carla.bag.types import CUSTOM_TYPES, MessageTypes, find_definition
from flad_carla.bag.writer import BagWriter
from flad_carla.report.run_file import run_file_name
from flad_carla.rig import SensorSpec
from flad_carla.run_log import (
    Infraction,
    Observer,
    PlanView,
    PoseView,
    PredictionView,
    RunInfo,
    RunResult,
    SensorTick,
    TickEntry,
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BagConfig:
    """What goes into a bag."""

    raw_images: bool = False  # sensor_msgs/Image beside the JPEGs: 480 kB per 400x300 picture
    jpeg_quality: int = 80
    scene_period_s: float = 0.1  # markers, paths
    reserve_bytes: int = 16 * 2**20  # kept free for the index

    def __post_init__(self) -> None:
        if not 1 <= self.jpeg_quality <= 95:
            raise ValueError(f"jpeg_quality must be in 1..95, got {self.jpeg_quality}")
        if self.reserve_bytes < 0:
            raise ValueError(f"reserve_bytes must not be negative, got {self.reserve_bytes}")


class BagRecorder(Observer):
    """Records every run into a folder of its own under ``folder``.

    A full disk ends the recording, not the drive: the bag is closed properly, ``failures`` says
    what is missing. Topics have the bridge's and the stack's names, so that ``config/flad.rviz``
    shows a bag as it shows a live run.
    """

    def __init__(self, folder: Path, config: BagConfig | None = None) -> None:
        self.folder = folder
        self.failures: list[str] = []
        self.bags: list[Path] = []
        self._config = config or BagConfig()
        self._types = MessageTypes()
        self._missing = [name for name in CUSTOM_TYPES if find_definition(name) is None]
        if self._missing:
            _log.warning("no definition of %s: these topics are not recorded", self._missing)
        self._bag: _Bag | None = None

    def on_start(self, info: RunInfo) -> None:
        """Open a bag for the run."""
        path = _new_folder(self.folder, Path(run_file_name(info)).stem)
        try:
            writer = BagWriter(path, self._types, self._config.reserve_bytes)
        except OSError as error:
            self._report(path, f"could not be started ({error.strerror or error})")
            return
        self.bags.append(path)
        self._bag = _Bag(info, writer, MessageMaker(self._types, info.role), self._config)

    def on_tick(self, tick: SensorTick, entry: TickEntry) -> None:
        """Record one tick."""
        self.write_tick(tick, entry)

    def write_tick(self, tick: SensorTick, entry: TickEntry) -> None:
        """Record one tick; once the disk is full, later ticks are left out."""
        bag = self._bag
        if bag is None:
            return
        try:
            bag.write(tick, entry)
        except DiskFullError as error:
            self._give_up(bag, entry, str(error))
            return
        if bag.writer.is_full:
            self._give_up(bag, entry, "no space left on device")

    def on_end(self, result: RunResult) -> None:
        """Close the bag."""
        bag, self._bag = self._bag, None
        if bag is not None:
            self._close(bag)

    def _give_up(self, bag: _Bag, entry: TickEntry, why: str) -> None:
        self._bag = None
        self._report(
            bag.writer.path,
            f"ends {entry.sim_time_s:.1f} s into {bag.info.route_id} ({why}); "
            "what was recorded before is readable",
        )
        self._close(bag)

    def _close(self, bag: _Bag) -> None:
        try:
            bag.writer.close()
        except DiskFullError as error:
            self._report(
                bag.writer.path,
                f"has no index ({error}): `ros2 bag reindex {bag.writer.path}` makes one",
            )

    def _report(self, path: Path, what: str) -> None:
        message = f"bag {path} {what}; free some space, or give --bag another disk"
        self.failures.append(message)
        _log.error(message)


class _Bag:
    """One open bag and what was last written to it."""

    def __init__(
        self, info: RunInfo, writer: BagWriter, maker: MessageMaker, config: BagConfig
    ) -> None:
        self.info, self.writer = info, writer
        self._make, self._config = maker, config
        self._stack = f"/{info.role}"
        self._bridge = f"/carla/{info.role}"
        self._sensors = {sensor.id: sensor for sensor in info.rig.sensors}
        self._next_scene_s = 0.0
        self._started = False
        self._plan: PlanView | None = None
        self._prediction: PredictionView | None = None
        self._events: list[Infraction] = []
        self._words: dict[str, str] = {}
        self._lights: dict[int, int] = {}
        self._poses: dict[int, PoseView] = {}  # recent ego poses, by stamp in ns

    def write(self, tick: SensorTick, entry: TickEntry) -> None:
        stamp_ns = round(tick.sim_time_s * 1e9)
        put = _Putter(self.writer, stamp_ns)
        make, role = self._make, self.info.role
        put("/clock", "rosgraph_msgs/msg/Clock", make.clock(stamp_ns))
        if not self._started:
            self._started = True
            self._write_latched(put, stamp_ns)
        pose = [(MAP, role, ros_pose(entry.ego.pose))]
        put("/tf", "tf2_msgs/msg/TFMessage", make.transforms(stamp_ns, pose))
        odometry = make.odometry(stamp_ns, entry.ego)
        put(f"{self._bridge}/odometry", "nav_msgs/msg/Odometry", odometry)
        put(
            f"{self._bridge}/vehicle_control_cmd",
            "carla_msgs/msg/CarlaEgoVehicleControl",
            lambda: make.control(stamp_ns, entry.control),
        )
        self._write_plan(put, stamp_ns, entry)
        self._write_prediction(put, entry)
        self._write_words(put, entry)
        for name, measurement in tick.data.get(role, {}).items():
            if name in self._sensors:
                self._write_sensor(put, stamp_ns, self._sensors[name], measurement)
        if entry.infractions:
            self._events += entry.infractions
            markers = make.infraction_markers(stamp_ns, self._events)
            put.markers(f"{self._stack}/markers/infractions", markers, latched=True)
        if entry.sim_time_s + 1e-6 >= self._next_scene_s:
            self._next_scene_s += self._config.scene_period_s
            self._write_scene(put, stamp_ns, entry)

    def _write_latched(self, put: _Putter, stamp_ns: int) -> None:
        role, make = self.info.role, self._make
        static = [
            (role, f"{role}/{sensor.id}", sensor_pose(sensor)) for sensor in self._sensors.values()
        ]
        put("/tf_static", "tf2_msgs/msg/TFMessage", make.transforms(stamp_ns, static), latched=True)
        route = [PoseView(x=p.x, y=p.y, z=p.z, yaw=p.yaw) for p in self.info.route]
        path = make.path(stamp_ns, route)
        put(f"{self._stack}/route", "nav_msgs/msg/Path", path, latched=True)
        lanes = make.lane_markers(stamp_ns, self.info.lanes)
        put.markers("/carla/markers/static", lanes, latched=True)
        # Latched from the start, so that a viewer lists the topic in a clean run too.
        nothing = make.infraction_markers(stamp_ns, ())
        put.markers(f"{self._stack}/markers/infractions", nothing, latched=True)

    def _write_plan(self, put: _Putter, stamp_ns: int, entry: TickEntry) -> None:
        plan = entry.plan
        self._poses[round(entry.sim_time_s * 1e3)] = entry.ego.pose
        if plan is None or plan is self._plan:
            return
        self._plan = plan
        make, z = self._make, entry.ego.pose.z
        # The plan is in the frame of its own stamp: the pose then, or the closest that is known.
        made = min(self._poses, key=lambda ms: abs(ms - round(plan.stamp_s * 1e3)))
        seen_from = self._poses[made]
        self._poses = {ms: pose for ms, pose in self._poses.items() if ms >= made}
        plan_ns = stamp_ns + round((plan.stamp_s - entry.sim_time_s) * 1e9)
        put(
            f"{self._stack}/plan",
            "flad_msgs/msg/Plan",
            lambda: make.plan(plan_ns, plan, seen_from),
        )
        poses = plan_poses((seen_from.x, seen_from.y), plan, z)
        path = make.path(plan_ns, poses, step_ns=round(plan.step_s * 1e9))
        put(f"{self._stack}/planned_path", "nav_msgs/msg/Path", path)

    def _write_prediction(self, put: _Putter, entry: TickEntry) -> None:
        view = entry.prediction
        if view is None or view is self._prediction:
            return
        self._prediction = view
        make, role, seen_ns = self._make, self.info.role, round(view.stamp_s * 1e9)
        put(
            f"{self._stack}/scene_prediction",
            PREDICTION,
            lambda: prediction_message(make, seen_ns, role, view),
        )
        markers = prediction_markers(make, seen_ns, role, view)
        put.markers(f"{self._stack}/scene_markers", markers)
        tokens = view.tokens
        if tokens is not None:
            put(f"{self._stack}/scene_tokens", TOKENS, lambda: tokens_message(make, role, tokens))
        # What the encoder was told with the sensors of this tick, so that it can be replayed.
        node = entry.expert.far_node if entry.expert else None
        target = target_message(make, seen_ns, entry.ego.pose, node)
        put(f"{self._stack}/target_point", "geometry_msgs/msg/PointStamped", target)

    def _write_words(self, put: _Putter, entry: TickEntry) -> None:
        make = self._make
        put(f"{self._bridge}/speedometer", "std_msgs/msg/Float32", make.number(entry.ego.speed_mps))
        desired = make.number(entry.desired_speed_mps)
        put(f"{self._stack}/desired_speed", "std_msgs/msg/Float32", desired)
        completion = make.number(entry.route_completion)
        put(f"{self._stack}/route_completion", "std_msgs/msg/Float32", completion)
        words = {
            "instruction": entry.instruction,
            "planner_state": entry.planner_state,
            "expert_reason": entry.expert.reason if entry.expert else "",
        }
        for name, text in words.items():
            if text != self._words.get(name, ""):
                self._words[name] = text
                message = make.words(text)
                put(f"{self._stack}/{name}", "std_msgs/msg/String", message, latched=True)

    def _write_scene(self, put: _Putter, stamp_ns: int, entry: TickEntry) -> None:
        make = self._make
        bodies = make.actor_markers(stamp_ns, entry.actors)
        put.markers(f"{self._bridge}/markers", bodies)
        lights = {light.actor_id: light.state for light in entry.lights}
        if lights != self._lights:
            self._lights = lights
            markers = make.light_markers(stamp_ns, entry.lights)
            put.markers(f"{self._stack}/markers/lights", markers, latched=True)

    def _write_sensor(
        self, put: _Putter, stamp_ns: int, sensor: SensorSpec, measurement: Any
    ) -> None:
        make, topic = self._make, f"{self._bridge}/{sensor.id}"
        frame = f"{self.info.role}/{sensor.id}"
        if sensor.type == "sensor.camera.rgb":
            info = make.camera_info(stamp_ns, frame, measurement)
            put(f"{topic}/camera_info", "sensor_msgs/msg/CameraInfo", info)
            picture = make.compressed_image(stamp_ns, frame, measurement, self._config.jpeg_quality)
            put(f"{topic}/image/compressed", "sensor_msgs/msg/CompressedImage", picture)
            if self._config.raw_images:
                raw = make.image(stamp_ns, frame, measurement)
                put(f"{topic}/image", "sensor_msgs/msg/Image", raw)
        elif sensor.type == "sensor.lidar.ray_cast":
            cloud = make.point_cloud(stamp_ns, frame, measurement)
            put(topic, "sensor_msgs/msg/PointCloud2", cloud)
        elif sensor.type == "sensor.other.imu":
            put(topic, "sensor_msgs/msg/Imu", make.imu(stamp_ns, frame, measurement))
        elif sensor.type == "sensor.other.gnss":
            fix = make.nav_sat_fix(stamp_ns, frame, measurement)
            put(topic, "sensor_msgs/msg/NavSatFix", fix)


class _Putter:
    """Writes messages of one stamp."""

    def __init__(self, writer: BagWriter, stamp_ns: int) -> None:
        self._writer, self._stamp_ns = writer, stamp_ns

    def __call__(self, topic: str, type_name: str, message: Any, *, latched: bool = False) -> None:
        """Write ``message``, or what it returns if it is a function: its type may be unknown."""
        if callable(message):
            if not self._writer.knows(type_name):
                return
            message = message()
        self._writer.write(topic, type_name, message, self._stamp_ns, latched=latched)

    def markers(self, topic: str, message: Any, *, latched: bool = False) -> None:
        """Write a MarkerArray."""
        self(topic, "visualization_msgs/msg/MarkerArray", message, latched=latched)


def _new_folder(parent: Path, name: str) -> Path:
    """A path that does not exist yet. A bag without metadata is the rest of a crash: replaced."""
    path, number = parent / name, 1
    while path.exists():
        if not (path / "metadata.yaml").exists():
            shutil.rmtree(path)
            break
        number += 1
        path = parent / f"{name}_{number}"
    return path
