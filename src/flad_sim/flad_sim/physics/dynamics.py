# SPDX-License-Identifier: Apache-2.0
"""The equations of a road vehicle, compiled: a dynamic bicycle with engine, gearbox and brakes.

The state and parameter arrays are laid out by the constants below; ``parameters`` fills the
parameters, ``vehicle`` owns a state. Frame: CARLA's, x forward, y right, yaw clockwise.

Forces of contact (tyres sideways, brakes, rolling) are applied as impulses that at most stop the
slip they oppose within one sub-step. So a standing car stands, a sliding one comes to rest, and
reversing needs no special case: there is no division by speed and no blend with another model.
Away from rest the same tyre follows Pacejka's formula F = D sin(C atan(B alpha)) on the friction
ellipse (Pacejka, Tire and Vehicle Dynamics, 2012, section 4.3), loads shift between the axles with
the last acceleration.
"""

from __future__ import annotations

import math

from flad_sim.physics.jit import kernel
from flad_sim.types import FloatArray

SUBSTEP_S = 0.005
GRAVITY = 9.81
AIR_DENSITY = 1.2

# State. Position and velocity are of the centre of mass, in the world.
X, Y, YAW, VX, VY, YAW_RATE = range(6)
THROTTLE, BRAKE_PEDAL, STEER, HAND = 6, 7, 8, 9  # after the actuators' lag
GEAR, SHIFT_LEFT, RPM = 10, 11, 12  # SHIFT_LEFT: seconds until the clutch closes
LAST_AX = 13  # m/s^2 forward, filtered, for the load transfer
SLIP_FRONT, SLIP_REAR = 14, 15  # rad
LAT_FRONT, LAT_REAR, LONG_FRONT, LONG_REAR = 16, 17, 18, 19  # N, last sub-step
LOAD_FRONT, LOAD_REAR = 20, 21  # N
NUM_STATE = 22

# Inputs of one step.
IN_THROTTLE, IN_BRAKE, IN_STEER, IN_HAND, IN_REVERSE, IN_MANUAL, IN_GEAR = range(7)
IN_FX, IN_FY, IN_TORQUE = 7, 8, 9  # N in the world, N m about z: what the client adds
IN_PITCH, IN_ROLL, IN_GROUNDED = 10, 11, 12  # rad, rad, 0 or 1
NUM_INPUT = 13

# Parameters.
MASS, YAW_INERTIA, FRONT_ARM, REAR_ARM, CG_X, CG_Z, RADIUS, MAX_STEER = range(8)
MU_FRONT, MU_REAR, STIFF_FRONT, STIFF_REAR, BRAKE, HAND_BRAKE = 8, 9, 10, 11, 12, 13
AIR, ROLLING, FRONT_DRIVE, TOP_SPEED = 14, 15, 16, 17
MAX_RPM, MOI, SWITCH_TIME, FINAL_RATIO, NUM_GEARS, AUTOBOX = 18, 19, 20, 21, 22, 23
GEARS = 24  # 16 x (ratio, down, up)
TORQUE = GEARS + 48  # count, then 16 x (x, y)
STEERING = TORQUE + 33
NUM_PARAMS = STEERING + 33

# Pedals and wheel follow their command at these rates, 1/s: (pressing, releasing). A brake builds
# up in 0.15 s, a driver-by-wire throttle opens as fast, a lock takes 0.4 s: Unreal's defaults,
# which CARLA's vehicles have.
_THROTTLE_RATE = (6.0, 10.0)
_BRAKE_RATE = (6.0, 10.0)
_STEER_RATE = (2.5, 5.0)
_HAND_RATE = (12.0, 12.0)

_IDLE_RPM = 800.0
_LAUNCH_RPM = 0.38  # of the redline: where the converter holds a full-throttle start
_EFFICIENCY = 0.83  # engine to road
_ENGINE_DRAG = 0.12  # of the peak torque, at the redline with the throttle closed
_ABS_SHARE = 0.97  # of the grip that brakes may use; the rest keeps the car steerable
_LOCKED_SHARE = 0.8  # grip of a wheel that the hand brake has locked
_LATERAL_SHARE = 0.9  # of the lengthwise grip that a tyre has sideways
_SHAPE = 1.35  # Pacejka's C
_LOAD_FILTER_S = 0.05
_REVERSE_RATIO = 0.85  # of the first gear


@kernel
def advance(s: FloatArray, p: FloatArray, u: FloatArray, dt_s: float) -> None:
    """Advance state ``s`` in place by ``dt_s`` under inputs ``u``, in sub-steps of 5 ms or less."""
    n = max(1, math.ceil(dt_s / SUBSTEP_S - 1e-9))
    h = dt_s / n
    for _ in range(n):
        _actuate(s, p, u, h)
        _substep(s, p, u, h)


@kernel
def curve_at(p: FloatArray, at: int, x: float) -> float:
    """Value of a packed curve: linear between points, constant outside."""
    n = int(p[at])
    if x <= p[at + 1]:
        return float(p[at + 2])
    for i in range(1, n):
        x1 = p[at + 1 + 2 * i]
        if x <= x1:
            x0 = p[at - 1 + 2 * i]
            y0, y1 = p[at + 2 * i], p[at + 2 + 2 * i]
            return float(y0 + (y1 - y0) * (x - x0) / (x1 - x0) if x1 > x0 else y1)
    return float(p[at + 2 * n])


@kernel
def steer_angle(s: FloatArray, p: FloatArray) -> float:
    """Angle of the front wheels in rad, right positive."""
    kmh = 3.6 * math.hypot(s[VX], s[VY])
    return float(s[STEER] * p[MAX_STEER] * curve_at(p, STEERING, kmh))


@kernel
def _follow(value: float, target: float, up: float, down: float, h: float) -> float:
    rate = up if abs(target) > abs(value) and target * value >= 0.0 else down
    step = rate * h
    return value + min(step, max(-step, target - value))


@kernel
def _actuate(s: FloatArray, p: FloatArray, u: FloatArray, h: float) -> None:
    s[THROTTLE] = _follow(s[THROTTLE], u[IN_THROTTLE], _THROTTLE_RATE[0], _THROTTLE_RATE[1], h)
    s[BRAKE_PEDAL] = _follow(s[BRAKE_PEDAL], u[IN_BRAKE], _BRAKE_RATE[0], _BRAKE_RATE[1], h)
    s[STEER] = _follow(s[STEER], u[IN_STEER], _STEER_RATE[0], _STEER_RATE[1], h)
    s[HAND] = _follow(s[HAND], u[IN_HAND], _HAND_RATE[0], _HAND_RATE[1], h)
    s[SHIFT_LEFT] = max(0.0, s[SHIFT_LEFT] - h)
    gear = int(s[GEAR])
    wanted = gear
    if u[IN_MANUAL] > 0.0 or p[AUTOBOX] == 0.0:
        wanted = max(-1, min(int(p[NUM_GEARS]), int(u[IN_GEAR])))
    elif u[IN_REVERSE] > 0.0:
        wanted = -1
    elif gear < 1:
        wanted = 1
    elif s[SHIFT_LEFT] == 0.0:
        # Shift points fall with the throttle: at 95 % of the redline flat out, at 40 % when light.
        at = GEARS + 3 * (gear - 1)
        share = s[RPM] / p[MAX_RPM]
        light = 0.4 + 0.6 * s[THROTTLE]
        if gear < int(p[NUM_GEARS]) and share > p[at + 2] * light:
            wanted = gear + 1
        elif gear > 1 and share < p[at + 1] * light:
            wanted = gear - 1
    if wanted != gear:
        s[GEAR] = wanted
        # Only a change between two driving gears interrupts the drive.
        s[SHIFT_LEFT] = p[SWITCH_TIME] if gear > 0 and wanted > 0 else 0.0


@kernel
def _drive_force(s: FloatArray, p: FloatArray, forward_mps: float) -> float:
    """Force of the engine at the road in N, before grip; sets the engine speed."""
    gear = int(s[GEAR])
    if gear == 0:
        s[RPM] = _IDLE_RPM + s[THROTTLE] * (p[MAX_RPM] - _IDLE_RPM)
        return 0.0
    ratio = p[FINAL_RATIO] * (p[GEARS + 3 * (gear - 1)] if gear > 0 else -_REVERSE_RATIO * p[GEARS])
    # Negative while the car still rolls against its gear: the clutch slips.
    coupled = forward_mps / p[RADIUS] * ratio * 30.0 / math.pi
    idle = min(_IDLE_RPM, 0.15 * p[MAX_RPM])
    held = idle + s[THROTTLE] * (_LAUNCH_RPM * p[MAX_RPM] - idle)
    s[RPM] = min(max(coupled, held), p[MAX_RPM])
    if s[SHIFT_LEFT] > 0.0:
        return 0.0
    torque = s[THROTTLE] * curve_at(p, TORQUE, s[RPM])
    if coupled >= p[MAX_RPM]:
        torque = 0.0
    torque *= min(1.0, max(0.0, 2.0 * (p[TOP_SPEED] - abs(forward_mps))))
    drag = 0.0
    if coupled > 0.0:  # the closed throttle brakes; fades out below 2 m/s, where a clutch opens
        peak = curve_at(p, TORQUE, 0.5 * p[MAX_RPM])
        drag = (1.0 - s[THROTTLE]) * _ENGINE_DRAG * peak * coupled / p[MAX_RPM]
        drag *= min(1.0, 0.5 * abs(forward_mps))
    # Part of the torque spins up the engine and the wheels, which count as mass.
    spin = 1.0 + p[MOI] * ratio * ratio / (p[MASS] * p[RADIUS] * p[RADIUS])
    return float((torque * _EFFICIENCY - drag) * ratio / (p[RADIUS] * spin))


@kernel
def _lateral_impulse(
    slip_mps: float, roll_mps: float, load: float, mu: float, stiffness: float, used: float
) -> float:
    """Sideways force in N of an axle that slides at ``slip_mps`` and rolls at ``roll_mps``."""
    grip = mu * load
    left = _LATERAL_SHARE * math.sqrt(max(0.0, grip * grip - used * used))
    if left <= 0.0 or slip_mps == 0.0:
        return 0.0
    alpha = math.atan2(abs(slip_mps), abs(roll_mps))
    bcd = stiffness / (_SHAPE * _LATERAL_SHARE * mu)
    force = left * math.sin(_SHAPE * math.atan(bcd * alpha))
    return -force if slip_mps > 0.0 else force


@kernel
def _toward_zero(value: float, step: float) -> float:
    if value > 0.0:
        return max(0.0, value - step)
    return min(0.0, value + step)


@kernel
def _substep(s: FloatArray, p: FloatArray, u: FloatArray, h: float) -> None:
    mass, inertia = p[MASS], p[YAW_INERTIA]
    a, b = p[FRONT_ARM], p[REAR_ARM]
    base = a + b
    c, sn = math.cos(s[YAW]), math.sin(s[YAW])
    vx = s[VX] * c + s[VY] * sn  # body frame
    vy = -s[VX] * sn + s[VY] * c
    r = s[YAW_RATE]
    before = vx

    # What the client pushes with, and gravity along the slope.
    fx, fy = u[IN_FX] * c + u[IN_FY] * sn, -u[IN_FX] * sn + u[IN_FY] * c
    r += u[IN_TORQUE] / inertia * h
    grounded = u[IN_GROUNDED] > 0.0
    if grounded:
        fx -= mass * GRAVITY * math.sin(u[IN_PITCH])
        fy += mass * GRAVITY * math.sin(u[IN_ROLL])
    speed = math.hypot(vx, vy)
    fx -= p[AIR] * speed * vx
    fy -= p[AIR] * speed * vy
    vx += fx / mass * h
    vy += fy / mass * h

    drive = _drive_force(s, p, vx)
    lat_f = lat_r = long_f = long_r = 0.0
    load_f = load_r = 0.0
    if grounded:
        weight = mass * GRAVITY * math.cos(u[IN_PITCH])
        shift = mass * s[LAST_AX] * p[CG_Z] / base
        load_f = min(weight, max(0.0, weight * b / base - shift))
        load_r = weight - load_f
        grip_f, grip_r = p[MU_FRONT] * load_f, p[MU_REAR] * load_r

        drive_f = min(grip_f, max(-grip_f, drive * p[FRONT_DRIVE]))
        drive_r = min(grip_r, max(-grip_r, drive * (1.0 - p[FRONT_DRIVE])))
        vx += (drive_f + drive_r) / mass * h

        # Brakes share by load, as an electronic distribution does, each within its grip.
        pedal = s[BRAKE_PEDAL] * p[BRAKE]
        brake_f = min(pedal * load_f / weight, _ABS_SHARE * grip_f)
        brake_r = min(pedal * load_r / weight, _ABS_SHARE * grip_r)
        brake_r = max(brake_r, min(s[HAND] * p[HAND_BRAKE], _LOCKED_SHARE * grip_r))
        resist = brake_f + brake_r + p[ROLLING] * weight
        stopped = _toward_zero(vx, resist / mass * h)
        used = abs(vx - stopped) * mass / h / resist  # 1 while moving, the needed share at rest
        sign = 1.0 if vx > 0.0 else -1.0
        vx = stopped
        long_f, long_r = drive_f - sign * used * brake_f, drive_r - sign * used * brake_r

        # Tyres sideways, front then rear; each stops at most the slip it sees.
        delta = s[STEER] * p[MAX_STEER] * curve_at(p, STEERING, 3.6 * speed)
        cd, sd = math.cos(delta), math.sin(delta)
        slip = -vx * sd + (vy + a * r) * cd
        roll = vx * cd + (vy + a * r) * sd
        lat_f = _lateral_impulse(slip, roll, load_f, p[MU_FRONT], p[STIFF_FRONT], long_f)
        most = abs(slip) / (h * (1.0 / mass + a * a * cd * cd / inertia))
        lat_f = min(most, max(-most, lat_f))
        s[SLIP_FRONT] = math.atan2(slip, abs(roll)) if abs(roll) > 0.1 else 0.0
        vx -= lat_f * sd / mass * h
        vy += lat_f * cd / mass * h
        r += a * lat_f * cd / inertia * h

        slip = vy - b * r
        lat_r = _lateral_impulse(slip, vx, load_r, p[MU_REAR], p[STIFF_REAR], long_r)
        most = abs(slip) / (h * (1.0 / mass + b * b / inertia))
        lat_r = min(most, max(-most, lat_r))
        s[SLIP_REAR] = math.atan2(slip, abs(vx)) if abs(vx) > 0.1 else 0.0
        vy += lat_r / mass * h
        r -= b * lat_r / inertia * h

    s[LAT_FRONT], s[LAT_REAR], s[LONG_FRONT], s[LONG_REAR] = lat_f, lat_r, long_f, long_r
    s[LOAD_FRONT], s[LOAD_REAR] = load_f, load_r
    s[LAST_AX] += ((vx - before) / h - s[LAST_AX]) * min(1.0, h / _LOAD_FILTER_S)

    s[VX], s[VY], s[YAW_RATE] = vx * c - vy * sn, vx * sn + vy * c, r
    s[X] += s[VX] * h
    s[Y] += s[VY] * h
    s[YAW] += r * h
