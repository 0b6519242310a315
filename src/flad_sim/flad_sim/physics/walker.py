# SPDX-License-Identifier: Apache-2.0
"""A pedestrian that a client moves by WalkerControl: kinematic, on the ground, can be knocked."""

from __future__ import annotations

import math
from dataclasses import dataclass

from flad_sim.catalogue import WalkerSpec
from flad_sim.physics.checks import finite, positive, vector, within
from flad_sim.physics.ground import Surface
from flad_sim.types import Pose, Transform, Vec3

_GRAVITY = 9.81
_MAX_SPEED_MPS = 12.0  # faster than anyone runs
_SLIDING_MPS2 = 5.0  # how a knocked body comes to rest
_STEP_UP_M = 0.5


@dataclass(frozen=True, slots=True)
class WalkerControl:
    """CARLA's WalkerControl, in the order of the wire; ``jump`` is kept but nobody jumps here."""

    direction: Vec3 = (1.0, 0.0, 0.0)
    speed: float = 0.0  # m/s
    jump: bool = False


class WalkerBody:
    """One pedestrian. Its origin is the middle of the body, as in CARLA."""

    def __init__(self, spec: WalkerSpec, transform: Transform) -> None:
        self.spec = spec
        self.collides = True
        self.simulated = True
        self._gravity = True
        self._transform = transform
        self._control = WalkerControl()
        self._velocity: Vec3 = (0.0, 0.0, 0.0)
        self._acceleration: Vec3 = (0.0, 0.0, 0.0)
        self._knocked = (0.0, 0.0)  # m/s, left of a hit
        self._yaw_rate_degps = 0.0
        self.set_transform(transform)

    def step(self, dt_s: float, surface: Surface) -> None:
        """Walk for ``dt_s`` and stand on ``surface(x, y)``; None keeps the height."""
        positive("dt_s", dt_s)
        if not self.simulated:
            self._velocity = self._acceleration = (0.0, 0.0, 0.0)
            return
        c, t = self._control, self._transform
        length = math.hypot(c.direction[0], c.direction[1])
        walks = c.speed > 0.0 and length > 1e-6
        vx = c.speed * c.direction[0] / length if walks else 0.0
        vy = c.speed * c.direction[1] / length if walks else 0.0
        yaw = math.degrees(math.atan2(vy, vx)) if walks else t.yaw
        vx, vy = vx + self._knocked[0], vy + self._knocked[1]
        self._slow_down(dt_s)
        x, y = t.x + vx * dt_s, t.y + vy * dt_s
        z, vz = self._height(surface(x, y), t.z, dt_s)
        old = self._velocity
        self._velocity = (vx, vy, vz)
        self._acceleration = (
            (vx - old[0]) / dt_s,
            (vy - old[1]) / dt_s,
            (vz - old[2]) / dt_s,
        )
        self._yaw_rate_degps = math.remainder(yaw - t.yaw, 360.0) / dt_s
        self._transform = Transform(x, y, z, 0.0, yaw, 0.0)

    @property
    def pose(self) -> Pose:
        """Transform and velocities, as the snapshot reports them."""
        return Pose(
            transform=self._transform,
            velocity=self._velocity,
            angular_velocity=(0.0, 0.0, self._yaw_rate_degps),
            acceleration=self._acceleration,
        )

    @property
    def control(self) -> WalkerControl:
        """The control in force."""
        return self._control

    @control.setter
    def control(self, control: WalkerControl) -> None:
        self.apply_control(control)

    def apply_control(self, control: WalkerControl) -> None:
        """Walk so from the next step on; the speed is clamped to 12 m/s."""
        self._control = WalkerControl(
            direction=vector("walker_control.direction", control.direction),
            speed=within("walker_control.speed", control.speed, 0.0, _MAX_SPEED_MPS),
            jump=bool(control.jump),
        )

    def set_transform(self, transform: Transform) -> None:
        """Put it somewhere else, upright."""
        for name in ("x", "y", "z", "pitch", "yaw", "roll"):
            finite(f"transform.{name}", getattr(transform, name))
        self._transform = transform

    def set_location(self, location: Vec3) -> None:
        """Put it somewhere else with its present rotation."""
        x, y, z = vector("location", location)
        self.set_transform(self._transform.moved(x=x, y=y, z=z))

    def set_target_velocity(self, velocity: Vec3) -> None:
        """Give it a velocity that dies away, m/s in the world."""
        vx, vy, _ = vector("velocity", velocity)
        self._knocked = (vx, vy)

    def add_impulse(self, impulse_ns: Vec3) -> None:
        """Kick it: N s in the world."""
        ix, iy, _ = vector("impulse", impulse_ns)
        self.push((ix, iy), (0.0, 0.0))

    def set_simulate_physics(self, enabled: bool) -> None:
        """False: it stays where it is put."""
        self.simulated = bool(enabled)

    def set_enable_gravity(self, enabled: bool) -> None:
        """False: it keeps its height."""
        self._gravity = bool(enabled)

    # --- for contacts ---------------------------------------------------------------------------

    @property
    def mass_kg(self) -> float:
        """Mass."""
        return self.spec.mass_kg

    @property
    def yaw_inertia_kgm2(self) -> float:
        """Infinite: a person who is hit is moved, not spun."""
        return math.inf

    @property
    def planar_motion(self) -> tuple[float, float, float, float, float]:
        """``(x, y, vx, vy, yaw_rate)``, m, m/s, rad/s."""
        t, v = self._transform, self._velocity
        return (t.x, t.y, v[0], v[1], 0.0)

    def push(self, impulse_ns: tuple[float, float], point: tuple[float, float]) -> None:
        """Contact impulse in N s; the point does not matter, a person is not spun."""
        dvx, dvy = impulse_ns[0] / self.mass_kg, impulse_ns[1] / self.mass_kg
        self._knocked = (self._knocked[0] + dvx, self._knocked[1] + dvy)
        self._velocity = (self._velocity[0] + dvx, self._velocity[1] + dvy, self._velocity[2])

    def shift(self, dx: float, dy: float) -> None:
        """Move it out of another body, metres in the world."""
        self._transform = self._transform.moved(x=self._transform.x + dx, y=self._transform.y + dy)

    # --- helpers --------------------------------------------------------------------------------

    def _slow_down(self, dt_s: float) -> None:
        speed = math.hypot(*self._knocked)
        left = max(0.0, speed - _SLIDING_MPS2 * dt_s) / speed if speed > 0.0 else 0.0
        self._knocked = (self._knocked[0] * left, self._knocked[1] * left)

    def _height(self, ground: float | None, z: float, dt_s: float) -> tuple[float, float]:
        if ground is None or not self._gravity:
            return z, 0.0
        stand = ground + self.spec.origin_height_m
        if z <= stand + _STEP_UP_M:
            return stand, 0.0
        vz = min(0.0, self._velocity[2]) - _GRAVITY * dt_s
        return max(stand, z + vz * dt_s), vz
