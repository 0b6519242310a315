# SPDX-License-Identifier: Apache-2.0
"""Half an hour of SUMO's traffic drives joins and departures of federated training.

Processes train the encoder over real DDS on emulated Jetsons, as ``./flad federate --dilation``;
one after the other is cut off when its vehicle drives out of the coverage. The same trace meets
three federations at the same time: clusters and planned departures by SWIFT, from where
vehicles say that they are and how long they will stay; *static* clusters, made of neighbours by who
knows nothing of stays; *random* ones, by who knows nothing of places, either. Data are noise.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

from flad_bringup.bench.rows import Row
from flad_bringup.bench.traffic_stand import StandConfig, TrafficStand
from flad_bringup.bench.traffic_tally import Tally
from flad_bringup.bench.traffic_trace import TrafficTrace, Way, make_trace
from flad_carla.evaluation.domain import own_domain
from flad_common.supervision import Supervisor

SUMMARY = "half an hour of traffic takes federations apart: SWIFT, static and random clusters"
MINUTES = 33.0

_START_S = 600.0
_LAST_ROUND_S = 60.0
_GAP_S = 4.0
_SAID_EVERY_S = 60.0
_MOST_OVERRUNS = 1e-3  # then the emulated speeds are as good as kept


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's arguments."""
    parser.add_argument("--minutes", type=float, default=30.0, help="of traffic (%(default)s)")
    parser.add_argument("--processes", type=int, default=6, help="of each way (%(default)s)")
    parser.add_argument("--ways", nargs="+", choices=get_args(Way), default=list(get_args(Way)))
    parser.add_argument(
        "--dilation", type=float, default=1.0, help="seconds here for one of the traffic"
    )
    parser.add_argument(
        "--work-scale",
        type=float,
        default=4800.0,
        help="each FLOP counts so many: a step of three vehicles takes seconds (%(default)s)",
    )
    parser.add_argument("--steps", type=int, default=4, help="of a client a round (%(default)s)")
    parser.add_argument("--cut-every", type=int, default=1, help="steps (default: %(default)s)")
    parser.add_argument("--rotation-cuts", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument(
        "--memory-share",
        type=float,
        default=0.8,
        help="what a vehicle has of what the model needs (default: %(default)s)",
    )
    parser.add_argument(
        "--memory-redundancy",
        type=float,
        default=2.0,
        help="a cluster's memory by what the model needs; who leaves can be spared (%(default)s)",
    )
    parser.add_argument(
        "--least-stay-s", type=float, default=24.0, help="of SWIFT's members (%(default)s)"
    )
    parser.add_argument(
        "--radius-m", type=float, default=250.0, help="reach of a vehicle's radio (%(default)s)"
    )
    parser.add_argument("--lease-s", type=float, default=1.5, help="of liveliness (%(default)s)")
    parser.add_argument("--link-mbps", type=float, default=100.0, help="shared (%(default)s)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="write logs and events there")


def measure(args: argparse.Namespace) -> list[Row]:
    """All ways, on the same trace."""
    trace = make_trace(args.seed, args.processes, args.minutes, _GAP_S)
    config = StandConfig(
        processes=args.processes,
        dilation=args.dilation,
        work_scale=args.work_scale,
        memory_share=args.memory_share,
        memory_redundancy=args.memory_redundancy,
        steps=args.steps,
        cut_every=args.cut_every,
        rotation_cuts=args.rotation_cuts,
        least_stay_s=args.least_stay_s,
        radius_m=args.radius_m,
        lease_s=args.lease_s,
        link_mbps=args.link_mbps,
        seed=args.seed,
    )
    with TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = args.keep.absolute() if args.keep else Path(scratch)
        stands = []
        for way in args.ways:
            supervisor = stack.enter_context(Supervisor(folder / f"logs_{way}"))
            domain_id = stack.enter_context(own_domain())
            stand = TrafficStand(way, config, trace, folder / way, supervisor, domain_id)
            stack.callback(stand.close)
            stands.append(stand)
        _drive(stands, 60.0 * args.minutes, args.dilation)
        tallies = {stand.way: stand.tally() for stand in stands}
        overruns, passes = sum(s.overruns for s in stands), sum(s.passes for s in stands)
        if args.keep:
            _keep(folder, stands, tallies)
    return [*_rows(tallies, trace, args), *_overrun_rows(overruns, passes)]


def _drive(stands: Sequence[TrafficStand], length_s: float, dilation: float) -> None:
    for stand in stands:
        stand.start()
    end_s = time.monotonic() + _START_S
    while not all([stand.is_ready() for stand in stands]):
        if time.monotonic() > end_s:
            raise TimeoutError(f"processes did not come up within {_START_S:g} s")
    for stand in stands:
        stand.begin()
    began_s, said_s = time.monotonic(), 0.0
    while True:
        now_s = (time.monotonic() - began_s) / dilation
        busy = [stand.look(now_s, ask=now_s < length_s) for stand in stands]
        if now_s >= said_s:
            said_s += _SAID_EVERY_S
            steps = ", ".join(f"{s.way} {s.tally().steps} steps" for s in stands)
            print(f"  {now_s / 60.0:4.0f} min: {steps}", flush=True)
        if now_s >= length_s and (not any(busy) or now_s > length_s + _LAST_ROUND_S):
            return


def _keep(folder: Path, stands: Sequence[TrafficStand], tallies: dict[Way, Tally]) -> None:
    for stand in stands:
        about = {"tally": asdict(tallies[stand.way]), "events": stand.events}
        path = folder / f"{stand.way}.json"
        path.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def _rows(
    tallies: dict[Way, Tally], trace: TrafficTrace, args: argparse.Namespace
) -> Iterator[Row]:
    ours = tallies.get("swift")
    for way in ("static", "random"):
        if ours is not None and way in tallies:
            yield Row(
                name=f"traffic_useful_share_by_{way}",
                value=ours.share,
                unit="of vehicles' time in clients",
                baseline=f"{way} clusters",
                baseline_value=tallies[way].share,
            )
    for way, tally in tallies.items():
        yield from _way_rows(way, tally)
    if ours is not None:
        yield Row(
            name="traffic_swift_planned_that_interrupted",
            value=ours.planned_interrupted,
            unit="departures",
            bar=0.0,
            better="lower",
        )
    yield Row(name="traffic_visits", value=len(trace.stays), unit="stays")
    yield Row(name="traffic_dilation", value=args.dilation, unit="s/s")
    yield Row(name="traffic_work_scale", value=args.work_scale, unit="1")


def _overrun_rows(overruns: int, passes: int) -> Iterator[Row]:
    """How far the emulated speeds can be believed."""
    share = overruns / max(passes, 1)
    yield Row(name="traffic_overruns", value=overruns, unit=f"of {passes} passes", better="lower")
    yield Row(
        name="traffic_overrun_share",
        value=share,
        unit="of passes",
        bar=_MOST_OVERRUNS,
        better="lower",
    )


def _way_rows(way: Way, tally: Tally) -> Iterator[Row]:
    for name, value, unit in (
        ("steps", tally.steps, "steps that counted"),
        ("lost_steps", tally.lost_steps, "steps in vain"),
        ("useful_of_presence", tally.useful_s / max(tally.present_s, 1e-9), "of vehicles' time"),
        ("rounds", tally.rounds, "rounds"),
        ("departures", len(tally.departures), "departures"),
        ("interrupted", tally.interrupted, "departures that caught a client in training"),
        ("let_go", tally.let_go, "vehicles, before they left"),
        ("recoveries", tally.recoveries, "recoveries"),
    ):
        yield Row(name=f"traffic_{way}_{name}", value=value, unit=unit)
