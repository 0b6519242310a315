# SPDX-License-Identifier: Apache-2.0
"""``python -m flad_sim``: arguments, logging, exit codes."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from flad_sim.errors import ExitCode, PortInUseError
from flad_sim.server import Ports, Server, ServerConfig
from flad_sim.towns import TownError
from flad_sim.traffic import TrafficError
from flad_sim.world import World, WorldConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--town", default="Grid", help="name of a town, or an OpenDRIVE file (default: %(default)s)"
    )
    parser.add_argument(
        "--net", type=Path, help="SUMO network of that town (made from it when not given)"
    )
    parser.add_argument(
        "--town-dir", type=Path, help="folder whose OpenDRIVE files clients may load by name"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address (default: %(default)s)")
    parser.add_argument(
        "--port",
        type=int,
        default=2000,
        help="RPC port; streams use the next one; 0: any free one (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of scenery, traffic and noise")
    parser.add_argument("--traffic", type=int, default=0, metavar="N", help="vehicles by SUMO")
    parser.add_argument("--walkers", type=int, default=0, metavar="N", help="pedestrians")
    parser.add_argument(
        "--tick-delay-ms",
        type=float,
        help="wait before each tick (default: 5 while a TrafficManager is registered, else 0)",
    )
    parser.add_argument("--verbose", action="store_true", help="log every detail")


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted."""
    logging.basicConfig(
        level=logging.DEBUG if args.verbose else logging.INFO,
        format="%(asctime)s %(levelname).1s %(name)s: %(message)s",
    )
    try:
        world_config = WorldConfig(
            town=args.town,
            net=args.net,
            town_dir=args.town_dir,
            seed=args.seed,
            num_vehicles=args.traffic,
            num_walkers=args.walkers,
        )
        server_config = ServerConfig(
            host=args.host,
            port=args.port,
            tick_delay_s=None if args.tick_delay_ms is None else args.tick_delay_ms * 1e-3,
        )
    except ValueError as error:
        return _fail(error, ExitCode.USAGE)
    try:
        return asyncio.run(_serve(world_config, server_config))
    except PortInUseError as error:
        return _fail(error, ExitCode.PORT_IN_USE)
    except (TownError, TrafficError) as error:
        return _fail(error, ExitCode.BAD_TOWN)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="flad_sim", description="CARLA's API without a GPU.")
    add_arguments(parser)
    return run(parser.parse_args(argv))


async def _serve(world_config: WorldConfig, server_config: ServerConfig) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    ports = Ports(server_config.host, server_config.port)
    try:
        world = World(world_config)
    except BaseException:
        ports.close()
        raise
    server = Server(world, ports, server_config)
    try:
        await server.start()
        print(f"listening on {ports.host}:{ports.rpc}", flush=True)
        serving = loop.create_task(server.serve_forever())
        stopping = loop.create_task(stop.wait())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
        return ExitCode.OK
    finally:
        await server.stop()
        world.close()


def _fail(error: Exception, code: ExitCode) -> int:
    print(f"flad_sim: {error}", file=sys.stderr)
    return code
