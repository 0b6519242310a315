# SPDX-License-Identifier: Apache-2.0
"""The actors of an episode: what each kind knows of itself and its row of the snapshot.

The registry and the order in which they are stepped are in ``flad_sim.world``; how vehicles and
walkers move is in ``flad_sim.physics`` and ``flad_sim.traffic``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flad_sim.protocol.snapshot import (
    ACTIVE,
    LIGHT_HEAD,
    LIGHT_TAIL,
    PLAIN_ROW,
    SIGN_ROW,
    VEHICLE_ROW,
    WALKER_ROW,
)
from flad_sim.types import (
    BoundingBox,
    LightState,
    LightStatus,
    MovingActor,
    Pose,
    Signal,
    Transform,
    VehicleControl,
)

if TYPE_CHECKING:
    from flad_sim.blueprints import Blueprint
    from flad_sim.physics.vehicle import VehicleBody
    from flad_sim.physics.walker import WalkerBody

_EPSILON_S = 1e-6
_AT_REST = Pose(Transform())
_NO_CONTROL = VehicleControl()


@dataclass(slots=True, eq=False, kw_only=True)
class Actor:
    """A thing with an id that only moves when it is told to: spectator, controller."""

    actor_id: int
    blueprint: Blueprint
    attributes: dict[str, str]
    box: BoundingBox = field(default_factory=BoundingBox)
    pose: Pose = _AT_REST
    parent_id: int = 0
    mount: Transform | None = None  # relative to the parent
    _packed_pose: Pose | None = None  # what ``_packed`` was made from
    _packed: bytes = b""

    def row(self) -> bytes:
        """The actor's 119 bytes of the snapshot."""
        if self._packed_pose is not self.pose:  # most of a town never moves
            self._packed = PLAIN_ROW.pack(self.actor_id, ACTIVE, *_motion(self.pose))
            self._packed_pose = self.pose
        return self._packed


@dataclass(slots=True, eq=False, kw_only=True)
class Prop(Actor):
    """A solid thing that stands where it was put."""


@dataclass(slots=True, eq=False, kw_only=True)
class Sensor(Actor):
    """A sensor; one with ``stream_id`` 0 is computed in the client (lane invasion)."""

    stream_id: int = 0
    sensor_type: int = -1
    period_s: float = 0.0
    next_due_s: float | None = None

    def due(self, elapsed_s: float) -> bool:
        """Whether it measures now; asking a due one arms the next, ``period_s`` later."""
        if self.period_s <= 0.0:
            return True
        if self.next_due_s is None:  # its first frame is its first measurement
            self.next_due_s = elapsed_s
        if elapsed_s < self.next_due_s - _EPSILON_S:
            return False
        self.next_due_s += self.period_s
        if self.next_due_s <= elapsed_s + _EPSILON_S:  # shorter than a frame: every frame
            self.next_due_s = elapsed_s
        return True


@dataclass(slots=True, eq=False, kw_only=True)
class Vehicle(Actor):
    """What every vehicle has, whoever drives it."""

    lights: int = 0  # CARLA's VehicleLightState mask
    speed_limit_kmh: float = 30.0
    light_id: int = 0  # traffic light in whose trigger box it stands, 0 none
    light_state: LightState = LightState.GREEN

    @property
    def control(self) -> VehicleControl:
        """What its driver does now."""
        return _NO_CONTROL

    @property
    def failure_state(self) -> int:
        """CARLA's VehicleFailureState."""
        return 0

    def row(self) -> bytes:
        """The actor's 119 bytes of the snapshot."""
        c = self.control
        return VEHICLE_ROW.pack(
            self.actor_id,
            ACTIVE,
            *_motion(self.pose),
            c.throttle,
            c.steer,
            c.brake,
            c.hand_brake,
            c.reverse,
            c.manual_gear_shift,
            c.gear,
            self.speed_limit_kmh,
            self.light_state,
            self.light_id != 0,
            self.light_id,
            self.failure_state,
        )


@dataclass(slots=True, eq=False, kw_only=True)
class ClientVehicle(Vehicle):
    """A vehicle that a client drives: its body is integrated here."""

    body: VehicleBody

    @property
    def control(self) -> VehicleControl:
        """What its driver does now."""
        return self.body.control

    @property
    def failure_state(self) -> int:
        """CARLA's VehicleFailureState."""
        return self.body.failure_state


@dataclass(slots=True, eq=False, kw_only=True)
class TrafficVehicle(Vehicle):
    """A vehicle that the traffic simulation moves."""

    mover: MovingActor

    @property
    def control(self) -> VehicleControl:
        """Pedals are not simulated there: what shows is whether the brake lights are on."""
        return _BRAKING if self.mover.brake_light else _NO_CONTROL


_BRAKING = VehicleControl(brake=0.5)


@dataclass(slots=True, eq=False, kw_only=True)
class ClientWalker(Actor):
    """A pedestrian that a client moves by WalkerControl."""

    body: WalkerBody

    def row(self) -> bytes:
        """The actor's 119 bytes of the snapshot."""
        c = self.body.control
        return WALKER_ROW.pack(
            self.actor_id, ACTIVE, *_motion(self.pose), *c.direction, c.speed, c.jump
        )


@dataclass(slots=True, eq=False, kw_only=True)
class TrafficWalker(Actor):
    """A pedestrian that the traffic simulation moves."""

    mover: MovingActor

    def row(self) -> bytes:
        """The actor's 119 bytes of the snapshot."""
        forward = self.pose.transform.forward()
        return WALKER_ROW.pack(
            self.actor_id, ACTIVE, *_motion(self.pose), *forward, self.mover.walk_speed, 0
        )


@dataclass(slots=True, eq=False, kw_only=True)
class TrafficLight(Actor):
    """A traffic light; its box is the trigger volume, in its own frame."""

    signal: Signal
    status: LightStatus
    pole_index: int = 0

    def row(self) -> bytes:
        """The actor's 119 bytes of the snapshot."""
        if self._packed_pose is not self.pose:
            head = LIGHT_HEAD.pack(
                self.actor_id, ACTIVE, *_motion(self.pose), _sign_id(self.signal)
            )
            self._packed, self._packed_pose = head, self.pose
        s = self.status
        return self._packed + LIGHT_TAIL.pack(
            s.green_time,
            s.yellow_time,
            s.red_time,
            s.elapsed,
            self.pole_index,
            s.frozen,
            s.state,
        )


@dataclass(slots=True, eq=False, kw_only=True)
class TrafficSign(Actor):
    """A stop, yield or speed limit sign; its box is the trigger volume, in its own frame."""

    signal: Signal

    def row(self) -> bytes:
        """The actor's 119 bytes of the snapshot."""
        if self._packed_pose is not self.pose:
            self._packed = SIGN_ROW.pack(
                self.actor_id, ACTIVE, *_motion(self.pose), _sign_id(self.signal)
            )
            self._packed_pose = self.pose
        return self._packed


def _motion(pose: Pose) -> tuple[float, ...]:
    t = pose.transform
    return (
        t.x,
        t.y,
        t.z,
        t.pitch,
        t.yaw,
        t.roll,
        *pose.velocity,
        *pose.angular_velocity,
        *pose.acceleration,
    )


def _sign_id(signal: Signal) -> bytes:
    return signal.signal_id.encode()[:31]
