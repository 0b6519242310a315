# SPDX-License-Identifier: Apache-2.0
"""What a frame of a recording teaches: where to be next, and what stood in the way.

The waypoints are the expert's plan, not where the vehicle was later. The plan is what the planner
followed; it knows of nothing that comes later (a light that turns green in 0.4 s, a
kick of the recorder), and it is the expert's where somebody else drove (DAgger). Recordings without
a plan, such as LMDrive's own, teach later positions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from flad_perception.data.lmdrive import FRAMES_PER_S
from flad_perception.data.scenes import kick, scene_of, world_point
from flad_perception.scene import Scene

NUM_WAYPOINTS = 5
WAYPOINT_STEP_S = 0.5
_STEP_FRAMES = round(WAYPOINT_STEP_S * FRAMES_PER_S)
NO_LIGHT, RED, FREE = -1, 0, 1
"""Of ``light``: none within sight, a red one that stops the expert, another."""

_STATES = {"none": -1, "red": 0, "yellow": 1, "green": 2}

Labels = Literal["plan", "driven"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameLabels:
    """Of one frame; NaN where not known."""

    speed_mps: float
    plan_m: NDArray[np.float32]
    """``[P, 2]``: the expert's, x forward, y left, 0.5 to 2.5 s from the frame."""
    driven_m: NDArray[np.float32]
    """``[P, 2]``: where the vehicle was then."""
    kicked: bool
    """Whether the recorder pushes the steering within the horizon."""
    light: int
    light_state: int
    """CARLA's number (0 red, 1 yellow, 2 green) of the next light on the way; -1 without one."""
    light_m: float
    """To its stop line; NaN without a light."""


def frame_labels(frames: Sequence[Mapping[str, Any]], number: int) -> FrameLabels:
    """The labels of frame ``number`` of a run.

    Args:
        frames: ``measurements_full`` of the whole run, every 0.1 s.
        number: of the frame.

    Raises:
        KeyError, TypeError, ValueError: if a field is missing or bad.
    """
    here = frames[number]
    scene = scene_of(here, ())
    ahead = frames[number : number + NUM_WAYPOINTS * _STEP_FRAMES + 1]
    return FrameLabels(
        speed_mps=scene.speed_mps,
        plan_m=_plan(scene, here.get("flad", {})),
        driven_m=_driven(scene, ahead),
        kicked=any(kick(m) for m in ahead),
        light=RED if scene.red_light_stops else NO_LIGHT if scene.light_state == "none" else FREE,
        light_state=_STATES[scene.light_state],
        light_m=scene.light_distance_m,
    )


def _plan(scene: Scene, block: Mapping[str, Any]) -> NDArray[np.float32]:
    points = block.get("plan_world") or []
    if len(points) < NUM_WAYPOINTS or block.get("plan_step_s") != WAYPOINT_STEP_S:
        return _unknown()
    local = [scene.ego.to_local(world_point(x, y)) for x, y in points[:NUM_WAYPOINTS]]
    age_s = float(block["sim_time_s"]) - float(block["plan_stamp_s"])
    return later(np.asarray(local, dtype=np.float64), age_s)


def later(points_m: NDArray[np.float64], age_s: float) -> NDArray[np.float32]:
    """Points ``[P, 2]`` of a plan that is ``age_s`` old, at 0.5, 1.0, ... s from now.

    Between the points straight, as the planner follows them; beyond the last one straight on.

    Raises:
        ValueError: if the plan is from the future or older than its own step.
    """
    if not -1e-6 <= age_s <= WAYPOINT_STEP_S:
        raise ValueError(f"a plan that is {age_s:.2f} s old, expected 0 to {WAYPOINT_STEP_S:g} s")
    share = max(0.0, age_s) / WAYPOINT_STEP_S
    steps = np.diff(points_m, axis=0)
    moved: NDArray[np.float32] = (points_m + share * np.vstack([steps, steps[-1:]])).astype("f4")
    return moved


def _driven(scene: Scene, ahead: Sequence[Mapping[str, Any]]) -> NDArray[np.float32]:
    if len(ahead) <= NUM_WAYPOINTS * _STEP_FRAMES:
        return _unknown()
    later_frames = ahead[_STEP_FRAMES::_STEP_FRAMES][:NUM_WAYPOINTS]
    local = [scene.ego.to_local(world_point(m["x"], m["y"])) for m in later_frames]
    return np.asarray(local, dtype=np.float32)


def _unknown() -> NDArray[np.float32]:
    return np.full((NUM_WAYPOINTS, 2), np.nan, dtype=np.float32)
