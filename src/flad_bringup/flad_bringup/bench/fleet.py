# SPDX-License-Identifier: Apache-2.0
"""Vehicles that drive at once in one town on one edge: is every request accounted for?

World, bridge, edge, and per vehicle an encoder, a driver and a planner are processes that talk over
DDS, in lockstep. An ear on both of the edge's topics notes every request and how it ended. Every 20
simulated seconds each vehicle is told something else. How well they drive is not what is measured.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tqdm import tqdm

from flad_bringup import topology
from flad_bringup.bench.fleet_node import FleetWatch
from flad_bringup.bench.rows import Row
from flad_carla.evaluation.domain import own_domain
from flad_carla.evaluation.driving_models import model_file as driving_model_file
from flad_carla.evaluation.processes import start_simulator
from flad_carla.rig import Rig, load_rig
from flad_common.config import to_yaml
from flad_common.ports import free_ports
from flad_common.supervision import Supervisor
from flad_edge.service.requests import Outcome
from flad_perception.scene_encoder import model_file
from flad_perception.weights_header import model_hash_of
from flad_planner.language.bank import Split, draw_arguments, load_bank
from flad_planner.language.kinds import Kind

SUMMARY = "several vehicles in one town on one edge: every request accounted for, rate, latency"
MINUTES = 14.0

_RIG = "rigs/encoder.yaml"
_FRAME_S = 0.2
_TELL_S = 20.0
_START_S = 600.0
_SILENT_S = 600.0
_LOOK_S = 1.0
_SETTLE_S = 30.0
_SPAWN_STRIDE = 9  # spawn points lie side by side on the same roads


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's arguments."""
    parser.add_argument("--town", default="Grid", help="(default: %(default)s)")
    parser.add_argument("--vehicles", type=int, default=3, help="of ours (default: %(default)s)")
    parser.add_argument("--sim-minutes", type=float, default=10.0, help="(default: %(default)s)")
    parser.add_argument("--traffic", type=int, default=20, help="others (default: %(default)s)")
    parser.add_argument("--walkers", type=int, default=10, help="(default: %(default)s)")
    parser.add_argument("--encoder", default="small", help="shipped or FILE (default: %(default)s)")
    parser.add_argument("--adllm", default="tiny", help="shipped or FILE (default: %(default)s)")


def measure(args: argparse.Namespace) -> list[Row]:
    """Drive and keep account."""
    roles = [f"vehicle_{i}" for i in range(args.vehicles)]
    encoder, adllm = Path(model_file(args.encoder)), driving_model_file("--adllm", args.adllm)
    with TemporaryDirectory() as scratch, own_domain() as domain_id:
        folder = Path(scratch)
        with Supervisor(folder / "logs") as supervisor:
            watch = FleetWatch(
                domain_id, roles, _sentences(args.seed), _TELL_S, args.seed, supervisor.check
            )
            try:
                environment = {**os.environ, "ROS_DOMAIN_ID": str(domain_id)}
                for name, command in _nodes(args, roles, encoder, adllm).items():
                    supervisor.start(name, command, environment=environment)
                watch.until(watch.is_ready, "every node of the fleet being there", _START_S)
                _start_world(args, supervisor, folder, roles, environment)
                return _watched(args, watch, supervisor)
            finally:
                watch.close()


def _watched(args: argparse.Namespace, watch: FleetWatch, supervisor: Supervisor) -> list[Row]:
    watch.until(lambda: watch.tally.num_asked > 0, "the first request", _START_S)
    first_s, began_s, before = watch.sim_time_s, time.monotonic(), _cpu_s(supervisor)
    end_s = first_s + 60.0 * args.sim_minutes
    with tqdm(total=round(end_s - first_s), unit="simulated s", disable=None) as bar:
        while watch.sim_time_s < end_s:
            step_s = min(end_s, watch.sim_time_s + _LOOK_S)
            watch.until(partial(_has_reached, watch, step_s), "a simulated second", _SILENT_S)
            bar.update(round(watch.sim_time_s - first_s) - bar.n)
    driven_s, took_s = watch.sim_time_s - first_s, time.monotonic() - began_s
    after = _cpu_s(supervisor)
    cpu_s = {kind: after[kind] - before[kind] for kind in after}
    tally = watch.tally
    # The world goes on: it is enough that all requests up to now have ended.
    asked = tally.num_asked
    _settle(watch)
    return rows(watch, asked=asked, driven_s=driven_s, took_s=took_s, cpu_s=cpu_s)


def _has_reached(watch: FleetWatch, time_s: float) -> bool:
    return watch.sim_time_s >= time_s


def _settle(watch: FleetWatch) -> None:
    """Wait for a moment in which nothing is under way; it comes after every batch."""
    try:
        watch.until(lambda: watch.tally.num_unaccounted == 0, "an end of every request", _SETTLE_S)
    except TimeoutError:
        return  # then some are lost, and the figures say so


def _cpu_s(supervisor: Supervisor) -> dict[str, float]:
    """Processor time of the children so far, all vehicles of a kind of node together."""
    ticks_hz = os.sysconf("SC_CLK_TCK")
    found: dict[str, float] = {}
    for child in supervisor.children:
        kind = child.name.rsplit("_", 1)[-1]
        # proc(5): utime and stime are fields 14 and 15, the name before them may hold anything
        fields = Path(f"/proc/{child.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        found[kind] = found.get(kind, 0.0) + (int(fields[11]) + int(fields[12])) / ticks_hz
    return found


def rows(
    watch: FleetWatch, *, asked: int, driven_s: float, took_s: float, cpu_s: Mapping[str, float]
) -> list[Row]:
    """What the ear heard.

    Args:
        watch: has the account.
        asked: requests until the end of the measured time.
        driven_s: simulated.
        took_s: of wall time.
        cpu_s: of processor time, by kind of process.
    """
    tally = watch.tally
    answered = tally.outcomes[Outcome.ANSWERED]
    fewest = min(tally.per_vehicle().values())
    found: Sequence[tuple[str, float, str, dict[str, Any]]] = (
        ("fleet_requests", asked, "requests", {}),
        ("fleet_unaccounted", tally.num_unaccounted, "requests", {"bar": 0.0, "better": "lower"}),
        ("fleet_answered_share", answered / max(1, sum(tally.outcomes.values())), "", {}),
        ("fleet_refused", sum(tally.refusals.values()), "requests", {"better": "lower"}),
        ("fleet_rate_hz", fewest / driven_s, "1/s of simulated time, slowest vehicle", {}),
        ("fleet_rate_wall_hz", asked / took_s, "1/s of wall time, all vehicles", {}),
        ("fleet_edge_latency_p50", tally.edge_latency_s(50.0), "s", {"better": "lower"}),
        ("fleet_edge_latency_p99", tally.edge_latency_s(99.0), "s", {"better": "lower"}),
        ("fleet_vehicle_latency_p50", tally.vehicle_latency_s(50.0), "s", {"better": "lower"}),
        ("fleet_vehicle_latency_p99", tally.vehicle_latency_s(99.0), "s", {"better": "lower"}),
        ("fleet_sim_seconds", driven_s, "s", {}),
        ("fleet_realtime", driven_s / took_s, "s/s", {}),
        *(
            (f"fleet_cpu_{kind}", spent_s / driven_s, "s of one core per simulated second", {})
            for kind, spent_s in {**cpu_s, "all": sum(cpu_s.values())}.items()
        ),
    )
    return [Row(name=n, value=float(v), unit=u or "1", **more) for n, v, u, more in found]


def _nodes(
    args: argparse.Namespace, roles: Sequence[str], encoder: Path, adllm: Path
) -> dict[str, list[str]]:
    """Commands of the edge and of what runs on every vehicle, by name."""
    edge = {
        "model": str(adllm),
        "encoder_hash": f"'{model_hash_of(str(encoder))}'",  # text, even if it is all digits
        "num_threads": "1",
        # A simulated second may take long here; nobody shall be forgotten for that.
        "service.admission.alive_s": "600.0",
        "service.admission.forget_after_s": "3600.0",
    }
    commands = {"edge": topology.node_command(topology.EDGE, parameters=edge)}
    rig = load_rig(args.workspace.config / _RIG)
    cameras = [s.id for s in rig.sensors if s.type == "sensor.camera.rgb"]
    on_board: Sequence[tuple[topology.NodeSpec, dict[str, str]]] = (
        (topology.PLANNER, {"plan_period_s": str(_FRAME_S)}),
        (
            topology.ENCODER,
            {
                "encoder.model": str(encoder),
                "encoder.num_threads": "1",  # more of many processes only wait for each other
                "cameras": str(cameras),
                "tick.period_s": str(_FRAME_S),
            },
        ),
        (topology.DRIVER, {"driver.frame_period_s": str(_FRAME_S)}),
    )
    for role in roles:
        for spec, parameters in on_board:
            commands[f"{role}_{spec.executable}"] = topology.node_command(
                spec, vehicle=role, parameters={"mode": "lockstep", **parameters}
            )
    return commands


def _start_world(
    args: argparse.Namespace,
    supervisor: Supervisor,
    folder: Path,
    roles: Sequence[str],
    environment: Mapping[str, str],
) -> None:
    port = free_ports(3).start
    start_simulator(
        supervisor,
        town=args.town,
        net=None,
        port=port,
        seed=args.seed,
        vehicles=args.traffic,
        walkers=args.walkers,
    )
    rig = folder / "rig.yaml"
    rig.write_text(to_yaml(frame_rig(load_rig(args.workspace.config / _RIG))), encoding="utf-8")
    path = folder / "bridge.yaml"
    path.write_text(bridge_yaml(roles, rig), encoding="utf-8")
    bridge = topology.node_command(
        topology.BRIDGE, arguments=("--config", str(path), "--port", str(port))
    )
    supervisor.start("bridge", bridge, environment=environment)


def frame_rig(rig: Rig) -> Rig:
    """A rig whose cameras see only what is driven by: nobody looks at the pictures between."""
    sensors = tuple(
        replace(s, attributes={**s.attributes, "sensor_tick": _FRAME_S}) if s.is_camera else s
        for s in rig.sensors
    )
    return replace(rig, sensors=sensors)


def bridge_yaml(roles: Sequence[str], rig_file: Path) -> str:
    """The bridge's configuration: every vehicle with the encoder's rig, apart from each other."""
    lines = ["egos:"]
    for number, role in enumerate(roles):
        lines.append(
            f"  - {{role: {role}, rig: {rig_file}, spawn_point: {number * _SPAWN_STRIDE}, "
            "awaits: [encoder, driver]}"
        )
    return "\n".join([*lines, "bridge:", "  mode: lockstep", ""])


def _sentences(seed: int) -> list[str]:
    bank, rng = load_bank(), random.Random(seed)
    kinds = [k for k in Kind if not k.name.startswith("NOTICE")]
    return [bank.render(draw_arguments(k, rng), rng, Split.TRAINING) for k in kinds]
