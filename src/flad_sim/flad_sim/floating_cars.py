# SPDX-License-Identifier: Apache-2.0
"""Floating-car traces: trips over a town's roads, driven by SUMO alone, as one file of arrays.

What SWIFT learns movement and dwell times from (Sec. 4.1 of the paper). Nothing is rendered and no
client is needed: an hour of a town takes some seconds. The same seed gives the same file.
"""

from __future__ import annotations

import json
import math
import random
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import libsumo
import numpy as np

from flad_sim.towns import load_town
from flad_sim.traffic.errors import TrafficError
from flad_sim.traffic.sumo_net import SumoNet, read_sumo_net

SCHEMA, SCHEMA_VERSION = "flad.traces", 1
_STEP_S = 0.5
_LEAST_LINKS = 3
_TRIES = 20
_DAY_S = 1800.0
"""Demand rises and falls once in this time."""
_TYPES = """<additional>
<vType id="car" accel="2.2" decel="4.0" sigma="0.3" speedFactor="normc(0.97,0.06,0.8,1.1)"/>
<vType id="truck" accel="1.2" decel="3.8" sigma="0.3" length="8.5" maxSpeed="22"
 speedFactor="normc(0.9,0.05,0.75,1.0)"/>
</additional>"""


@dataclass(frozen=True, kw_only=True)
class TraceConfig:
    """Which trips; the values stand in the file's ``about``."""

    town: str = "Grid"
    minutes: float = 60.0
    per_hour: float = 1500.0
    """Trips that begin."""
    wave: float = 0.5
    """How much demand rises and falls, as a share."""
    trucks: float = 0.1
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("minutes", "per_hour"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"{name} must be positive, got {value}")
        for name in ("wave", "trucks"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")


def record_traces(config: TraceConfig, out: Path) -> dict[str, int]:
    """Drive the trips and write ``out`` (``.npz``); returns how much it holds.

    The arrays, where a second is a row of one vehicle: ``second``, ``vehicle``, ``x_m``, ``y_m``
    (CARLA's frame), ``speed_mps``, ``link`` (-1 inside a junction); the routes as
    ``route_links`` with ``route_begins`` (``[vehicles + 1]``); and the links: ``link_names``,
    ``link_length_m``, ``link_speed_mps``, ``link_ends_m`` (``[links, 4]``: where it begins and
    ends). Traffic lights by turn: ``turns`` (``[turns, 2]``, from link to link) and ``green``
    (``[seconds, turns]``). ``about`` is JSON.

    Raises:
        TrafficError: if SUMO does not start, or no trip is long enough.
        TownError: if there is no such town.
    """
    town = load_town(config.town)
    net = read_sumo_net(town.net_file)
    links = [e for e in net.car_edges() if not e.startswith(":")]
    number = {name: i for i, name in enumerate(links)}
    turns = _turns(net, number)
    done = _drive(config, net, number, list(turns.values()))
    rows, routes = done.rows, done.routes
    lanes = [net.lanes[net.edges[name][0]] for name in links]
    arrays: dict[str, Any] = {
        "second": np.array([r[0] for r in rows], dtype=np.int32),
        "vehicle": np.array([r[1] for r in rows], dtype=np.int32),
        "x_m": np.array([r[2] for r in rows], dtype=np.float32),
        "y_m": np.array([r[3] for r in rows], dtype=np.float32),
        "speed_mps": np.array([r[4] for r in rows], dtype=np.float32),
        "link": np.array([r[5] for r in rows], dtype=np.int16),
        "route_links": np.array([i for route in routes for i in route], dtype=np.int16),
        "route_begins": np.cumsum([0, *(len(route) for route in routes)]).astype(np.int64),
        "link_names": np.array(links),
        "link_length_m": np.array([lane.length for lane in lanes]),
        "link_speed_mps": np.array([lane.speed_mps for lane in lanes]),
        "link_ends_m": np.array([[*lane.points[0, :2], *lane.points[-1, :2]] for lane in lanes]),
        "turns": np.array(list(turns), dtype=np.int16).reshape(-1, 2),
        "green": np.array(done.green, dtype=np.int8).reshape(-1, len(turns)),
    }
    about = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, **asdict(config)}
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial.npz")
    np.savez_compressed(partial, about=np.array(json.dumps(about)), **arrays)
    partial.replace(out)
    return {"vehicles": len(routes), "seconds": len(rows), "links": len(links)}


def _turns(net: SumoNet, number: dict[str, int]) -> dict[tuple[int, int], tuple[str, int]]:
    """Turns that a traffic light rules: the light, and which of its signals."""
    found: dict[tuple[int, int], tuple[str, int]] = {}
    for of_lane in net.links.values():
        for link in of_lane:
            start, end = (number.get(net.lanes[i].edge) for i in (link.from_lane, link.to_lane))
            if link.light and start is not None and end is not None:
                found.setdefault((start, end), (link.light, link.light_index))
    return dict(sorted(found.items()))


@dataclass(frozen=True, slots=True)
class _Driven:
    rows: list[tuple[int, int, float, float, float, int]]
    routes: list[list[int]]
    green: list[list[bool]]


def _drive(
    config: TraceConfig, net: SumoNet, number: dict[str, int], signals: list[tuple[str, int]]
) -> _Driven:
    rng = random.Random(config.seed)
    links = sorted(number)
    done = _Driven([], [], [])
    rows, routes = done.rows, done.routes
    with tempfile.TemporaryDirectory(prefix="flad_sim_") as folder:
        types = Path(folder) / "types.add.xml"
        types.write_text(_TYPES, encoding="utf-8")
        try:
            libsumo.start(_command(net.path, types, config.seed))
        except Exception as error:  # libsumo raises several unrelated types
            raise TrafficError(f"SUMO does not start with {net.path}: {error}") from error
    try:
        for step in range(int(config.minutes * 60.0 / _STEP_S)):
            now_s = step * _STEP_S
            rate = 1.0 + config.wave * math.sin(2.0 * math.pi * now_s / _DAY_S)
            if rng.random() < rate * config.per_hour / 3600.0 * _STEP_S:
                kind = "truck" if rng.random() < config.trucks else "car"
                route = _trip(rng, links, kind)
                name = str(len(routes))
                libsumo.route.add(name, route)
                libsumo.vehicle.add(name, name, typeID=kind, departSpeed="0", departPos="base")
                routes.append([number[link] for link in route])
            libsumo.simulationStep()
            if step % int(1.0 / _STEP_S):
                continue
            letters = {k: libsumo.trafficlight.getRedYellowGreenState(k) for k, _ in signals}
            done.green.append([letters[light][i] in "Gg" for light, i in signals])
            for name in libsumo.vehicle.getIDList():
                x_m, y_m = net.to_carla(*libsumo.vehicle.getPosition(name))
                here = number.get(libsumo.vehicle.getRoadID(name), -1)
                speed = libsumo.vehicle.getSpeed(name)
                rows.append((int(now_s), int(name), x_m, y_m, speed, here))
    finally:
        libsumo.close()
    return done


def _trip(rng: random.Random, links: list[str], kind: str) -> list[str]:
    """A quickest way between two random links that is more than a turn."""
    for _ in range(_TRIES):
        start, end = rng.sample(links, 2)
        found = libsumo.simulation.findRoute(start, end, kind)
        if len(found.edges) >= _LEAST_LINKS:
            return list(found.edges)
    raise TrafficError(
        f"no way of {_LEAST_LINKS} links was found between {_TRIES} pairs of links; this town's "
        "roads do not hang together"
    )


def _command(net: Path, types: Path, seed: int) -> list[str]:
    return [
        "sumo",
        *("--net-file", str(net), "--additional-files", str(types)),
        *("--step-length", str(_STEP_S), "--seed", str(seed & 0x7FFFFFFF)),
        *("--time-to-teleport", "120", "--collision.action", "none"),
        *("--no-step-log", "true", "--no-warnings", "true", "--duration-log.disable", "true"),
        *("--xml-validation", "never", "--xml-validation.net", "never"),
    ]
