# SPDX-License-Identifier: Apache-2.0
"""SUMO's simulation: started, stepped, populated, and told where the client's vehicles are.

libsumo holds one simulation per process; `SumoSimulation` owns it from construction to `close`.
Positions here are CARLA's; SUMO's own (front bumper, y north, angle from north) end in this file.
"""

from __future__ import annotations

import contextlib
import math
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import quoteattr

import libsumo

from flad_sim.traffic.errors import TrafficError
from flad_sim.traffic.fleet import VehicleKind, all_kinds
from flad_sim.traffic.sumo_net import SumoNet
from flad_sim.types import ClientVehicle

STEP_S = 0.05
_MIRROR = "client_"
_MIRROR_ROUTE = "client_route"
_BRAKE_LIGHT = 8  # SUMO's signal bit
_WATCHED = (
    libsumo.VAR_POSITION,
    libsumo.VAR_ANGLE,
    libsumo.VAR_SPEED,
    libsumo.VAR_SIGNALS,
    libsumo.VAR_LANE_ID,
    libsumo.VAR_LANEPOSITION,
    libsumo.VAR_ROUTE_INDEX,
)
_SPEED_MODE_NORMAL = 31  # SUMO's bits: it respects everything
_SPEED_MODE_HARD = 27  # all but its ordinary deceleration
_EMERGENCY_DECEL = 8.0  # m/s^2, dry road
_NOT_LIMITING_MPS = 1.0
_LANE_CHANGES_NORMAL, _LANE_CHANGES_NONE = 1621, 0  # SUMO's bits, its default and none
_SETTLED_M = 40.0  # a lane change takes 3 s
_open = False


@dataclass(slots=True)
class SumoVehicle:
    """One of SUMO's vehicles and its last known state."""

    key: str
    kind: VehicleKind
    color: tuple[int, int, int]
    route: list[str]
    x: float = 0.0  # front bumper, CARLA's frame
    y: float = 0.0
    yaw_deg: float = 0.0
    speed_mps: float = 0.0
    brake_light: bool = False
    lane: str = ""
    lane_pos_m: float = 0.0
    route_index: int = 0
    still_s: float = 0.0
    target_speed_mps: float = -1.0  # what it was last told, -1 to drive as it likes
    speed_mode: int = 31
    settled: bool = False  # too near to the end of its road to change lanes


@dataclass(slots=True)
class _Mirror:
    type_id: str
    extent: tuple[float, float, float] = field(default=(0.0, 0.0, 0.0))


class SumoSimulation:
    """One run of SUMO. Single-threaded."""

    def __init__(self, net: SumoNet, seed: int) -> None:
        global _open
        if _open:
            raise TrafficError(
                "this process already runs a SUMO simulation (libsumo holds only one): close the "
                "other Traffic first"
            )
        self.net = net
        self.kinds = all_kinds()
        self.vehicles: dict[str, SumoVehicle] = {}
        self._pending: dict[str, SumoVehicle] = {}
        self._mirrors: dict[str, _Mirror] = {}
        self._num_added = 0
        self._reachable = {
            lane: tuple(sorted({net.lanes[k.to_lane].edge for k in links}))
            for lane, links in net.links.items()
        }
        with tempfile.TemporaryDirectory(prefix="flad_sim_") as folder:
            types = Path(folder) / "types.add.xml"
            types.write_text(_types_xml(self.kinds), encoding="utf-8")
            try:
                libsumo.start(_command(net.path, types, seed))
            except Exception as error:  # libsumo raises several unrelated types
                raise TrafficError(
                    f"SUMO does not start with {net.path}: {error}; make the network again, or "
                    "give another with --net"
                ) from error
        _open = True
        libsumo.route.add(_MIRROR_ROUTE, [net.car_edges()[0]])

    def close(self) -> None:
        """End the simulation; doing it twice is allowed."""
        global _open
        if _open:
            libsumo.close()
            _open = False

    def add(
        self,
        kind: VehicleKind,
        color: tuple[int, int, int],
        route: list[str],
        lane_index: int,
        lane_pos_m: float,
        speed_mps: float,
    ) -> None:
        """Ask for a vehicle; it appears in the next step if there is room, else never."""
        key = f"sumo_{self._num_added}"
        self._num_added += 1
        libsumo.route.add(f"route_{key}", route)
        libsumo.vehicle.add(
            key,
            f"route_{key}",
            typeID=kind.type_id,
            departLane=str(lane_index),
            departPos=f"{lane_pos_m:.3f}",
            departSpeed=f"{speed_mps:.3f}",
        )
        self._pending[key] = SumoVehicle(key, kind, color, route)

    def remove(self, key: str) -> None:
        """Take a vehicle out; unknown keys are ignored."""
        if key in self.vehicles or key in self._pending:
            libsumo.vehicle.unsubscribe(key)  # else the next step asks for it and fails
            _forget(key)
            self.vehicles.pop(key, None)
            self._pending.pop(key, None)

    def step(self, mirrored: Sequence[ClientVehicle]) -> None:
        """Advance by `STEP_S` with the client's vehicles where they are now."""
        self._mirror(mirrored)
        libsumo.simulationStep()
        for key in libsumo.simulation.getArrivedIDList():
            self.vehicles.pop(key, None)
        for key in libsumo.simulation.getDepartedIDList():
            vehicle = self._pending.pop(key, None)
            if vehicle is not None:
                self.vehicles[key] = vehicle
                libsumo.vehicle.subscribe(key, _WATCHED)
        for key in self._pending:
            _forget(key)
        self._pending.clear()
        self._read()

    def limit_speed(self, vehicle: SumoVehicle, limit_mps: float, hard: bool) -> None:
        """Keep a vehicle at or below a speed; ``hard`` lets it brake as hard as it can."""
        v = vehicle.speed_mps
        if limit_mps > v + _NOT_LIMITING_MPS:
            target, mode = -1.0, _SPEED_MODE_NORMAL
        else:
            mode = _SPEED_MODE_NORMAL
            brake = vehicle.kind.decel
            if hard and v - limit_mps > brake * STEP_S:
                mode, brake = _SPEED_MODE_HARD, _EMERGENCY_DECEL
            target = max(limit_mps, v - brake * STEP_S, 0.0)
        if vehicle.speed_mode != mode:
            libsumo.vehicle.setSpeedMode(vehicle.key, mode)
            vehicle.speed_mode = mode
        if vehicle.target_speed_mps != target:
            libsumo.vehicle.setSpeed(vehicle.key, target)
            vehicle.target_speed_mps = target

    def limit_lanes(self, limits_mps: dict[str, float]) -> None:
        """Lower the speed limits of lanes where the map's are lower than the network's."""
        for lane_id, limit in limits_mps.items():
            if limit < self.net.lanes[lane_id].speed_mps:
                libsumo.lane.setMaxSpeed(lane_id, limit)

    def extend_routes(self, rng: random.Random, length_m: float) -> None:
        """Give every vehicle that nears its route's end a way to go on."""
        for vehicle in self.vehicles.values():
            if vehicle.route_index < len(vehicle.route) - 2 or vehicle.lane.startswith(":"):
                continue
            more = self.net.walk(rng, vehicle.route[-1], length_m, cycling=vehicle.kind.cycles)[1:]
            if more:
                # SUMO keeps the edges that are already driven in front of the new route
                libsumo.vehicle.setRoute(vehicle.key, vehicle.route[vehicle.route_index :] + more)
                vehicle.route = vehicle.route + more

    def settle_lanes(self, rng: random.Random, length_m: float) -> None:
        """Near the end of a road nobody changes lanes; who is in the wrong one goes elsewhere.

        SUMO would let them slide aside at the stop line, where there is no room.
        """
        for vehicle in self.vehicles.values():
            lane = self.net.lanes.get(vehicle.lane)
            if lane is None:
                continue
            settled = lane.length - vehicle.lane_pos_m < _SETTLED_M or lane.edge.startswith(":")
            if settled != vehicle.settled:
                vehicle.settled = settled
                libsumo.vehicle.setLaneChangeMode(
                    vehicle.key, _LANE_CHANGES_NONE if settled else _LANE_CHANGES_NORMAL
                )
            following = vehicle.route_index + 1
            if not settled or lane.edge.startswith(":") or following >= len(vehicle.route):
                continue
            reachable = self._reachable.get(vehicle.lane, ())
            if reachable and vehicle.route[following] not in reachable:
                way = self.net.walk(rng, rng.choice(reachable), length_m)
                libsumo.vehicle.setRoute(vehicle.key, [lane.edge, *way])
                vehicle.route = [*vehicle.route[:following], *way]

    def _read(self) -> None:
        results = libsumo.vehicle.getAllSubscriptionResults()
        for key in [k for k in self.vehicles if k not in results]:
            del self.vehicles[key]
        to_carla = self.net.to_carla
        for key, vehicle in self.vehicles.items():
            values = results[key]
            vehicle.x, vehicle.y = to_carla(*values[libsumo.VAR_POSITION])
            vehicle.yaw_deg = values[libsumo.VAR_ANGLE] - 90.0
            vehicle.speed_mps = values[libsumo.VAR_SPEED]
            vehicle.brake_light = bool(values[libsumo.VAR_SIGNALS] & _BRAKE_LIGHT)
            vehicle.lane = values[libsumo.VAR_LANE_ID]
            vehicle.lane_pos_m = values[libsumo.VAR_LANEPOSITION]
            vehicle.route_index = values[libsumo.VAR_ROUTE_INDEX]
            vehicle.still_s = vehicle.still_s + STEP_S if vehicle.speed_mps < 0.1 else 0.0

    def _mirror(self, mirrored: Sequence[ClientVehicle]) -> None:
        wanted = {f"{_MIRROR}{v.actor_id}": v for v in mirrored}
        for key in [k for k in self._mirrors if k not in wanted]:
            self._forget_mirror(key)
        for key, vehicle in wanted.items():
            if key in self._mirrors and self._mirrors[key].extent != vehicle.extent:
                self._forget_mirror(key)
            if key not in self._mirrors:
                self._add_mirror(key, vehicle)
            t = vehicle.pose.transform
            yaw = math.radians(t.yaw)
            x, y = self.net.to_sumo(
                t.x + vehicle.extent[0] * math.cos(yaw), t.y + vehicle.extent[0] * math.sin(yaw)
            )
            libsumo.vehicle.moveToXY(key, "", -1, x, y, t.yaw + 90.0, keepRoute=2)

    def _add_mirror(self, key: str, vehicle: ClientVehicle) -> None:
        type_id = f"type_{key}"
        if type_id not in libsumo.vehicletype.getIDList():
            libsumo.vehicletype.copy("DEFAULT_VEHTYPE", type_id)
        libsumo.vehicletype.setLength(type_id, max(0.5, 2.0 * vehicle.extent[0]))
        libsumo.vehicletype.setWidth(type_id, max(0.3, 2.0 * vehicle.extent[1]))
        libsumo.vehicletype.setHeight(type_id, max(0.3, 2.0 * vehicle.extent[2]))
        libsumo.vehicle.add(key, _MIRROR_ROUTE, typeID=type_id)
        libsumo.vehicle.setSpeedMode(key, 0)
        libsumo.vehicle.setLaneChangeMode(key, 0)
        self._mirrors[key] = _Mirror(type_id, vehicle.extent)

    def _forget_mirror(self, key: str) -> None:
        del self._mirrors[key]
        _forget(key)


def _forget(key: str) -> None:
    with contextlib.suppress(libsumo.TraCIException):  # SUMO may have dropped it already
        libsumo.vehicle.remove(key)


def _command(net: Path, types: Path, seed: int) -> list[str]:
    return [
        "sumo",
        *("--net-file", str(net), "--additional-files", str(types)),
        *("--step-length", str(STEP_S), "--seed", str(seed & 0x7FFFFFFF)),
        *("--time-to-teleport", "-1", "--collision.action", "none"),
        *("--lanechange.duration", "3", "--default.emergencydecel", "9"),
        *("--no-step-log", "true", "--no-warnings", "true", "--duration-log.disable", "true"),
        *("--xml-validation", "never", "--xml-validation.net", "never"),
    ]


def _types_xml(kinds: dict[str, VehicleKind]) -> str:
    rows = []
    for kind in kinds.values():
        x, y, z = (2.0 * v for v in kind.spec.extent)
        attributes = {
            "id": kind.type_id,
            "vClass": kind.sumo_class,
            "length": f"{x:.3f}",
            "width": f"{y:.3f}",
            "height": f"{z:.3f}",
            "minGap": f"{kind.min_gap_m}",
            "accel": f"{kind.accel}",
            "decel": f"{kind.decel}",
            "emergencyDecel": "9",
            "maxSpeed": f"{kind.top_speed_mps}",
            "sigma": "0.1",
            "tau": "1.2",
            "speedFactor": "normc(0.95,0.06,0.8,1.05)",
        }
        text = " ".join(f"{k}={quoteattr(v)}" for k, v in attributes.items())
        rows.append(f"<vType {text}/>")
    return "<additional>" + "".join(rows) + "</additional>"
