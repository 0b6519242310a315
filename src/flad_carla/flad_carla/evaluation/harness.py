# SPDX-License-Identifier: Apache-2.0
"""A whole evaluation: every route and repetition, one results file.

It starts the simulator (unless given one) and the planner itself. What goes wrong on a route fails
that route, and the next one begins in a fresh simulator.
"""

from __future__ import annotations

import dataclasses
import datetime
import logging
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import carla

from flad_carla.evaluation.checkpoint import Checkpoint
from flad_carla.evaluation.edge_loss import EdgeLoss
from flad_carla.evaluation.language_driver import LANGUAGE_DRIVERS, LanguageDriver
from flad_carla.evaluation.narration import RouteNarration
from flad_carla.evaluation.pilot import Pilot
from flad_carla.evaluation.protocol import PROTOCOLS
from flad_carla.evaluation.road import LanePoint
from flad_carla.evaluation.route_run import (
    COLLISION_ID,
    DRIVERS_ELSEWHERE,
    LightTimer,
    RouteRun,
    RunOutcome,
    RunSetup,
)
from flad_carla.evaluation.routes import RouteConfig, read_routes
from flad_carla.evaluation.statistics import (
    NOT_SET_UP,
    SIMULATION_CRASHED,
    Json,
    RouteOutcome,
    route_record,
)
from flad_carla.evaluation.venue import Venue, VenueConfig
from flad_carla.report.town_shape import lanes_from_map
from flad_carla.rig import Rig, SensorSpec, load_rig
from flad_carla.route_planner import RouteError, RoutePlanner
from flad_carla.run_log import (
    ControlFilter,
    Helper,
    LaneShape,
    Observer,
    RoutePoint,
    RunInfo,
    RunResult,
)
from flad_common.error_codes import FladError

_log = logging.getLogger(__name__)

_COLLISION = SensorSpec(id=COLLISION_ID, type="sensor.other.collision")
EMPTY_RIG = Rig(description="no sensors; the expert needs none", sensors=())
ROLE = "vehicle_0"
DRIVERS = ("expert", "constant", "external", *LANGUAGE_DRIVERS)


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """What is evaluated, and where."""

    routes: Path
    only: tuple[str, ...] = ()
    driver: Literal["expert", "constant", "external", "adllm", "adm", "blind"] = "expert"
    protocol: str = "lb1.0"
    repetitions: int = 1
    seed: int = 0
    rig: Path | None = None
    scenarios: bool = True
    json: Path | None = None
    resume: bool = False
    venue: VenueConfig = field(default_factory=VenueConfig)

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"protocol is {self.protocol!r}, allowed are {list(PROTOCOLS)}")
        if (self.driver in LANGUAGE_DRIVERS) != (self.venue.language is not None):
            raise ValueError(f"driver is {self.driver!r}, venue.language is {self.venue.language}")
        if self.repetitions < 1:
            raise ValueError(f"repetitions must be at least 1, got {self.repetitions}")


class Progress(Protocol):
    """Told how far the evaluation is."""

    def route_begins(self, number: int, count: int, name: str) -> None:
        """Route run ``number`` (from 0) of ``count``."""

    def route_moves(self, percent: float, sim_s: float) -> None:
        """The route has been driven to ``percent``, ``sim_s`` seconds of game time."""

    def route_ends(self, record: Json) -> None:
        """The route has this record."""


class Silent:
    """A progress that nobody sees."""

    def route_begins(self, number: int, count: int, name: str) -> None:
        """Nothing."""

    def route_moves(self, percent: float, sim_s: float) -> None:
        """Nothing."""

    def route_ends(self, record: Json) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True)
class _Job:
    route: RouteConfig
    index: int  # in the file
    repetition: int

    @property
    def name(self) -> str:
        return f"{self.route.route_id}_rep{self.repetition}"


class Evaluation:
    """One evaluation; :meth:`run` drives it from the first missing route to the last.

    Args:
        config: what and where.
        observers: told of every tick.
        control_filter: may change what the car is given.
        helper: may take the wheel from the driver.
        light_timer: may change the times of traffic lights.
        progress: told how far it is.
        should_stop: asked between routes.
    """

    def __init__(
        self,
        config: EvaluationConfig,
        *,
        observers: Sequence[Observer] = (),
        control_filter: ControlFilter | None = None,
        helper: Helper | None = None,
        light_timer: LightTimer | None = None,
        progress: Progress | None = None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._config = config
        self._observers = observers
        self._filter = control_filter
        self._helper = helper
        self._light_timer = light_timer
        self._progress = progress or Silent()
        self._should_stop = should_stop
        self._protocol = PROTOCOLS[config.protocol]
        routes = read_routes(config.routes, config.only)
        self._jobs = [
            _Job(route, i, r) for r in range(config.repetitions) for i, route in enumerate(routes)
        ]
        self._rig = _with_collision(EMPTY_RIG if config.rig is None else load_rig(config.rig))
        sensors = [s.type for s in self._rig.sensors if s.id != COLLISION_ID]
        self._scratch = tempfile.TemporaryDirectory(prefix="flad_evaluation_")
        self.checkpoint = Checkpoint(
            config.json or Path(self._scratch.name) / "results.json",
            self._protocol,
            [job.name for job in self._jobs],
            _config_text(config),
            sensors,
        )
        self._planners: dict[str, RoutePlanner] = {}
        self._shapes: dict[str, tuple[LaneShape, ...]] = {}

    def run(self) -> Json:
        """Drive what is missing; returns the global record.

        Raises:
            CheckpointError: if a file to be resumed belongs to another evaluation.
            FladError, TimeoutError: if no simulator can be had at all.
        """
        first = self.checkpoint.resume() if self._config.resume else 0
        self.checkpoint.write("Started")
        venue = Venue(self._config.venue, self._config.driver not in DRIVERS_ELSEWHERE, self._rig)
        try:
            for number in range(first, len(self._jobs)):
                if self._should_stop():
                    break
                job = self._jobs[number]
                self._progress.route_begins(number, len(self._jobs), job.name)
                record = self._drive(venue, job)
                self.checkpoint.add(record)
                self._progress.route_ends(record)
        finally:
            venue.close()
            self._scratch.cleanup()
        return self.checkpoint.global_record()

    def _drive(self, venue: Venue, job: _Job) -> Json:
        seed = self._config.seed + job.repetition
        begun_s = time.monotonic()
        try:
            place = venue.prepare(job.route.town, seed)
            planner = self._planner(job.route.town, place.session.map)
            trace = planner.trace([carla.Location(*p) for p in job.route.positions])
        except RouteError as error:
            return self._failed(job, NOT_SET_UP, str(error), begun_s)
        except (FladError, TimeoutError) as error:
            venue.reset()
            if venue.is_hopeless:
                raise
            return self._failed(job, SIMULATION_CRASHED, str(error), begun_s)
        info = self._info(job, place.session.map, trace, seed)
        encoder = self._config.venue.encoder
        setup = RunSetup(
            route=job.route,
            trace=trace,
            protocol=self._protocol,
            rig=self._rig,
            info=info,
            seed=seed,
            driver=self._config.driver,
            scenarios=self._config.scenarios,
            encoder_period_s=None if encoder is None else encoder.period_s,
            narrate=self._narrate(job, planner, trace, seed),
            on_time=self._edge_loss(venue, place.pilot),
            observers=self._observers,
            control_filter=self._filter,
            helper=self._helper,
            light_timer=self._light_timer,
            on_progress=self._progress.route_moves,
            on_over=venue.leave,
        )
        outcome = self._observed(RouteRun(place.session, place.pilot, setup), setup, job)
        if outcome.failure == SIMULATION_CRASHED:
            venue.reset()
        return self._record(job, outcome, trace[-1].distance)

    def _narrate(
        self, job: _Job, planner: RoutePlanner, trace: Sequence[Any], seed: int
    ) -> Callable[[Iterable[LanePoint]], RouteNarration] | None:
        language = self._config.venue.language
        if language is None:
            return None
        return lambda lines: RouteNarration(
            planner, trace, lines, language, seed=seed, route_id=job.route.route_id
        )

    def _edge_loss(self, venue: Venue, pilot: Pilot) -> Callable[[float], None]:
        language = self._config.venue.language
        if language is None or language.edge_loss is None:
            return lambda time_s: None
        return EdgeLoss(language.edge_loss, venue, pilot).step

    def _observed(self, run: RouteRun, setup: RunSetup, job: _Job) -> RunOutcome:
        """Drive between the observers' start and end; the end comes whatever happens."""
        started: list[Observer] = []
        outcome = RunOutcome(failure=SIMULATION_CRASHED, detail="interrupted")
        try:
            if self._filter is not None:
                self._filter.start(setup.info)
            if self._helper is not None:
                self._helper.start(setup.info)
            for observer in self._observers:
                observer.on_start(setup.info)
                started.append(observer)
            outcome = run.drive()
        finally:
            record = self._record(job, outcome, setup.trace[-1].distance)
            for observer in started:
                observer.on_end(_result(record))
        return outcome

    def _info(self, job: _Job, town_map: carla.Map, trace: Sequence[Any], seed: int) -> RunInfo:
        town, venue = job.route.town, self._config.venue
        if self._observers and town not in self._shapes:
            self._shapes[town] = lanes_from_map(town_map)
        origin = town_map.transform_to_geolocation(carla.Location(0.0, 0.0, 0.0))
        return RunInfo(
            route_id=f"RouteScenario_{job.route.route_id}",
            town=town,
            driver=self._config.driver,
            protocol=self._protocol.name,
            seed=seed,
            route_digest=job.route.digest,
            index=job.index,
            repetition=job.repetition,
            role=ROLE,
            commit=_commit(),
            started=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            route=tuple(
                RoutePoint(x=p.x, y=p.y, z=p.z, yaw=p.yaw, command=int(p.option)) for p in trace
            ),
            lanes=self._shapes.get(town, ()),
            weather=job.route.weather_at(0.0),
            step_s=venue.step_s,
            geo_origin=(origin.latitude, origin.longitude),
            rig=_without_collision(self._rig),
            encoder="" if venue.encoder is None else venue.encoder.model,
            driver_model=_driver_model(venue.language),
        )

    def _planner(self, town: str, town_map: carla.Map) -> RoutePlanner:
        if town not in self._planners:
            self._planners[town] = RoutePlanner(town_map)
        return self._planners[town]

    def _failed(self, job: _Job, failure: str, detail: str, begun_s: float) -> Json:
        _log.error("route %s: %s: %s", job.name, failure, detail)
        outcome = RunOutcome(
            failure=failure, detail=detail, duration_system_s=time.monotonic() - begun_s
        )
        return self._record(job, outcome, 0.0)

    def _record(self, job: _Job, outcome: RunOutcome, length_m: float) -> Json:
        return route_record(
            RouteOutcome(
                route_id=job.route.route_id,
                index=job.index,
                repetition=job.repetition,
                town=job.route.town,
                completion=outcome.completion,
                reached=outcome.reached,
                events=outcome.events,
                failure=outcome.failure,
                detail=outcome.detail,
                route_length_m=length_m,
                duration_game_s=round(outcome.duration_game_s, 3),
                duration_system_s=round(outcome.duration_system_s, 3),
                meta={
                    "seed": self._config.seed + job.repetition,
                    "trajectory_hash": outcome.trajectory_hash,
                    "num_ticks": outcome.num_ticks,
                    **({"scenarios": outcome.scenarios} if outcome.scenarios else {}),
                    **({"driver": outcome.driver} if outcome.driver else {}),
                },
            ),
            self._protocol,
        )


def _result(record: Json) -> RunResult:
    scores, meta = record["scores"], record["meta"]
    return RunResult(
        status=record["status"],
        driving_score=scores["score_composed"],
        route_completion=scores["score_route"],
        infraction_penalty=scores["score_penalty"],
        infractions=record["infractions"],
        route_length_m=meta["route_length"],
        duration_s=meta["duration_game"],
        duration_system_s=meta["duration_system"],
    )


def _with_collision(rig: Rig) -> Rig:
    return Rig(description=rig.description, sensors=(*rig.sensors, _COLLISION))


def _without_collision(rig: Rig) -> Rig:
    return dataclasses.replace(rig, sensors=rig.sensors[:-1])


def _config_text(config: EvaluationConfig) -> dict[str, Any]:
    """What a resumed run must share, as text."""
    venue = config.venue
    return {
        "routes": config.routes.name,
        "driver": config.driver,
        "protocol": config.protocol,
        "repetitions": config.repetitions,
        "seed": config.seed,
        "rig": None if config.rig is None else config.rig.stem,
        "scenarios": config.scenarios,
        "mode": venue.mode,
        "traffic": venue.traffic,
        "walkers": venue.walkers,
        "simulator": "flad_sim" if venue.host is None else "given",
        "encoder": "off" if venue.encoder is None else venue.encoder.model,
        **({} if venue.language is None else _language_text(venue.language)),
    }


def _language_text(language: LanguageDriver) -> dict[str, Any]:
    loss = language.edge_loss
    return {
        "adllm": str(language.adllm or ""),
        "adm": str(language.adm or ""),
        "phrasings": language.phrasings,
        "notice": language.notice,
        "instruction": language.instruction,
        "wrong_turns": language.wrong_turns,
        "edge_loss": None if loss is None else [loss.lost_s, loss.back_s],
    }


def _driver_model(language: LanguageDriver | None) -> str:
    if language is None:
        return ""
    return ", ".join(p.name for p in (language.adllm, language.adm) if p is not None)


def _commit() -> str:
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=5.0,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


__all__ = ["Evaluation", "EvaluationConfig", "Progress", "Silent"]
