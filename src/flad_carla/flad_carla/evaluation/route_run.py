# SPDX-License-Identifier: Apache-2.0
"""One route, from the car's spawning to its score."""

from __future__ import annotations

import hashlib
import logging
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import carla

from flad_carla.bridge import ControlTimeout
from flad_carla.evaluation.constant_driver import SOURCE, straight_ahead
from flad_carla.evaluation.criteria import (
    Collision,
    Criterion,
    RouteProgress,
    Situation,
    make_criteria,
)
from flad_carla.evaluation.driver_tally import DriverTally
from flad_carla.evaluation.language_driver import LANGUAGE_DRIVERS
from flad_carla.evaluation.narration import RouteNarration
from flad_carla.evaluation.pilot import Answer, Pilot
from flad_carla.evaluation.protocol import Protocol as ScoringProtocol
from flad_carla.evaluation.road import LanePoint, Road
from flad_carla.evaluation.routes import RouteConfig
from flad_carla.evaluation.statistics import (
    BAD_SENSORS,
    BLOCKED,
    CRASHED,
    SIMULATION_CRASHED,
    Event,
)
from flad_carla.evaluation.world_view import WorldState, WorldView
from flad_carla.expert.driver import Decision
from flad_carla.expert_carla import MapExpert
from flad_carla.rig import Rig
from flad_carla.route_planner import RoutePoint
from flad_carla.run_log import (
    BodyView,
    ControlFilter,
    ControlView,
    ExpertView,
    Helper,
    Infraction,
    Observer,
    RunInfo,
    TickEntry,
)
from flad_carla.scenarios.manager import ScenarioManager
from flad_carla.session import CarlaSession, SensorEvent, Tick
from flad_carla.session_errors import SensorTimeout, SessionError, SpawnError
from flad_common.periods import is_due
from flad_planner.language.narrator import Words

_log = logging.getLogger(__name__)

PLAN_PERIOD_S = 0.1
DRIVERS_ELSEWHERE = ("external", *LANGUAGE_DRIVERS)  # their plans come over DDS
_CLEAR_M = 9.0  # traffic this near to the start is removed before the car is placed there
_WEATHER_EVERY = 20  # ticks between two changes of a weather that varies along the route
COLLISION_ID = "evaluation_collision"


class LightTimer(Protocol):
    """Changes the times of traffic lights while a route is driven: a recording's."""

    def start(self, world: carla.World) -> None:
        """The car stands in the world."""

    def step(self, world: carla.World, expert: ExpertView) -> None:
        """The expert has looked."""


@dataclass(frozen=True, kw_only=True)
class RunSetup:
    """What one run needs to know."""

    route: RouteConfig
    trace: Sequence[RoutePoint]
    protocol: ScoringProtocol
    rig: Rig
    info: RunInfo
    seed: int
    driver: str = "expert"  # who drives; the expert watches anyone else
    scenarios: bool = True
    encoder_period_s: float | None = None  # an encoder runs and answers at multiples of it
    observers: Sequence[Observer] = ()
    control_filter: ControlFilter | None = None
    helper: Helper | None = None
    light_timer: LightTimer | None = None
    # Makes who speaks on this route, of the stop lines of its town; None: nobody is spoken to.
    narrate: Callable[[Iterable[LanePoint]], RouteNarration] | None = None
    on_time: Callable[[float], None] = lambda time_s: None  # before each tick is answered
    on_progress: Callable[[float, float], None] = lambda percent, sim_s: None
    on_over: Callable[[], None] = lambda: None  # called before any actor goes


@dataclass(kw_only=True)
class RunOutcome:
    """How a run ended."""

    completion: float = 0.0
    reached: bool = False
    failure: str = ""
    detail: str = ""
    events: list[Event] = field(default_factory=list)
    duration_game_s: float = 0.0
    duration_system_s: float = 0.0
    trajectory_hash: str = ""  # of everybody's pose and velocity in every tick
    num_ticks: int = 0
    scenarios: dict[str, str] = field(default_factory=dict)
    driver: dict[str, Any] = field(default_factory=dict)  # of a language driver, its tally


class RouteRun:
    """Drives one route; make one per route and repetition."""

    def __init__(self, session: CarlaSession, pilot: Pilot, setup: RunSetup) -> None:
        self._session = session
        self._pilot = pilot
        self._setup = setup
        self._outcome = RunOutcome()
        self._hash = hashlib.sha256()
        self._history: deque[tuple[int, float, BodyView]] = deque(maxlen=40)
        self._decision: Decision | None = None
        self._expert_view: ExpertView | None = None
        self._control = ControlView(brake=1.0)
        self._narration: RouteNarration | None = None
        self._words: Words | None = None
        self._tally = DriverTally()

    def drive(self) -> RunOutcome:
        """Drive until the route ends, one way or the other. Never raises for what happens in it."""
        begun_s = time.monotonic()
        out = self._outcome
        role = self._setup.info.role
        try:
            self._prepare(role)
            self._loop()
        except SensorTimeout as error:
            out.failure, out.detail = BAD_SENSORS, str(error)
        except SessionError as error:
            out.failure = CRASHED if isinstance(error, ControlTimeout) else SIMULATION_CRASHED
            out.detail = str(error)
        except RuntimeError as error:  # the carla client's only exception
            out.failure, out.detail = SIMULATION_CRASHED, str(error)
            _log.exception("route %s", self._setup.route.route_id)
        finally:
            out.duration_system_s = time.monotonic() - begun_s
            out.trajectory_hash = self._hash.hexdigest()
            out.driver = self._tally.document()
            if self._narration is not None:
                out.driver["turns"] = [asdict(turn) for turn in self._narration.turns.taken]
            if hasattr(self, "_scenarios"):
                out.scenarios = self._scenarios.states
            self._clean_up(role)
        return out

    # --- before ---------------------------------------------------------------------------------

    def _prepare(self, role: str) -> None:
        session, trace = self._session, self._setup.trace
        session.world.set_weather(_weather(self._setup.route.weather_at(0.0)))
        start = trace[0]
        transform = carla.Transform(
            carla.Location(start.x, start.y, start.z + 0.3), carla.Rotation(yaw=start.yaw)
        )
        self._meet_rhythm()
        ego = self._spawn(role, transform)
        self._tick = session.tick()  # the car stands in the world from here on
        self._start_s = self._tick.sim_time_s
        self._view = WorldView(session.world, ego.actor)
        self._road = Road(session.map)
        self._expert = MapExpert(session.map, trace, self._view)
        if self._setup.narrate is not None:
            lines = [line for lines in self._expert.stop_lines.values() for line in lines]
            self._narration = self._setup.narrate(lines)
        self._progress = RouteProgress(trace)
        self._criteria: list[Criterion] = make_criteria(
            self._setup.protocol, trace, self._road, self._expert.stop_lines, self._progress
        )
        configs = self._setup.route.scenarios if self._setup.scenarios else ()
        self._scenarios = ScenarioManager(
            session.world, session.map, trace, configs, self._setup.seed
        )
        if self._setup.light_timer is not None:
            self._setup.light_timer.start(session.world)
        self._pilot.start(role)

    def _meet_rhythm(self) -> None:
        """Cameras slower than a step begin with their first one: let it be one that is encoded."""
        period_s, step_s = self._setup.encoder_period_s, self._session.config.fixed_delta_s
        slow = any(s.is_camera and s.tick_s > step_s for s in self._setup.rig.sensors)
        if period_s is None or not slow:
            return
        self._session.meet_rhythm(period_s)

    def _spawn(self, role: str, transform: carla.Transform) -> Any:
        self._clear_start(transform)
        try:
            return self._session.spawn_ego(role, transform, self._setup.rig)
        except SpawnError:
            self._session.tick()
            self._clear_start(transform)
            return self._session.spawn_ego(role, transform, self._setup.rig)

    def _clear_start(self, transform: carla.Transform) -> None:
        """Traffic that stands where the car begins goes."""
        for actor in self._session.world.get_actors().filter("vehicle.*"):
            if actor.get_location().distance(transform.location) < _CLEAR_M:
                actor.destroy()

    # --- the loop -------------------------------------------------------------------------------

    def _loop(self) -> None:
        out = self._outcome
        tick = self._tick
        while True:
            state = self._view.read(tick.snapshot)
            now_s = tick.sim_time_s - self._start_s
            events = self._judge(tick, state, now_s)
            done = self._is_over()
            if done:
                events += self._finish(tick, state, now_s)
            out.events += events
            self._scenarios.step(tick.sim_time_s, state, self._progress.distance_m)
            answer = self._drive(tick, state)
            self._tell(tick, state, now_s, answer, events)
            out.duration_game_s = now_s
            out.completion = self._progress.percent
            out.num_ticks += 1
            self._setup.on_progress(out.completion, now_s)
            if done:
                out.reached = self._progress.reached
                return
            if out.num_ticks % _WEATHER_EVERY == 0 and len(self._setup.route.weathers) > 1:
                weather = self._setup.route.weather_at(self._progress.percent)
                self._session.world.set_weather(_weather(weather))
            tick = self._session.tick()

    def _judge(self, tick: Tick, state: WorldState, now_s: float) -> list[Event]:
        self._history.append((tick.frame, now_s, state.ego))
        for body in (state.ego, *state.actors):
            at, v = body.pose, body.velocity
            self._hash.update(struct.pack("<6d", at.x, at.y, at.z, at.yaw, v[0], v[1]))
        situation = self._situation(tick, state, now_s)
        self._progress.step(situation)
        events: list[Event] = []
        for criterion in self._criteria:
            events += criterion.step(situation)
        return events

    def _finish(self, tick: Tick, state: WorldState, now_s: float) -> list[Event]:
        situation = self._situation(tick, state, now_s)
        return [e for criterion in self._criteria for e in criterion.finish(situation)]

    def _situation(self, tick: Tick, state: WorldState, now_s: float) -> Situation:
        return Situation(
            frame=tick.frame,
            sim_time_s=now_s,
            ego=state.ego,
            lights=state.lights,
            stop_signs=state.stop_signs,
            collisions=_collisions(tick.events, self._setup.info.role),
            speed_limit_mps=state.speed_limit_mps,
            traffic_speed_mps=state.traffic_speed_mps,
        )

    def _is_over(self) -> bool:
        failures = [c.failure for c in self._criteria if c.failure]
        if self._progress.reached:
            return True
        if self._setup.helper is not None and self._setup.helper.is_hopeless:
            failures.append(BLOCKED)
        if failures:
            self._outcome.failure = failures[0]
        return bool(failures)

    def _drive(self, tick: Tick, state: WorldState) -> Answer:
        due = is_due(tick.stamp_ns, PLAN_PERIOD_S)
        if due:
            self._decision = self._expert.decide(state, tick.sim_time_s)
            self._expert_view = self._expert.explain(
                self._decision, state, tick.sim_time_s - self._start_s
            )
            if self._setup.light_timer is not None:
                self._setup.light_timer.step(self._session.world, self._expert_view)
            if self._narration is not None:
                self._words = self._narration.step(
                    self._decision, self._expert_view, state, tick.sim_time_s - self._start_s
                )
        if self._narration is not None:
            self._narration.turns.step(state.ego.pose)
        self._setup.on_time(tick.sim_time_s - self._start_s)
        answer = self._pilot.answer(
            tick,
            state.ego,
            self._published() if due else None,
            self._expert_view.far_node if self._expert_view else None,
            self._words,
        )
        self._tally.step(answer.driver, tick.sim_time_s - self._start_s)
        self._apply(tick, state, answer)
        return answer

    def _published(self) -> Decision | None:
        """What this process publishes as the plan; nothing where another process drives."""
        if self._decision is None or self._setup.driver in DRIVERS_ELSEWHERE:
            return None
        return straight_ahead(self._decision) if self._setup.driver == SOURCE else self._decision

    def _apply(self, tick: Tick, state: WorldState, answer: Answer) -> None:
        asked = _view_of(answer.control)
        control = answer.control
        now_s = tick.sim_time_s - self._start_s
        if self._setup.helper is not None and self._decision is not None:
            entry = TickEntry(
                frame=tick.frame,
                sim_time_s=now_s,
                ego=state.ego,
                control=asked,
                expert=self._expert_view,
            )
            asked = self._setup.helper.apply(entry, self._decision.side_m)
        given = asked
        if self._setup.control_filter is not None:
            given = self._setup.control_filter.apply(now_s, state.ego.speed_mps, asked)
        if given is not asked or self._setup.helper is not None:
            control = carla.VehicleControl(
                throttle=given.throttle,
                steer=given.steer,
                brake=given.brake,
                hand_brake=given.hand_brake,
                reverse=given.reverse,
                manual_gear_shift=control.manual_gear_shift,
                gear=control.gear,
            )
        self._control, self._asked = given, asked
        self._session.apply_control(self._setup.info.role, control)

    def _tell(
        self, tick: Tick, state: WorldState, now_s: float, answer: Answer, events: Sequence[Event]
    ) -> None:
        if not self._setup.observers:
            return
        entry = TickEntry(
            frame=tick.frame,
            sim_time_s=now_s,
            ego=state.ego,
            control=self._control,
            asked=self._asked,
            desired_speed_mps=answer.desired_speed_mps,
            plan=answer.plan or (self._expert_view.plan if self._expert_view else None),
            actors=state.actors,
            lights=state.lights,
            stop_signs=state.stop_signs,
            route_index=self._progress.index,
            route_completion=self._progress.percent,
            infractions=tuple(_infraction(e) for e in events),
            expert=self._expert_view,
            planner_state=answer.state,
            instruction=self._words.instruction if self._words else "",
            latency_s=answer.latency_s,
            perturbation=self._control.steer - self._asked.steer,
            prediction=answer.prediction,
            driver=answer.driver,
        )
        for observer in self._setup.observers:
            observer.on_tick(tick, entry)

    # --- after ----------------------------------------------------------------------------------

    def _clean_up(self, role: str) -> None:
        steps: list[Callable[[], None]] = [self._setup.on_over, self._pilot.end]
        if hasattr(self, "_scenarios"):
            steps.insert(1, self._scenarios.clean_up)
        if role in self._session.egos:
            steps.append(lambda: self._session.destroy_ego(role))
        for step in steps:
            try:
                step()
            except RuntimeError as error:
                _log.warning("cleaning up after %s: %s", self._setup.route.route_id, error)


def _collisions(events: Sequence[SensorEvent], role: str) -> list[Collision]:
    return [
        Collision(
            frame=e.data.frame, actor_id=e.data.other_actor.id, type_id=e.data.other_actor.type_id
        )
        for e in events
        if e.role == role and e.sensor_id == COLLISION_ID
    ]


def _view_of(control: carla.VehicleControl) -> ControlView:
    return ControlView(
        throttle=control.throttle,
        steer=control.steer,
        brake=control.brake,
        hand_brake=control.hand_brake,
        reverse=control.reverse,
    )


def _infraction(event: Event) -> Infraction:
    return Infraction(
        kind=event.kind,
        sim_time_s=event.sim_time_s,
        x=event.x,
        y=event.y,
        message=event.message,
        actor_id=event.actor_id,
    )


def _weather(values: dict[str, float]) -> carla.WeatherParameters:
    weather = carla.WeatherParameters()
    for name, value in values.items():
        setattr(weather, name, value)
    return weather
