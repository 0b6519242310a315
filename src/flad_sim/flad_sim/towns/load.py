# SPDX-License-Identifier: Apache-2.0
"""A town by name or by file: its OpenDRIVE text, its road network and its SUMO network.

Everything that netconvert makes is kept in a cache folder (``build/towns`` of a source tree, else
the user's cache) under a stamp of its parameters, so that a second start costs nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from flad_sim.opendrive import OpenDriveError, RoadNetwork, read_opendrive
from flad_sim.towns.build import build_plan
from flad_sim.towns.errors import TownError
from flad_sim.towns.grid import grid_plan
from flad_sim.towns.old_town import old_town_plan
from flad_sim.towns.plan import TownPlan
from flad_sim.towns.quarter import quarter_plan
from flad_sim.towns.ring import ring_plan
from flad_sim.towns.sumo_tools import netconvert, sumo_version

_PLANS: dict[str, Callable[[], TownPlan]] = {
    "Grid": grid_plan,
    "OldTown": old_town_plan,
    "Quarter": quarter_plan,
    "Ring": ring_plan,
}
_FORMAT = 5  # raise it when the same plan has to give other files
_MAX_MAP_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Town:
    """Everything that is fixed about a place."""

    name: str
    xodr_text: str
    net_file: Path
    network: RoadNetwork


def available_towns() -> tuple[str, ...]:
    """Names of the towns of our own."""
    return tuple(_PLANS)


def default_cache() -> Path:
    """Where made towns are kept."""
    tree = Path(__file__).resolve().parents[4]
    if (tree / "src" / "flad_sim").is_dir():
        return tree / "build" / "towns"
    return Path.home() / ".cache" / "flad_sim" / "towns"


def build_towns(out_dir: Path | None = None) -> tuple[Path, ...]:
    """Make every town of our own that is not yet in the cache; return their folders."""
    cache = default_cache() if out_dir is None else Path(out_dir)
    return tuple(_built(name, cache) for name in _PLANS)


def load_town(
    name_or_path: str | Path, net_path: str | Path | None = None, cache_dir: Path | None = None
) -> Town:
    """Load one of our own towns by name, or any OpenDRIVE file by path.

    Args:
        name_or_path: ``Grid`` (see `available_towns`) or a path to a ``.xodr`` file.
        net_path: a SUMO network to use instead of one made by netconvert.
        cache_dir: where made networks are kept; see `default_cache`.

    Raises:
        TownError: if the town, the file or the network is missing or unusable.
    """
    cache = default_cache() if cache_dir is None else Path(cache_dir)
    name = str(name_or_path)
    if name in _PLANS:
        folder = _built(name, cache)
        path, net = folder / f"{name}.xodr", folder / f"{name}.net.xml"
        text = path.read_text(encoding="utf-8")
    else:
        path = Path(name_or_path)
        text = _read_map(path)
        name, net = path.stem, Path()
    return town_from_text(name, text, net if net_path is None else Path(net_path), cache, str(path))


def town_from_text(
    name: str,
    text: str,
    net: Path = Path(),
    cache_dir: Path | None = None,
    source: str = "the given OpenDRIVE text",
) -> Town:
    """A town from OpenDRIVE text that a client sent; ``net`` may name its SUMO network.

    Raises:
        TownError: if the text is unusable or the network is missing.
    """
    try:
        network = read_opendrive(text)
    except OpenDriveError as error:
        raise TownError(f"{source}: {error}") from error
    if net == Path():
        net = _network_of(text, default_cache() if cache_dir is None else cache_dir, source)
    elif not net.is_file():
        raise TownError(f"SUMO network {net} does not exist: check --net, or leave it out")
    return Town(name, text, net, network)


def _read_map(path: Path) -> str:
    known = ", ".join(_PLANS)
    if not path.exists():
        raise TownError(
            f"no town {str(path)!r}: it is neither a town of our own ({known}) nor a file; check "
            "the path"
        )
    if not path.is_file():
        raise TownError(f"{path} is not a file: give a .xodr file or one of {known}")
    size = path.stat().st_size
    if size > _MAX_MAP_BYTES:
        raise TownError(
            f"{path} has {size / 2**20:.0f} MiB, over the limit of {_MAX_MAP_BYTES / 2**20:.0f}: "
            "cut the map to the part you drive in"
        )
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise TownError(
            f"{path} cannot be read ({error.strerror}): check its permissions"
        ) from error


def _built(name: str, cache: Path) -> Path:
    plan = _PLANS[name]()
    stamp = hashlib.sha256(f"{_FORMAT} {sumo_version()} {plan!r}".encode()).hexdigest()[:16]
    folder = cache / f"{name}-{stamp}"
    if not folder.is_dir():
        with _new_folder(folder) as fresh:
            build_plan(plan, fresh)
    return folder


def _network_of(text: str, cache: Path, source: str) -> Path:
    key = hashlib.sha256(f"{_FORMAT} {sumo_version()} ".encode())
    key.update(text.encode("utf-8", "surrogateescape"))
    folder = cache / f"net-{key.hexdigest()[:16]}"
    if not folder.is_dir():
        with _new_folder(folder) as fresh:
            xodr = fresh / "map.xodr"
            xodr.write_bytes(text.encode("utf-8", "surrogateescape"))
            netconvert(
                [
                    *("--opendrive-files", str(xodr), "--output-file", str(fresh / "map.net.xml")),
                    *("--opendrive.internal-shapes", "true", "--opendrive.curve-resolution", "1"),
                    *("--no-turnarounds.except-deadend", "true", "--precision", "3"),
                ],
                source,
            )
            xodr.unlink()
    return folder / "map.net.xml"


@contextlib.contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Fill a folder under another name; it appears whole or not at all."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise TownError(
            f"cannot write to {folder.parent} ({error.strerror}): make it writable, or give "
            "another cache folder"
        ) from error
    try:
        yield fresh
        fresh.chmod(0o755)
        with contextlib.suppress(OSError):  # another process was faster: its copy is as good
            os.rename(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
