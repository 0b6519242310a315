# SPDX-License-Identifier: Apache-2.0
"""Runs SUMO's command-line tools from the `eclipse-sumo` wheel."""

from __future__ import annotations

import functools
import os
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from flad_sim.towns.errors import TownError

_TIME_LIMIT_S = 120.0


@functools.cache
def sumo_home() -> Path:
    """SUMO's installation folder.

    Raises:
        TownError: if SUMO is not installed.
    """
    try:
        import sumo
    except ImportError as error:
        raise TownError(
            "SUMO is not installed for this Python: pip install eclipse-sumo libsumo"
        ) from error
    return Path(sumo.SUMO_HOME)


def sumo_version() -> str:
    """Version of the installed SUMO, part of every cache stamp."""
    try:
        return version("eclipse-sumo")
    except PackageNotFoundError:
        return "unknown"


def netconvert(arguments: list[str], what: str) -> str:
    """Run netconvert and return what it said.

    Raises:
        TownError: if it fails or takes longer than two minutes; ``what`` names the input.
    """
    home = sumo_home()
    command = [str(home / "bin" / "netconvert"), *arguments]
    environment = {**os.environ, "SUMO_HOME": str(home)}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIME_LIMIT_S,
            env=environment,
            check=False,
        )
    except FileNotFoundError as error:
        raise TownError(f"{command[0]} is missing: reinstall the eclipse-sumo package") from error
    except subprocess.TimeoutExpired as error:
        raise TownError(
            f"netconvert needed over {_TIME_LIMIT_S:.0f} s for {what}: make the network beforehand "
            "and give it with --net"
        ) from error
    said = done.stdout + done.stderr
    if done.returncode != 0:
        problem = next((x for x in said.splitlines() if x.startswith("Error")), said[-400:].strip())
        raise TownError(
            f"netconvert cannot make a road network of {what}: {problem}; check the map, or give a "
            "network of your own with --net FILE.net.xml"
        )
    return said
