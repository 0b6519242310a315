# SPDX-License-Identifier: Apache-2.0
"""The bridge standing alone: a town, its vehicles, and a loop that steps them.

Reads ``config/bridge.yaml``; ``ros2 run flad_carla bridge --config config/bridge.yaml``.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from flad_carla.bridge import BridgeConfig, ControlTimeout
from flad_carla.pacer import Pacer
from flad_carla.rig import Rig, load_rig
from flad_carla.session import DEFAULT_BLUEPRINT, CarlaSession, SessionConfig, Tick
from flad_carla.session_errors import SpawnError
from flad_common.config import from_yaml, knob, section
from flad_common.periods import is_due

if TYPE_CHECKING:
    from flad_carla.bridge_node import BridgeNode

_log = logging.getLogger(__name__)

_DEFAULT_RIG = Path("rigs/demo.yaml")
_CREW = ("encoder", "driver")


@dataclass(frozen=True, kw_only=True)
class EgoConfig:
    """One vehicle of the standing bridge."""

    role: str = knob("vehicle_0", unit="", doc="Role name: its topics are below /carla/<role>.")
    rig: Path = knob(_DEFAULT_RIG, unit="", doc="Its sensors, beside this file.")
    blueprint: str = knob(DEFAULT_BLUEPRINT, unit="", doc="CARLA blueprint of the vehicle.")
    spawn_point: int = knob(0, unit="", doc="Index into the town's spawn points.")
    driver: Literal["none", "expert"] = knob(
        "none", unit="", doc="expert: it publishes plans for random destinations; none: others do."
    )
    awaits: tuple[str, ...] = knob(
        (),
        unit="",
        doc="In lockstep, who must be there before the first step, besides the planner: encoder, "
        "driver.",
    )

    def __post_init__(self) -> None:
        if strange := sorted(set(self.awaits) - set(_CREW)):
            raise ValueError(f"{self.role}: awaits has {strange}, allowed are {list(_CREW)}")


@dataclass(frozen=True, kw_only=True)
class BridgeLoopConfig:
    """Everything a standing bridge needs."""

    town: str = knob("", unit="", doc="Town to load, or an .xodr file; empty: take what is there.")
    egos: tuple[EgoConfig, ...] = knob((EgoConfig(),), unit="", doc="The vehicles.")
    session: SessionConfig = section(SessionConfig, doc="Where the simulator is.")
    bridge: BridgeConfig = section(BridgeConfig, doc="Lockstep or realtime.")
    plan_period_s: float = knob(0.1, unit="s", doc="The expert plans at multiples of it.")

    def __post_init__(self) -> None:
        roles = [ego.role for ego in self.egos]
        if not roles or len(set(roles)) != len(roles):
            raise ValueError(
                f"egos needs at least one vehicle, each with its own role; got {roles}"
            )


class BridgeLoop:
    """Spawns the vehicles and steps the world until told to stop."""

    def __init__(self, session: CarlaSession, config: BridgeLoopConfig, config_dir: Path) -> None:
        self._session = session
        self._config = config
        if config.town:
            session.load_town(config.town)
        else:
            session.go_synchronous()
        points = session.map.get_spawn_points()
        rigs = {ego.role: load_rig(_beside(config_dir, ego.rig)) for ego in config.egos}
        for ego in config.egos:
            if not 0 <= ego.spawn_point < len(points):
                raise SpawnError(
                    f"{ego.role}: spawn_point is {ego.spawn_point}, the town has {len(points)}"
                )
        session.meet_rhythm(max(rig.slowest_camera_s for rig in rigs.values()))
        for ego in config.egos:
            session.spawn_ego(ego.role, points[ego.spawn_point], rigs[ego.role], ego.blueprint)
        session.tick()  # from here on the vehicles stand in the world
        self._log_plan()

    def run(self, node: BridgeNode, drivers: Sequence[Callable[[Tick], None]] = ()) -> None:
        """Step for ever; ends by an exception, KeyboardInterrupt among them.

        ``drivers`` are called with every step for which a plan is due, after it was published.
        """
        self._drivers = drivers
        step = self._lockstep if self._config.bridge.mode == "lockstep" else self._realtime
        pacer = Pacer(self._config.session.fixed_delta_s)
        while True:
            node.wait_while_paused()
            step(node, pacer)

    def _lockstep(self, node: BridgeNode, pacer: Pacer) -> None:
        """Whoever is missing holds the world; that is said again and again, and waited for."""
        tick = self._session.tick()
        published = False
        while True:
            try:
                if not published:
                    node.publish(tick)
                    self._plan(tick)
                    published = True
                node.collect_and_apply(tick)
                return
            except ControlTimeout as error:
                _log.warning("%s", error)

    def _realtime(self, node: BridgeNode, pacer: Pacer) -> None:
        tick = self._session.tick()
        node.publish(tick)
        self._plan(tick)
        due_s = pacer.next_due_s()
        node.spin_for(max(0.001, due_s - time.monotonic()))
        node.note_lateness(pacer.num_late, pacer.worst_lateness_s)
        node.collect_and_apply(tick)

    def _plan(self, tick: Tick) -> None:
        if is_due(tick.stamp_ns, self._config.plan_period_s):
            for driver in self._drivers:
                driver(tick)

    def _log_plan(self) -> None:
        c = self._config
        lines = [
            f"bridge to {c.session.address}, {c.bridge.mode}, {c.session.fixed_delta_s:g} s steps, "
            f"{self._session.map.name}"
        ]
        for role, ego in self._session.egos.items():
            lines.append(f"  /carla/{role}  {ego.blueprint}")
            lines += [f"    {s.id}  {_brief(ego.rig, s.id)}" for s in ego.rig.sensors]
        _log.info("%s", "\n".join(lines))


def parse_arguments(arguments: list[str]) -> tuple[BridgeLoopConfig, Path]:
    """The configuration that a command line asks for, and the folder its paths are beside.

    Raises:
        ValueError: on a config file that is none.
    """
    parser = argparse.ArgumentParser(
        prog="bridge", description="Bridge from CARLA 0.9.16 (or flad_sim) to ROS 2."
    )
    parser.add_argument("--config", type=Path, help="YAML file (default: one vehicle, no town)")
    parser.add_argument("--host", help="address of the simulator")
    parser.add_argument("--port", type=int, help="its RPC port")
    parser.add_argument("--town", help="town to load, or an .xodr file")
    parser.add_argument("--mode", choices=["lockstep", "realtime"], help="how time passes")
    parser.add_argument("--rig", type=Path, help="rig of every vehicle")
    given = parser.parse_args(arguments)
    config, folder = BridgeLoopConfig(), Path("config")
    if given.config is not None:
        config, folder = from_yaml(BridgeLoopConfig, given.config), given.config.parent
    session, bridge, egos = config.session, config.bridge, config.egos
    if given.host is not None:
        session = replace(session, host=given.host)
    if given.port is not None:
        session = replace(session, port=given.port)
    mode: Literal["lockstep", "realtime"] | None = given.mode
    if mode is not None:
        bridge = replace(bridge, mode=mode)
    if given.rig is not None:
        egos = tuple(replace(ego, rig=given.rig.resolve()) for ego in egos)
    town = config.town if given.town is None else given.town
    return replace(config, session=session, bridge=bridge, egos=egos, town=town), folder


def _beside(folder: Path, path: Path) -> Path:
    return path if path.is_absolute() else folder / path


def _brief(rig: Rig, sensor_id: str) -> str:
    spec = next(s for s in rig.sensors if s.id == sensor_id)
    if not spec.is_camera:
        return spec.type
    get = spec.attributes.get
    return f"{spec.type} {get('image_size_x', 800)}x{get('image_size_y', 600)}"
