# SPDX-License-Identifier: Apache-2.0
"""Where routes are driven: a simulator in the right town, and the nodes that answer."""

from __future__ import annotations

import logging
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flad_carla.bridge import BridgeConfig
from flad_carla.evaluation.background import Background, populate
from flad_carla.evaluation.domain import own_domain
from flad_carla.evaluation.language_driver import FRAME_PERIOD_S, LanguageDriver
from flad_carla.evaluation.pilot import Pilot
from flad_carla.evaluation.processes import (
    EncoderOption,
    EncoderSensors,
    start_driver,
    start_edge,
    start_encoder,
    start_planner,
    start_simulator,
)
from flad_carla.evaluation.route_run import PLAN_PERIOD_S
from flad_carla.rig import Rig
from flad_carla.session import CarlaSession, SessionConfig
from flad_carla.session_errors import ServerUnreachable, TownError
from flad_common.error_codes import FladError
from flad_common.ports import free_ports
from flad_common.supervision import Child, Supervisor

_log = logging.getLogger(__name__)

_MAX_FAILURES = 3
_ROLE = "vehicle_0"


@dataclass(frozen=True, kw_only=True)
class VenueConfig:
    """The world around the route."""

    host: str | None = None  # None: a simulator is started here
    port: int | None = None
    town_dir: Path | None = None
    traffic: int = 0
    walkers: int = 0
    mode: Literal["lockstep", "realtime"] = "lockstep"
    step_s: float = 0.05
    domain_id: int | None = None  # None: one that nobody else uses
    logs: Path | None = None
    encoder: EncoderOption | None = None  # None: no encoder runs
    language: LanguageDriver | None = None  # None: nobody drives by words
    is_monitored: bool = False  # whether the planner slows down by the encoder's detections

    def __post_init__(self) -> None:
        for name in ("traffic", "walkers"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.domain_id is not None and not 0 <= self.domain_id <= 101:
            raise ValueError(f"domain_id must be in 0..101, got {self.domain_id}")
        if self.encoder is not None:
            steps = self.encoder.period_s / self.step_s
            if abs(steps - round(steps)) > 1e-6 or round(steps) < 1:
                raise ValueError(
                    f"the encoder's period must be a multiple of the step of {self.step_s:g} s, "
                    f"got {self.encoder.period_s:g}"
                )
        if self.is_monitored and self.encoder is None:
            raise ValueError("the collision monitor needs an encoder's detections: --encoder small")
        if self.language is not None:
            ratio = FRAME_PERIOD_S / self.encoder.period_s if self.encoder else 0.0
            if abs(ratio - round(ratio)) > 1e-6 or round(ratio) < 1:
                raise ValueError(
                    f"a language driver needs an encoder whose period divides {FRAME_PERIOD_S:g} "
                    f"s, got {self.encoder.period_s if self.encoder else 'none'}"
                )
        if self.town_dir is not None and not self.town_dir.is_dir():
            raise ValueError(f"town_dir {self.town_dir} is no folder")


@dataclass(frozen=True, slots=True)
class Place:
    """A town that is loaded, and who drives in it."""

    session: CarlaSession
    pilot: Pilot


class Venue:
    """Keeps simulator, session, planner and encoder alive as long as they fit the next route.

    Args:
        config: the world.
        plans: whether the plans are published here.
        rig: sensors of the vehicle, for the encoder.
    """

    def __init__(self, config: VenueConfig, plans: bool, rig: Rig) -> None:
        self._config = config
        self._plans = plans
        self._rig = rig
        self._folder = tempfile.TemporaryDirectory(prefix="flad_venue_")
        self._logs = config.logs or Path(self._folder.name)
        # Simulator and planner apart: a new simulator must not end the planner.
        self._simulators = Supervisor(self._logs)
        self._planners = Supervisor(self._logs)
        self._edges = Supervisor(self._logs)  # apart: it may be taken away on purpose
        self._simulator: Child | None = None
        self._planner: Child | None = None
        self._encoder: Child | None = None
        self._driver: Child | None = None
        self._edge: Child | None = None
        self._session: CarlaSession | None = None
        self._pilot: Pilot | None = None
        self._key: tuple[str, int] | None = None
        self._failures = 0
        self._exit = ExitStack()
        given = config.domain_id
        self._domain_id = self._exit.enter_context(own_domain()) if given is None else given
        self._background: Background | None = None

    @property
    def is_hopeless(self) -> bool:
        """Whether the simulator failed several times in a row."""
        return self._failures >= _MAX_FAILURES

    def prepare(self, town: str, seed: int) -> Place:
        """A fresh episode of ``town``.

        Raises:
            FladError, TimeoutError: if there is no simulator or it has no such town.
        """
        try:
            place = self._prepare(town, seed)
        except TownError:
            raise
        except ServerUnreachable:
            self._failures = _MAX_FAILURES  # it was given to us: nobody will start it
            raise
        except (FladError, TimeoutError):
            self._failures += 1
            raise
        self._failures = 0
        return place

    def _prepare(self, town: str, seed: int) -> Place:
        files = self._town_files(town)
        key = (town if files else "", seed)
        if self._session is not None and (key != self._key or not self._is_alive()):
            self.reset()
        if self._session is None:
            self._open(town, files, seed)
            self._key = key
        assert self._session is not None
        if self._pilot is not None and self._answers() and not self._has_edge():
            self._start_edge()  # the last route ended before it was back
        if self._pilot is not None and not self._answers():
            self._close("_pilot")  # its topics still hold the dead; the new one starts all anew
        given = self._config.host is not None
        self._session.load_town(files[0] if files and given else town)
        if self._pilot is None:
            self._pilot = self._make_pilot(self._session)
        if given:
            config = self._config
            self._background = populate(self._session, config.traffic, config.walkers, seed)
        return Place(self._session, self._pilot)

    def leave(self) -> None:
        """The route is over: nothing of it may move any more."""
        background, self._background = self._background, None
        if background is not None:
            background.close()

    def reset(self) -> None:
        """End session and simulator; the next route gets new ones."""
        self.leave()
        for name in ("_pilot", "_session"):
            self._close(name)
        self._simulators.stop()
        self._simulator = None

    def close(self) -> None:
        """End everything."""
        self.reset()
        self._planners.stop()
        self._edges.stop()
        self._exit.close()
        self._folder.cleanup()

    def _close(self, name: str) -> None:
        part = getattr(self, name)
        setattr(self, name, None)
        if part is not None:
            try:
                part.close()
            except RuntimeError as error:
                _log.warning("closing the %s: %s", name.strip("_"), error)

    def _open(self, town: str, files: list[Path], seed: int) -> None:
        config = self._config
        host, port = config.host or "127.0.0.1", config.port
        if config.host is None:
            port = port or free_ports(3).start
            name = str(files[0]) if files else town
            net = files[1] if len(files) > 1 else None
            self._simulator = start_simulator(
                self._simulators,
                town=name,
                net=net,
                port=port,
                seed=seed,
                vehicles=config.traffic,
                walkers=config.walkers,
            )
        self._session = CarlaSession(
            SessionConfig(
                host=host,
                port=port or 2000,
                fixed_delta_s=config.step_s,
                seed=seed,
                traffic_manager_port=free_ports().start,
            )
        )

    def _make_pilot(self, session: CarlaSession) -> Pilot:
        from flad_carla.evaluation.pilot_node import RosPilot  # ROS only where it is needed

        config = self._config
        if not self._answers():
            for child in self._planners.children:
                if not child.is_running:
                    kept = _put_aside(child.log_file)
                    _log.warning("%s has ended, is started again; its log is %s", child.name, kept)
            self._planners.stop()
            self._edges.stop()
            if config.language is not None and config.language.uses_edge:
                self._start_edge()
            self._planner = start_planner(
                self._planners,
                role=_ROLE,
                mode=config.mode,
                domain_id=self._domain_id,
                plan_period_s=PLAN_PERIOD_S if config.language is None else FRAME_PERIOD_S,
                monitored_s=config.encoder.period_s
                if config.is_monitored and config.encoder
                else 0.0,
            )
            if config.language is not None:
                self._driver = start_driver(
                    self._planners,
                    config.language,
                    role=_ROLE,
                    mode=config.mode,
                    domain_id=self._domain_id,
                )
            if config.encoder is not None:
                self._encoder = start_encoder(
                    self._planners,
                    config.encoder,
                    EncoderSensors.of(self._rig),
                    role=_ROLE,
                    mode=config.mode,
                    domain_id=self._domain_id,
                )
        return RosPilot(
            session,
            BridgeConfig(mode=config.mode),
            self._domain_id,
            plans=self._plans,
            encoder_period_s=None if config.encoder is None else config.encoder.period_s,
            frame_period_s=None if config.language is None else FRAME_PERIOD_S,
            has_edge=config.language is not None and config.language.uses_edge,
            check=self._check_nodes,
        )

    def _check_nodes(self) -> None:
        self._planners.check()
        self._edges.check()

    def _start_edge(self) -> None:
        assert self._config.language is not None
        self._edge = start_edge(self._edges, self._config.language, domain_id=self._domain_id)

    def lose_edge(self) -> None:
        """Kill the edge without warning."""
        if self._edge is not None:
            self._edges.kill_child(self._edge)
            self._edge = None
            _put_aside(self._logs / "edge.log")

    def regain_edge(self) -> None:
        """Start another edge."""
        if self._edge is None:
            self._start_edge()

    def _has_edge(self) -> bool:
        language = self._config.language
        needed = language is not None and language.uses_edge
        return not needed or (self._edge is not None and self._edge.is_running)

    def _answers(self) -> bool:
        """Whether the processes that answer the bridge run."""
        nodes = [self._planner]
        nodes += [] if self._config.encoder is None else [self._encoder]
        nodes += [] if self._config.language is None else [self._driver]
        return all(node is not None and node.is_running for node in nodes)

    def _is_alive(self) -> bool:
        return self._simulator is None or self._simulator.is_running

    def _town_files(self, town: str) -> list[Path]:
        """The town's OpenDRIVE file and SUMO network in ``town_dir``, where they are."""
        folder = self._config.town_dir
        if folder is None or not (folder / f"{town}.xodr").is_file():
            return []
        net = folder / f"{town}.net.xml"
        return [folder / f"{town}.xodr", *([net] if net.is_file() else [])]


def _put_aside(log: Path) -> Path:
    """Rename a log that another process is about to write anew."""
    number = 1
    while (kept := log.with_suffix(f".{number}.log")).exists():
        number += 1
    return log.rename(kept)
