# SPDX-License-Identifier: Apache-2.0
"""The only ticking client: town, ego vehicles, their sensors, and one step after the other.

Works on CARLA 0.9.16 and on flad_sim alike. Who publishes what a tick brings is in
``bridge_node.py``; waiting for sensors is in ``sensor_gate.py``, loading towns in
``session_world.py``.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import carla

from flad_carla.rig import Rig, SensorSpec
from flad_carla.sensor_gate import SensorGate, SensorSlot
from flad_carla.session_errors import ServerUnreachable, SessionError, SpawnError, carla_errors
from flad_carla.session_world import (
    carla_transform,
    find_blueprint,
    load_named,
    load_opendrive,
)
from flad_common.config import knob
from flad_common.periods import is_due

_log = logging.getLogger(__name__)

DEFAULT_BLUEPRINT = "vehicle.lincoln.mkz_2020"


@dataclass(frozen=True, kw_only=True)
class SessionConfig:
    """Where the simulator is and how it steps."""

    host: str = knob("127.0.0.1", unit="", doc="Address of the simulator.")
    port: int = knob(2000, unit="", doc="Its RPC port.")
    timeout_s: float = knob(60.0, unit="s", doc="Longest wait for one answer.")
    load_timeout_s: float = knob(300.0, unit="s", doc="Longest wait for a town to load.")
    connect_wait_s: float = knob(20.0, unit="s", doc="Longest wait for the simulator to be up.")
    sensor_deadline_s: float = knob(60.0, unit="s", doc="Longest wait for a frame's sensors.")
    fixed_delta_s: float = knob(0.05, unit="s", doc="Simulated time of one step.")
    traffic_manager_port: int = knob(8000, unit="", doc="Port of TrafficManager, for autopilot.")
    seed: int = knob(0, unit="", doc="Seed of TrafficManager.")

    def __post_init__(self) -> None:
        if not 0 < self.port < 65535:
            raise ValueError(f"port must be in 1..65534, got {self.port}")
        if not 0.0 < self.fixed_delta_s <= 0.1:
            raise ValueError(
                f"fixed_delta_s must be in (0, 0.1], got {self.fixed_delta_s}: CARLA's physics "
                "needs at least 10 steps a second"
            )
        for name in ("timeout_s", "load_timeout_s", "connect_wait_s", "sensor_deadline_s"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")

    @property
    def address(self) -> str:
        """``host:port``, for messages."""
        return f"{self.host}:{self.port}"


@dataclass
class Ego:
    """A vehicle of ours and its sensors."""

    role: str
    actor: Any  # carla.Vehicle
    rig: Rig
    blueprint: str
    sensors: dict[str, Any] = field(default_factory=dict)  # carla.Sensor by id
    slots: dict[str, SensorSlot] = field(default_factory=dict)
    autopilot: bool = False


@dataclass(frozen=True, kw_only=True)
class SensorEvent:
    """Something that happened to a vehicle: a collision, a crossed line. See ``data.frame``."""

    role: str
    sensor_id: str
    data: Any


@dataclass(frozen=True, kw_only=True)
class Tick:
    """One step of the world."""

    frame: int
    sim_time_s: float
    snapshot: Any  # carla.WorldSnapshot
    data: dict[str, dict[str, Any]]  # role -> sensor id -> carla.SensorData of this frame
    events: tuple[SensorEvent, ...] = ()

    @property
    def stamp_ns(self) -> int:
        """Simulated time in nanoseconds, the stamp of everything made from this step."""
        return round(self.sim_time_s * 1e9)


class CarlaSession:
    """Owns the world while it lives. Single-threaded; the client's threads only fill queues."""

    def __init__(self, config: SessionConfig) -> None:
        self.config = config
        self.egos: dict[str, Ego] = {}
        self._gate = SensorGate(config.sensor_deadline_s)
        self._traffic_manager: Any = None
        self._client = self._connect()
        with carla_errors("joining the world", config.address):
            self._world = self._client.get_world()
            self._original_settings = self._world.get_settings()
        self._map: Any = None
        self._closed = False

    def __enter__(self) -> CarlaSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def client(self) -> Any:
        """The ``carla.Client``."""
        return self._client

    @property
    def world(self) -> Any:
        """The ``carla.World``; another one after every :meth:`load_town`."""
        return self._world

    @property
    def map(self) -> Any:
        """The ``carla.Map``, fetched once per town."""
        if self._map is None:
            with carla_errors("reading the map", self.config.address):
                self._map = self._world.get_map()
        return self._map

    def load_town(self, town: str | Path) -> None:
        """Load a town afresh, by the simulator's name or from an OpenDRIVE file, and go in step.

        Every load starts a new episode: our vehicles are gone afterwards, traffic starts anew.

        Raises:
            TownError: if there is no such town or file, or it does not load.
        """
        self.destroy_egos()
        self._map = None
        path = Path(town)
        self.go_synchronous()  # before the load: not one step of the new episode may run free
        self._client.set_timeout(self.config.load_timeout_s)
        try:
            if path.suffix == ".xodr":
                self._world = load_opendrive(self._client, path, self.config.address)
            else:
                self._world = load_named(self._client, str(town), self.config.address)
        finally:
            self._client.set_timeout(self.config.timeout_s)
        self.go_synchronous()

    def go_synchronous(self) -> None:
        """Take the clock: from here on the world steps when :meth:`tick` says so."""
        with carla_errors("entering synchronous mode", self.config.address):
            settings = self._world.get_settings()
            settings.synchronous_mode = True
            settings.fixed_delta_seconds = self.config.fixed_delta_s
            self._world.apply_settings(settings)

    def spawn_ego(
        self,
        role: str,
        transform: Any,
        rig: Rig,
        blueprint: str = DEFAULT_BLUEPRINT,
    ) -> Ego:
        """Place a vehicle with its sensors. Its pose is valid from the next :meth:`tick` on.

        Raises:
            SpawnError: if the blueprint is unknown, the place is taken, or a sensor is refused.
            ValueError: if the role is taken or the rig does not fit the step.
        """
        if role in self.egos:
            raise ValueError(f"there is already a vehicle {role!r}; roles are {list(self.egos)}")
        rig.check_rate(self.config.fixed_delta_s)
        library = self._library()
        description = find_blueprint(library, blueprint)
        description.set_attribute("role_name", role)
        with carla_errors(f"spawning {role}", self.config.address):
            actor = self._world.try_spawn_actor(description, transform)
        if actor is None:
            place = transform.location
            raise SpawnError(
                f"{role}: no room for {blueprint} at x={place.x:.1f} y={place.y:.1f} "
                f"z={place.z:.1f}; something stands there, or it is inside the ground"
            )
        ego = Ego(role=role, actor=actor, rig=rig, blueprint=blueprint)
        self.egos[role] = ego
        try:
            for spec in rig.sensors:
                self._attach(ego, spec, library)
        except BaseException:
            self.destroy_ego(role)
            raise
        return ego

    def tick(self) -> Tick:
        """Advance the world by one step and wait for what it brings.

        Raises:
            ServerTimeout: if the simulator does not answer.
            SensorTimeout: if a due sensor does not deliver; it names them.
        """
        with carla_errors("tick", self.config.address):
            frame = self._world.tick(self.config.timeout_s)
            snapshot = self._world.get_snapshot()
        if snapshot.frame != frame:
            raise SessionError(
                f"asked for frame {frame} and saw {snapshot.frame}: another client ticks this "
                "world; only one may"
            )
        now_s = snapshot.timestamp.elapsed_seconds
        slots = [slot for ego in self.egos.values() for slot in ego.slots.values()]
        gathered = self._gate.gather(slots, frame, now_s)
        data: dict[str, dict[str, Any]] = {role: {} for role in self.egos}
        for name, measurement in gathered.data.items():
            role, sensor_id = name.split("/", 1)
            data[role][sensor_id] = measurement
        events = tuple(
            SensorEvent(role=name.split("/", 1)[0], sensor_id=name.split("/", 1)[1], data=event)
            for name, event in gathered.events
        )
        return Tick(frame=frame, sim_time_s=now_s, snapshot=snapshot, data=data, events=events)

    def meet_rhythm(self, period_s: float) -> None:
        """Step until the next step's time is a multiple of ``period_s``; 0: not at all.

        A camera slower than a step begins with the first one that it sees, and keeps that rhythm:
        encoders and planners answer multiples of their periods.
        """
        step_s = self.config.fixed_delta_s
        for _ in range(round(period_s / step_s)):
            if is_due(self.tick().stamp_ns + round(step_s * 1e9), period_s):
                return

    def apply_control(self, role: str, control: Any) -> None:
        """Give a ``carla.VehicleControl`` to a vehicle; it acts in the next step."""
        self.egos[role].actor.apply_control(control)

    def apply_ackermann(self, role: str, control: Any) -> None:
        """Give a ``carla.VehicleAckermannControl`` to a vehicle."""
        self.egos[role].actor.apply_ackermann_control(control)

    def set_autopilot(self, role: str, enabled: bool) -> None:
        """Let TrafficManager drive a vehicle, in step with us; or take it back."""
        with carla_errors("autopilot", self.config.address):
            if self._traffic_manager is None:
                port = self.config.traffic_manager_port
                self._traffic_manager = self._client.get_trafficmanager(port)
                self._traffic_manager.set_synchronous_mode(True)
                self._traffic_manager.set_random_device_seed(self.config.seed)
            self.egos[role].actor.set_autopilot(enabled, self.config.traffic_manager_port)
        self.egos[role].autopilot = enabled

    def destroy_ego(self, role: str) -> None:
        """Remove a vehicle and its sensors, sensors first."""
        if self.egos[role].autopilot:
            self._leave_traffic_manager()
        ego = self.egos.pop(role)
        for sensor in reversed(ego.sensors.values()):
            _quietly(f"removing a sensor of {role}", partial(_remove_sensor, sensor))
        _quietly(f"removing {role}", ego.actor.destroy)

    def destroy_egos(self) -> None:
        """Remove every vehicle of ours."""
        for role in list(self.egos):
            self.destroy_ego(role)

    def close(self) -> None:
        """Remove what is ours and give the world its settings back. May be called twice."""
        if self._closed:
            return
        self._closed = True
        if self._is_answered(1.0):
            self._client.set_timeout(min(10.0, self.config.timeout_s))
            self._leave_traffic_manager()
            self.destroy_egos()
            world, settings = self._world, self._original_settings
            _quietly("restoring the settings", lambda: world.apply_settings(settings))
        else:  # a dead simulator must not cost a timeout for every actor
            _log.warning("the simulator at %s is gone; nothing to clean up", self.config.address)
            for ego in self.egos.values():
                for sensor in ego.sensors.values():
                    _quietly("stopping a sensor", sensor.stop)
            self.egos.clear()
        # The client aborts the process when it is torn down at exit while its threads still run.
        self._traffic_manager = self._map = self._world = self._client = None
        gc.collect()
        time.sleep(0.2)

    def _leave_traffic_manager(self) -> None:
        """End it before its vehicles go: it aborts the process over one that is destroyed."""
        if self._traffic_manager is None:
            return
        manager, world = self._traffic_manager, self._world
        for role, ego in self.egos.items():
            if ego.autopilot:
                _quietly("autopilot", partial(self.set_autopilot, role, False))
        _quietly("a last step", lambda: world.tick(10.0))
        _quietly("TrafficManager", manager.shut_down)
        self._traffic_manager = None

    def _is_answered(self, timeout_s: float) -> bool:
        try:
            self._client.set_timeout(timeout_s)
            self._client.get_server_version()
        except RuntimeError:
            return False
        return True

    def _connect(self) -> Any:
        """A client that has been answered; one made before the server listens never connects."""
        end_s = time.monotonic() + self.config.connect_wait_s
        while True:
            client = carla.Client(self.config.host, self.config.port)
            client.set_timeout(min(2.0, self.config.connect_wait_s))
            try:
                version = client.get_server_version()
                break
            except RuntimeError as error:
                if time.monotonic() > end_s:
                    raise ServerUnreachable(
                        f"no simulator at {self.config.address} after "
                        f"{self.config.connect_wait_s:g} s; start one with './flad sim --port "
                        f"{self.config.port}', or CARLA 0.9.16 ({error})"
                    ) from error
        client.set_timeout(self.config.timeout_s)
        if version != client.get_client_version():
            _log.warning(
                "the simulator at %s is version %s, this client %s; some calls may differ",
                self.config.address,
                version,
                client.get_client_version(),
            )
        return client

    def _library(self) -> Any:
        with carla_errors("reading the blueprints", self.config.address):
            return self._world.get_blueprint_library()

    def _attach(self, ego: Ego, spec: SensorSpec, library: Any) -> None:
        blueprint = find_blueprint(library, spec.type)
        for key, text in spec.carla_attributes().items():
            if not blueprint.has_attribute(key):
                raise SpawnError(
                    f"{ego.role}/{spec.id}: {spec.type} has no attribute {key!r}; it has "
                    f"{sorted(a.id for a in blueprint)}"
                )
            blueprint.set_attribute(key, text)
        with carla_errors(f"attaching {ego.role}/{spec.id}", self.config.address):
            sensor = self._world.spawn_actor(blueprint, carla_transform(spec), attach_to=ego.actor)
        slot = SensorSlot(f"{ego.role}/{spec.id}", tick_s=spec.tick_s, is_event=spec.is_event)
        if slot.tick_s <= self.config.fixed_delta_s + 1e-6:
            slot.tick_s = 0.0
        ego.sensors[spec.id] = sensor
        ego.slots[spec.id] = slot
        sensor.listen(slot.put)


def _remove_sensor(sensor: Any) -> None:
    if sensor.is_listening():
        sensor.stop()
    sensor.destroy()


def _quietly(what: str, action: Callable[[], object]) -> None:
    """Clean up as far as it goes: the simulator may be gone already."""
    try:
        action()
    except (RuntimeError, SessionError) as error:
        _log.warning("%s: %s", what, error)
