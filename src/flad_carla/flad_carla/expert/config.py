# SPDX-License-Identifier: Apache-2.0
"""Every number of the expert."""

from __future__ import annotations

from dataclasses import dataclass, fields

from flad_common.config import knob


@dataclass(frozen=True, kw_only=True)
class ExpertConfig:
    """Comfort of a calm driver; distances are bumper to bumper or bumper to line."""

    # Speed
    max_speed_mps: float = knob(8.0, unit="m/s", doc="Never faster; LMDrive's PIDs fit to this.")
    limit_share: float = knob(0.9, unit="1", doc="Share of the speed limit that is driven.")
    lateral_mps2: float = knob(2.2, unit="m/s^2", doc="Sideways acceleration taken in a bend.")
    bend_braking_mps2: float = knob(1.5, unit="m/s^2", doc="Braking before a bend.")
    min_bend_mps: float = knob(2.5, unit="m/s", doc="A bend is never taken slower than this.")
    # Following (intelligent driver model)
    accel_mps2: float = knob(2.2, unit="m/s^2", doc="IDM's a.")
    brake_mps2: float = knob(3.0, unit="m/s^2", doc="IDM's comfortable b.")
    hardest_brake_mps2: float = knob(8.0, unit="m/s^2", doc="The brake in an emergency.")
    headway_s: float = knob(1.0, unit="s", doc="IDM's T behind a vehicle.")
    gap_vehicle_m: float = knob(3.0, unit="m", doc="IDM's s0 behind a vehicle.")
    gap_walker_m: float = knob(2.5, unit="m", doc="Standing distance to a pedestrian's path.")
    gap_crossing_m: float = knob(2.0, unit="m", doc="Standing distance to a crossing vehicle.")
    gap_line_m: float = knob(1.0, unit="m", doc="Standing distance to a stop line.")
    # Foresight
    sight_m: float = knob(60.0, unit="m", doc="Actors farther away are not looked at.")
    forecast_s: float = knob(3.0, unit="s", doc="How far ahead boxes are forecast.")
    forecast_step_s: float = knob(0.1, unit="s", doc="Step of the forecast.")
    side_margin_m: float = knob(0.35, unit="m", doc="Room beside the ego's box, per side.")
    walker_margin_m: float = knob(0.6, unit="m", doc="Room about a pedestrian.")
    # Lights and signs
    yellow_brake_mps2: float = knob(3.0, unit="m/s^2", doc="Yellow: stop if this suffices.")
    yellow_clear_s: float = knob(2.5, unit="s", doc="Yellow: go only if over the line by then.")
    stopped_mps: float = knob(0.1, unit="m/s", doc="Slower counts as standing.")
    # Passing what blocks the lane
    blocked_after_s: float = knob(6.0, unit="s", doc="A vehicle standing this long is passed.")
    pass_speed_mps: float = knob(5.0, unit="m/s", doc="Speed beside something that is passed.")
    shift_m: float = knob(14.0, unit="m", doc="Length of the swerve to the side and back.")
    gap_rear_s: float = knob(3.0, unit="s", doc="Time gap to who comes from behind.")
    gap_oncoming_s: float = knob(2.0, unit="s", doc="Spare time to who comes towards us.")
    # Getting out of a deadlock
    patience_s: float = knob(25.0, unit="s", doc="Standing this long, margins start to shrink.")
    # Path
    recover_m: float = knob(3.0, unit="m", doc="Length over which a sideways error is corrected.")

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) > 0.0:
                raise ValueError(f"{field.name} must be positive, got {getattr(self, field.name)}")
