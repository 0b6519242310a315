# SPDX-License-Identifier: Apache-2.0
"""A vehicle that a client drives: CARLA's semantics around the equations of ``dynamics``.

Single-threaded: the world's thread owns it. What a client sends is refused with ValueError when it
is not finite; what is merely out of range is clamped, as CARLA does.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from flad_sim.catalogue import VehicleSpec
from flad_sim.physics import dynamics as k
from flad_sim.physics.ackermann import AckermannControl, AckermannController, AckermannSettings
from flad_sim.physics.checks import finite, positive, vector, within
from flad_sim.physics.ground import Footing, Surface
from flad_sim.physics.parameters import VehiclePhysics, default_physics, pack
from flad_sim.physics.telemetry import Telemetry, read_telemetry
from flad_sim.types import Pose, Transform, Vec3, VehicleControl

_MAX_SPEED_MPS = 150.0  # whatever a client's impulse says; keeps a body inside the world
_MAX_YAW_RATE_RADPS = 20.0


class VehicleBody:
    """One vehicle's motion. ``step`` advances it, everything else is what a client may do to it.

    Args:
        spec: the blueprint.
        transform: where it is put; it falls from there onto the surface.
        sticky_control: the blueprint's attribute: false makes a control last one step only.
    """

    def __init__(
        self, spec: VehicleSpec, transform: Transform, *, sticky_control: bool = True
    ) -> None:
        self.spec = spec
        self.collides = True
        self.simulated = True
        self._sticky = sticky_control
        self._physics = default_physics(spec)
        self._params = pack(self._physics, spec)
        self._state = np.zeros(k.NUM_STATE)
        self._state[k.GEAR] = 1.0
        self._inputs = np.zeros(k.NUM_INPUT)
        self._force = [0.0, 0.0, 0.0]
        self._torque_z = 0.0
        self._control = VehicleControl()
        self._ackermann = AckermannController(AckermannSettings())
        self._uses_ackermann = False
        self._gravity = True
        self._constant_velocity: Vec3 | None = None
        self._footing = Footing(transform.z)
        self._acceleration: Vec3 = (0.0, 0.0, 0.0)
        self.set_transform(transform)

    # --- what it does ---------------------------------------------------------------------------

    def step(self, dt_s: float, surface: Surface) -> None:
        """Advance by ``dt_s`` over ``surface(x, y)``, the road's height or None where unknown."""
        positive("dt_s", dt_s)
        before = self.velocity
        if self.simulated:
            self._move(dt_s)
            self._stand(dt_s, surface)
        self._force[:] = (0.0, 0.0, 0.0)
        self._torque_z = 0.0
        after = self.velocity
        self._acceleration = (
            (after[0] - before[0]) / dt_s,
            (after[1] - before[1]) / dt_s,
            (after[2] - before[2]) / dt_s,
        )
        if not self._sticky:
            self._control = VehicleControl()

    def _move(self, dt_s: float) -> None:
        s = self._state
        if self._uses_ackermann:
            forward, accel = self._along()
            self._control = self._ackermann.step(forward, accel, self._lock_rad(), dt_s)
        c, u = self._control, self._inputs
        u[: k.IN_FX] = (
            c.throttle,
            c.brake,
            c.steer,
            c.hand_brake,
            c.reverse,
            c.manual_gear_shift,
            c.gear,
        )
        u[k.IN_FX], u[k.IN_FY], u[k.IN_TORQUE] = self._force[0], self._force[1], self._torque_z
        u[k.IN_PITCH] = math.radians(self._footing.pitch)
        u[k.IN_ROLL] = math.radians(self._footing.roll)
        u[k.IN_GROUNDED] = self._footing.grounded
        if self._constant_velocity is not None:
            self._cruise(dt_s)
            return
        k.advance(s, self._params, u, dt_s)
        self._limit()

    def _cruise(self, dt_s: float) -> None:
        """Constant velocity in the vehicle's own frame; the wheels still turn it."""
        assert self._constant_velocity is not None
        s, p = self._state, self._params
        vx, vy, _ = self._constant_velocity
        s[k.STEER] = self._control.steer
        s[k.VX], s[k.VY] = vx, vy  # only their length counts for the lock
        base = p[k.FRONT_ARM] + p[k.REAR_ARM]
        s[k.YAW_RATE] = vx * math.tan(k.steer_angle(s, p)) / base
        mid = s[k.YAW] + 0.5 * s[k.YAW_RATE] * dt_s
        s[k.X] += (vx * math.cos(mid) - vy * math.sin(mid)) * dt_s
        s[k.Y] += (vx * math.sin(mid) + vy * math.cos(mid)) * dt_s
        s[k.YAW] += s[k.YAW_RATE] * dt_s
        c, sn = math.cos(s[k.YAW]), math.sin(s[k.YAW])
        s[k.VX], s[k.VY] = vx * c - vy * sn, vx * sn + vy * c

    def _stand(self, dt_s: float, surface: Surface) -> None:
        s = self._state
        self._footing.vz += self._force[2] / self._params[k.MASS] * dt_s
        x, y = self._origin()
        speed = math.hypot(s[k.VX], s[k.VY])
        self._footing.settle(surface, self.spec, x, y, float(s[k.YAW]), speed, dt_s, self._gravity)

    def _limit(self) -> None:
        s = self._state
        speed = math.hypot(s[k.VX], s[k.VY])
        if speed > _MAX_SPEED_MPS:
            s[k.VX] *= _MAX_SPEED_MPS / speed
            s[k.VY] *= _MAX_SPEED_MPS / speed
        s[k.YAW_RATE] = max(-_MAX_YAW_RATE_RADPS, min(_MAX_YAW_RATE_RADPS, s[k.YAW_RATE]))

    # --- how it is ------------------------------------------------------------------------------

    @property
    def pose(self) -> Pose:
        """Transform of the origin and its velocities, as the snapshot reports them."""
        x, y = self._origin()
        yaw = math.degrees(math.remainder(self._state[k.YAW], math.tau))
        foot = self._footing
        return Pose(
            transform=Transform(x, y, foot.z, foot.pitch, yaw, foot.roll),
            velocity=self.velocity,
            angular_velocity=(0.0, 0.0, math.degrees(self._state[k.YAW_RATE])),
            acceleration=self._acceleration,
        )

    @property
    def velocity(self) -> Vec3:
        """Velocity of the origin in the world, m/s."""
        s, cg = self._state, self._params[k.CG_X]
        r, yaw = s[k.YAW_RATE], s[k.YAW]
        vx = s[k.VX] + r * cg * math.sin(yaw)
        vy = s[k.VY] - r * cg * math.cos(yaw)
        return (float(vx), float(vy), self._footing.vz)

    @property
    def control(self) -> VehicleControl:
        """The control in force, with the gear that is really in."""
        return replace(self._control, gear=int(self._state[k.GEAR]))

    @control.setter
    def control(self, control: VehicleControl) -> None:
        self.apply_control(control)

    @property
    def wheel_steer_deg(self) -> float:
        """Angle of the front wheels, right positive."""
        return math.degrees(k.steer_angle(self._state, self._params))

    @property
    def failure_state(self) -> int:
        """CARLA's VehicleFailureState: 0 none, 1 rolled over. Engines and tyres do not fail."""
        return 1 if abs(self._footing.roll) > 90.0 else 0

    @property
    def mass_kg(self) -> float:
        """Mass now: the blueprint's, or what a client applied."""
        return float(self._params[k.MASS])

    @property
    def yaw_inertia_kgm2(self) -> float:
        """Inertia about the vertical."""
        return float(self._params[k.YAW_INERTIA])

    @property
    def telemetry(self) -> Telemetry:
        """What CARLA's ``get_telemetry_data`` tells."""
        speed = self._along()[0]
        return read_telemetry(self._state, self._params, self._physics.wheels, self._control, speed)

    # --- what a client does to it ---------------------------------------------------------------

    def apply_control(self, control: VehicleControl) -> None:
        """Drive by pedals from the next step on; out-of-range values are clamped."""
        self._control = VehicleControl(
            throttle=within("control.throttle", control.throttle, 0.0, 1.0),
            steer=within("control.steer", control.steer, -1.0, 1.0),
            brake=within("control.brake", control.brake, 0.0, 1.0),
            hand_brake=bool(control.hand_brake),
            reverse=bool(control.reverse),
            manual_gear_shift=bool(control.manual_gear_shift),
            gear=int(control.gear),
        )
        self._uses_ackermann = False

    def apply_ackermann(self, control: AckermannControl) -> None:
        """Drive by speed and steering angle from the next step on."""
        if not self._uses_ackermann:
            self._ackermann.reset()
        self._ackermann.target = control
        self._uses_ackermann = True

    @property
    def ackermann_settings(self) -> AckermannSettings:
        """Gains of the Ackermann controller."""
        return self._ackermann.settings

    @ackermann_settings.setter
    def ackermann_settings(self, settings: AckermannSettings) -> None:
        self._ackermann.settings = settings
        self._ackermann.reset()

    def set_transform(self, transform: Transform) -> None:
        """Put it somewhere else; velocity is kept, as in CARLA."""
        for name in ("x", "y", "z", "pitch", "yaw", "roll"):
            finite(f"transform.{name}", getattr(transform, name))
        s, cg = self._state, self._params[k.CG_X]
        yaw = math.radians(transform.yaw)
        s[k.X], s[k.Y] = transform.x + cg * math.cos(yaw), transform.y + cg * math.sin(yaw)
        s[k.YAW] = yaw
        foot = self._footing
        foot.z, foot.pitch, foot.roll, foot.vz = transform.z, transform.pitch, transform.roll, 0.0

    def set_location(self, location: Vec3) -> None:
        """Put it somewhere else with its present rotation."""
        x, y, z = vector("location", location)
        self.set_transform(self.pose.transform.moved(x=x, y=y, z=z))

    def set_target_velocity(self, velocity: Vec3) -> None:
        """Give it this velocity now, m/s in the world; physics goes on from there."""
        vx, vy, vz = vector("velocity", velocity)
        s, cg = self._state, self._params[k.CG_X]
        r, yaw = s[k.YAW_RATE], s[k.YAW]
        s[k.VX], s[k.VY] = vx - r * cg * math.sin(yaw), vy + r * cg * math.cos(yaw)
        self._footing.vz = vz
        self._limit()

    def set_target_angular_velocity(self, angular_velocity_degps: Vec3) -> None:
        """Give it this yaw rate now (z, deg/s); x and y are not simulated."""
        _, _, z = vector("angular_velocity", angular_velocity_degps)
        self._state[k.YAW_RATE] = math.radians(z)
        self._limit()

    def enable_constant_velocity(self, velocity: Vec3) -> None:
        """Hold this velocity, in the vehicle's own frame, against everything."""
        self._constant_velocity = vector("velocity", velocity)

    def disable_constant_velocity(self) -> None:
        """Let physics take over again, at the velocity it has."""
        self._constant_velocity = None

    def add_impulse(self, impulse_ns: Vec3) -> None:
        """Kick its centre of mass: N s in the world."""
        ix, iy, iz = vector("impulse", impulse_ns)
        mass = self._params[k.MASS]
        self._state[k.VX] += ix / mass
        self._state[k.VY] += iy / mass
        self._footing.vz += iz / mass
        self._limit()

    def add_force(self, force_n: Vec3) -> None:
        """Push its centre of mass during the next step: N in the world."""
        self._force = [a + b for a, b in zip(self._force, vector("force", force_n), strict=True)]

    def add_angular_impulse(self, impulse_nms: Vec3) -> None:
        """Twist it: N m s about z; x and y are not simulated."""
        _, _, z = vector("angular_impulse", impulse_nms)
        self._state[k.YAW_RATE] += z / self._params[k.YAW_INERTIA]
        self._limit()

    def add_torque(self, torque_nm: Vec3) -> None:
        """Twist it during the next step: N m about z; x and y are not simulated."""
        self._torque_z += vector("torque", torque_nm)[2]

    def set_simulate_physics(self, enabled: bool) -> None:
        """False: it stays where it is put, is solid to others, and nothing moves it."""
        self.simulated = bool(enabled)
        if not enabled:
            self._state[[k.VX, k.VY, k.YAW_RATE]] = 0.0
            self._footing.vz = 0.0

    def set_enable_gravity(self, enabled: bool) -> None:
        """False: it does not fall."""
        self._gravity = bool(enabled)

    def physics_control(self) -> VehiclePhysics:
        """CARLA's ``get_physics_control``: wheel positions are in the world, in centimetres."""
        wheels = tuple(
            replace(wheel, position=self._wheel_position_cm(i))
            for i, wheel in enumerate(self._physics.wheels)
        )
        return replace(self._physics, wheels=wheels)

    def apply_physics_control(self, physics: VehiclePhysics) -> None:
        """Change mass, engine, gears, tyres, brakes, lock: the fields say what has an effect."""
        pose = self.pose
        self._physics = physics
        self._params = pack(physics, self.spec)
        self._state[k.GEAR] = min(self._state[k.GEAR], len(physics.forward_gears))
        self.set_transform(pose.transform)  # the centre of mass may have moved in the body

    # --- for contacts ---------------------------------------------------------------------------

    def push(self, impulse_ns: tuple[float, float], point: tuple[float, float]) -> None:
        """Contact impulse in N s at a point of the world."""
        s = self._state
        arm_x, arm_y = point[0] - s[k.X], point[1] - s[k.Y]
        s[k.VX] += impulse_ns[0] / self._params[k.MASS]
        s[k.VY] += impulse_ns[1] / self._params[k.MASS]
        turn = arm_x * impulse_ns[1] - arm_y * impulse_ns[0]
        s[k.YAW_RATE] += turn / self._params[k.YAW_INERTIA]
        self._limit()

    def shift(self, dx: float, dy: float) -> None:
        """Move it out of another body, metres in the world."""
        self._state[k.X] += dx
        self._state[k.Y] += dy

    @property
    def planar_motion(self) -> tuple[float, float, float, float, float]:
        """``(x, y, vx, vy, yaw_rate)`` of the centre of mass, m, m/s, rad/s."""
        s = self._state
        return (
            float(s[k.X]),
            float(s[k.Y]),
            float(s[k.VX]),
            float(s[k.VY]),
            float(s[k.YAW_RATE]),
        )

    # --- helpers --------------------------------------------------------------------------------

    def _origin(self) -> tuple[float, float]:
        s, cg = self._state, self._params[k.CG_X]
        yaw = s[k.YAW]
        return (float(s[k.X] - cg * math.cos(yaw)), float(s[k.Y] - cg * math.sin(yaw)))

    def _along(self) -> tuple[float, float]:
        """Speed and acceleration along the vehicle."""
        s, a = self._state, self._acceleration
        c, sn = math.cos(s[k.YAW]), math.sin(s[k.YAW])
        return (float(s[k.VX] * c + s[k.VY] * sn), a[0] * c + a[1] * sn)

    def _lock_rad(self) -> float:
        p, s = self._params, self._state
        kmh = 3.6 * math.hypot(s[k.VX], s[k.VY])
        return float(p[k.MAX_STEER] * k.curve_at(p, k.STEERING, kmh))

    def _num_wheels(self) -> int:
        return len(self._physics.wheels)

    def _wheel_position_cm(self, index: int) -> Vec3:
        front = index < self._num_wheels() // 2
        side = 0.0 if self._num_wheels() == 2 else (-1.0 if index % 2 == 0 else 1.0)
        local = np.array(
            [
                [
                    0.5 * self.spec.wheelbase_m * (1.0 if front else -1.0),
                    0.5 * self.spec.track_m * side,
                    float(self._params[k.RADIUS]),
                ]
            ]
        )
        x, y, z = (100.0 * self.pose.transform.to_world(local)[0]).tolist()
        return (x, y, z)
