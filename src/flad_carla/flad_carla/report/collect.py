# SPDX-License-Identifier: Apache-2.0
"""Listens to route runs and writes a file per run for the report (``run_file`` is the format)."""

from __future__ import annotations

import logging
import math
import re
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flad_carla.report.perception import View, view_of
from flad_carla.report.perception_log import PerceptionLog
from flad_carla.report.run_file import (
    EGO_COLUMNS,
    TEXT_TRACKS,
    ActorKind,
    Column,
    LightPlace,
    RunRecord,
    save_run,
)
from flad_carla.report.sweep import Area
from flad_carla.report.thumbnails import far_camera, main_camera, thumbnail
from flad_carla.run_log import (
    BodyView,
    DriverView,
    Infraction,
    LightView,
    Observer,
    PlanView,
    RunInfo,
    RunResult,
    SensorTick,
    TickEntry,
)
from flad_perception.weights_header import model_config

_log = logging.getLogger(__name__)

_LIGHT_RANGE_M = 40.0
_WAIT_S = 0.2  # how long a picture waits for a tick with a prediction of its own
_DURATION = re.compile(r" for [\d.]+ s\b")
_DISTANCE = re.compile(r" (in|at) -?[\d.]+ ?m\b")


@dataclass(frozen=True, kw_only=True)
class CollectorConfig:
    """How finely a run is kept for the report."""

    animation_period_s: float = 0.2  # actors and plans; the page interpolates
    actor_radius_m: float = 80.0
    thumbnail_period_s: float = 0.4
    thumbnail_width_px: int = 320
    thumbnail_quality: int = 55
    camera: str | None = None  # sensor id; None takes the front camera of the rig

    def __post_init__(self) -> None:
        for name in ("animation_period_s", "actor_radius_m", "thumbnail_period_s"):
            if getattr(self, name) <= 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


class RunCollector(Observer):
    """Keeps each run compact in memory and writes it to ``folder`` when it ends.

    ``failures`` names what could not be written; the drive goes on.
    """

    def __init__(self, folder: Path, config: CollectorConfig | None = None) -> None:
        self.folder = folder
        self.failures: list[str] = []
        self._config = config or CollectorConfig()
        self._run: _Run | None = None

    def on_start(self, info: RunInfo) -> None:
        """Begin a new run."""
        self._run = _Run(info, self._config)

    def on_tick(self, tick: SensorTick, entry: TickEntry) -> None:
        """Keep what the report needs of this tick."""
        assert self._run is not None, "on_tick before on_start"
        self._run.add(tick, entry)

    def on_end(self, result: RunResult) -> None:
        """Write the run; a disk that is full costs the report of this run only."""
        assert self._run is not None, "on_end before on_start"
        record, self._run = self._run.record(result), None
        try:
            save_run(record, self.folder)
        except OSError as error:
            message = (
                f"the report's data of {record.info.route_id} could not be written to "
                f"{self.folder} ({error.strerror or error}); free some space and evaluate it again"
            )
            self.failures.append(message)
            _log.error(message)


def light_ahead(entry: TickEntry) -> float:
    """State of the light the ego drives towards, NaN if there is none.

    The expert knows which one that is; without an expert it is the nearest stop area ahead.
    """
    if entry.expert is not None:
        wanted = entry.expert.affected_light_id
        return next((float(x.state) for x in entry.lights if x.actor_id == wanted), math.nan)
    nearest, state = _LIGHT_RANGE_M, math.nan
    for light in entry.lights:
        if light.trigger is None:
            continue
        forward, right = entry.ego.pose.to_local(*light.trigger.center[:2])
        if 0.0 < forward < nearest and -2.0 < right < 4.0:  # its own side of the road
            nearest, state = forward, float(light.state)
    return state


def driver_words(driver: DriverView | None) -> str:
    """Who drives, and why if it is not the edge; empty without words."""
    if driver is None:
        return ""
    why = _DURATION.sub("", driver.why)
    return f"{driver.who}: {why}" if why else driver.who


class _Run:
    """The run in the making."""

    def __init__(self, info: RunInfo, config: CollectorConfig) -> None:
        self._info, self._config = info, config
        self._camera = config.camera or main_camera(info.rig)
        self._far_camera = far_camera(info.rig)
        self._perception = PerceptionLog(info, _area_of(info.encoder))
        self._ego = {name: array("d") for name in EGO_COLUMNS}
        self._ego_size = (4.9, 2.1)
        self._kinds: dict[int, ActorKind] = {}
        self._tracks: dict[int, array[float]] = {}
        self._num_steps = 0
        self._light_places: dict[int, LightPlace] = {}
        self._light_states: dict[int, int] = {}
        self._light_changes = array("d")
        self._plans = array("d")
        self._num_plans = 0
        self._last_plan: PlanView | None = None
        self._infractions: list[Infraction] = []
        self._texts: dict[str, list[tuple[float, str]]] = {name: [] for name in TEXT_TRACKS}
        self._thumbnail_times = array("d")
        self._thumbnails: list[bytes] = []
        self._insets: list[bytes] = []

    def add(self, tick: SensorTick, entry: TickEntry) -> None:
        t = entry.sim_time_s
        self._add_ego(entry)
        self._infractions += entry.infractions
        for light in entry.lights:
            self._add_light(t, light)
        # Distances change in every tick; what it is that is near does not.
        expert = _DISTANCE.sub("", entry.expert.reason) if entry.expert else ""
        driver = entry.driver
        said = (
            entry.instruction,
            entry.planner_state,
            expert,
            driver_words(driver),
            driver.notice if driver else "",
        )
        for name, text in zip(TEXT_TRACKS, said, strict=True):
            track = self._texts[name]
            if text != (track[-1][1] if track else ""):
                track.append((round(t, 3), text))
        if t + 1e-6 >= self._num_steps * self._config.animation_period_s:
            self._add_step(entry)
        self._perception.add(tick, entry)
        self._add_thumbnail(tick, t)

    def record(self, result: RunResult) -> RunRecord:
        kinds = {key: _kind_of(body) for key, body in self._perception.bodies.items()} | self._kinds
        columns = np.frombuffer(self._light_changes, dtype=np.float64).reshape(-1, 3)
        plans = np.frombuffer(self._plans, dtype=np.float64).reshape(-1, 4)
        return RunRecord(
            info=self._info,
            result=result,
            ego={name: np.array(values, dtype=np.float32) for name, values in self._ego.items()},
            tracks=self._track_columns(),
            track_step_s=self._config.animation_period_s,
            lights={
                "light": columns[:, 0].astype(np.int64),
                "t": columns[:, 1].astype(np.float32),
                "state": columns[:, 2].astype(np.uint8),
            },
            plans={
                "plan": plans[:, 0].astype(np.int32),
                **{name: plans[:, i].astype(np.float32) for i, name in enumerate("txy", 1)},
            },
            ego_size=self._ego_size,
            actor_kinds=tuple(kinds[key] for key in sorted(kinds)),
            light_places=tuple(self._light_places[key] for key in sorted(self._light_places)),
            infractions=tuple(self._infractions),
            texts={name: tuple(track) for name, track in self._texts.items()},
            thumbnail_times=np.array(self._thumbnail_times, dtype=np.float32),
            thumbnails=tuple(self._thumbnails),
            insets=tuple(self._insets) if any(self._insets) else (),
            views=tuple(v for v in map(self._view, (self._camera, self._far_camera)) if v),
            perception=self._perception.result(),
        )

    def _view(self, camera: str | None) -> View | None:
        return None if camera is None else view_of(self._info.rig, camera)

    def _add_ego(self, entry: TickEntry) -> None:
        ego, control = entry.ego, entry.control
        self._ego_size = (2.0 * ego.extent[0], 2.0 * ego.extent[1])
        row = (
            entry.sim_time_s,
            ego.pose.x,
            ego.pose.y,
            ego.pose.yaw,
            ego.speed_mps,
            entry.desired_speed_mps,
            control.throttle,
            control.brake,
            control.steer,
            entry.route_completion,
            entry.latency_s,
            entry.perturbation,
            light_ahead(entry),
            entry.driver.latency_s if entry.driver else math.nan,
            entry.driver.completed if entry.driver else math.nan,
        )
        for name, value in zip(EGO_COLUMNS, row, strict=True):
            self._ego[name].append(value)

    def _add_light(self, t: float, light: LightView) -> None:
        if self._light_states.get(light.actor_id) == light.state:
            return
        self._light_states[light.actor_id] = light.state
        self._light_changes.extend((light.actor_id, t, light.state))
        if light.actor_id not in self._light_places:
            box = light.trigger
            self._light_places[light.actor_id] = LightPlace(
                light_id=light.actor_id,
                x=box.center[0] if box else light.pose.x,
                y=box.center[1] if box else light.pose.y,
                yaw=box.yaw if box else light.pose.yaw,
            )

    def _add_step(self, entry: TickEntry) -> None:
        x, y, radius = entry.ego.pose.x, entry.ego.pose.y, self._config.actor_radius_m
        for body in entry.actors:
            if math.hypot(body.pose.x - x, body.pose.y - y) <= radius:
                self._add_body(body)
        self._num_steps += 1
        plan = entry.plan
        if plan is not None and plan.points and plan is not self._last_plan:
            for px, py in plan.points:
                self._plans.extend((self._num_plans, entry.sim_time_s, px, py))
            self._num_plans += 1
            self._last_plan = plan

    def _add_body(self, body: BodyView) -> None:
        key = body.actor_id
        if key not in self._kinds:
            self._kinds[key] = _kind_of(body)
            self._tracks[key] = array("d")
        self._tracks[key].extend((self._num_steps, body.pose.x, body.pose.y, body.pose.yaw))

    def _add_thumbnail(self, tick: SensorTick, t: float) -> None:
        if self._camera is None:
            return
        late_s = t - len(self._thumbnails) * self._config.thumbnail_period_s
        if late_s < -1e-6 or (
            self._info.encoder and late_s < _WAIT_S and not self._perception.is_fresh
        ):
            return
        data = tick.data.get(self._info.role, {})
        if self._camera not in data:  # this camera is not due in every tick
            return
        self._thumbnail_times.append(t)
        self._thumbnails.append(self._jpeg(data[self._camera]))
        far = data.get(self._far_camera) if self._far_camera else None
        self._insets.append(b"" if far is None else self._jpeg(far))
        self._perception.add_picture(len(self._thumbnails) - 1)

    def _jpeg(self, image: Any) -> bytes:
        config = self._config
        return thumbnail(image, width=config.thumbnail_width_px, quality=config.thumbnail_quality)

    def _track_columns(self) -> dict[str, Column]:
        keys = sorted(self._tracks)
        rows = [np.frombuffer(self._tracks[key], dtype=np.float64).reshape(-1, 4) for key in keys]
        table = np.concatenate([np.zeros((0, 4)), *rows])
        return {
            "actor": np.repeat(np.array(keys, dtype=np.int64), [len(r) for r in rows]),
            "step": table[:, 0].astype(np.int32),
            **{name: table[:, i].astype(np.float32) for i, name in enumerate(("x", "y", "yaw"), 1)},
        }


def _kind_of(body: BodyView) -> ActorKind:
    return ActorKind(
        actor_id=body.actor_id,
        type_id=body.type_id,
        length=2.0 * body.extent[0],
        width=2.0 * body.extent[1],
        height=2.0 * body.extent[2],
    )


def _area_of(encoder: str) -> Area | None:
    """Where the encoder answers for road users; None where that cannot be told."""
    if not encoder:
        return None
    try:
        grid = model_config(encoder).grid
    except ValueError as error:
        _log.warning("the report takes the usual area for the encoder's: %s", error)
        return None
    return Area(
        x_min_m=grid.x_min_m, x_max_m=grid.x_max_m, y_min_m=grid.y_min_m, y_max_m=grid.y_max_m
    )
