# SPDX-License-Identifier: Apache-2.0
"""Loading towns and finding blueprints: what the session asks a client for, with named errors."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import carla

from flad_carla.rig import SensorSpec
from flad_carla.session_errors import SessionError, SpawnError, TownError, carla_errors


def load_named(client: Any, town: str, address: str) -> Any:
    """Load a town that the simulator knows; returns the new world.

    Raises:
        TownError: if it knows none of that name, or cannot load it.
    """
    with carla_errors("listing the towns", address):
        known = client.get_available_maps()
    short = {name.rsplit("/", 1)[-1] for name in known}
    if town not in known and town not in short:
        raise TownError(
            f"the simulator at {address} has no town {town!r}; it has {sorted(short)}; an "
            "OpenDRIVE file is given by its path ending in .xodr"
        )
    try:
        with carla_errors(f"loading {town}", address):
            return client.load_world(town, False)  # a reset would let the world run free
    except SessionError as error:
        raise TownError(error.detail) from error


def load_opendrive(client: Any, path: Path, address: str) -> Any:
    """Load a town from an OpenDRIVE file; returns the new world.

    Raises:
        TownError: if the file cannot be read, or the simulator refuses it.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise TownError(f"{path} cannot be read: {error.strerror}") from error
    parameters = carla.OpendriveGenerationParameters(
        vertex_distance=2.0,
        max_road_length=50.0,
        wall_height=0.0,
        additional_width=0.6,
        smooth_junctions=True,
        enable_mesh_visibility=True,
    )
    try:
        with carla_errors(f"loading {path}", address):
            return client.generate_opendrive_world(text, parameters, False)
    except SessionError as error:
        raise TownError(error.detail) from error


def find_blueprint(library: Any, name: str) -> Any:
    """A blueprint by its id.

    Raises:
        SpawnError: naming those that are close.
    """
    try:
        return library.find(name)
    except (IndexError, RuntimeError):
        known = [blueprint.id for blueprint in library]
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
        raise SpawnError(
            f"the simulator has no blueprint {name!r}; close to it are {near}"
        ) from None


def carla_transform(spec: SensorSpec) -> Any:
    """Where a sensor sits on its vehicle, as CARLA takes it."""
    p = spec.pose
    return carla.Transform(
        carla.Location(x=p.x_m, y=p.y_m, z=p.z_m),
        carla.Rotation(pitch=p.pitch_deg, yaw=p.yaw_deg, roll=p.roll_deg),
    )
