# SPDX-License-Identifier: Apache-2.0
"""A fleet's account shows what got lost, what came twice and what nobody asked."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from flad_bringup.bench import fleet
from flad_bringup.bench.fleet_tally import Asked, FleetTally
from flad_carla.bridge_loop import BridgeLoopConfig
from flad_carla.rig import load_rig
from flad_common.config import from_yaml, to_yaml
from flad_edge.service.requests import Outcome


def _asked(vehicle, number):
    return Asked(vehicle, "s", number)


def test_every_request_ends_once_or_it_shows():
    tally = FleetTally()
    for number in range(4):
        tally.asked(_asked("a", number))
    tally.ended(_asked("a", 0), Outcome.ANSWERED, 0.01, 0)
    tally.ended(_asked("a", 1), Outcome.SHED, 0.0, 808)
    assert (tally.num_asked, tally.num_open, tally.num_unaccounted) == (4, 2, 2)
    tally.ended(_asked("a", 2), Outcome.ANSWERED, 0.03, 0)
    tally.ended(_asked("a", 3), Outcome.ANSWERED, 0.02, 0)
    assert tally.num_unaccounted == 0
    tally.ended(_asked("a", 3), Outcome.ANSWERED, 0.02, 0)  # twice
    tally.ended(_asked("b", 3), Outcome.REFUSED, 0.0, 802)  # nobody asked
    assert (tally.num_open, tally.num_unaccounted) == (0, 2)
    tally.asked(_asked("b", 3))  # the ear heard the answer first
    assert tally.num_unaccounted == 1
    assert tally.per_vehicle() == {"a": 4, "b": 1}
    assert tally.edge_latency_s(50.0) == pytest.approx(0.02)
    assert tally.refusals == {808: 1, 802: 1}


def test_figures_say_what_the_slowest_vehicle_got():
    tally = FleetTally()
    assert math.isnan(tally.vehicle_latency_s(99.0))
    tally.drove(math.nan)  # nobody drove that frame
    tally.drove(0.2)
    for number in range(50):
        for vehicle in ("a", "b")[: 1 + number % 2]:
            tally.asked(_asked(vehicle, number))
            tally.ended(_asked(vehicle, number), Outcome.ANSWERED, 0.01, 0)
    watch, cpu_s = SimpleNamespace(tally=tally), {"encoder": 12.0, "edge": 3.0}
    rows = fleet.rows(watch, asked=75, driven_s=10.0, took_s=30.0, cpu_s=cpu_s)
    values = {row.name: row.value for row in rows}
    assert values["fleet_rate_hz"] == pytest.approx(2.5)
    assert values["fleet_rate_wall_hz"] == pytest.approx(2.5)
    assert values["fleet_answered_share"] == 1.0
    assert (values["fleet_cpu_encoder"], values["fleet_cpu_all"]) == (1.2, 1.5)
    assert values["fleet_vehicle_latency_p99"] == pytest.approx(0.2)
    (promise,) = [row for row in rows if row.bar is not None]
    assert (promise.name, promise.holds) == ("fleet_unaccounted", True)


def test_the_bridge_takes_the_fleet_and_keeps_its_vehicles_apart(tmp_path, workspace):
    roles = ["vehicle_0", "vehicle_1", "vehicle_2"]
    path = tmp_path / "bridge.yaml"
    shipped = load_rig(workspace.config / "rigs/encoder.yaml")
    rig_file = tmp_path / "rig.yaml"
    rig_file.write_text(to_yaml(fleet.frame_rig(shipped)))
    path.write_text(fleet.bridge_yaml(roles, rig_file))
    config = from_yaml(BridgeLoopConfig, path)
    assert [ego.role for ego in config.egos] == roles
    assert len({ego.spawn_point for ego in config.egos}) == 3
    assert all(ego.awaits == ("encoder", "driver") for ego in config.egos)
    assert config.bridge.mode == "lockstep"
    rig = load_rig(rig_file)
    assert rig.slowest_camera_s == 0.2 > shipped.slowest_camera_s
    assert [s.id for s in rig.sensors] == [s.id for s in shipped.sensors]
    assert all(ego.rig.is_file() and ego.driver == "none" for ego in config.egos)
