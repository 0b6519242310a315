# SPDX-License-Identifier: Apache-2.0
"""The world behind the calls: its towns, its settings, the present episode, and its frames.

A frame is: everything moves (``flad_sim.episode``), (4) snapshot, (5) measurements that are due
(``flad_sim.measuring``); (6) publishing is the server's part. Single-threaded.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flad_sim.blueprints import BlueprintLibrary
from flad_sim.episode import Episode
from flad_sim.errors import RequestRefused
from flad_sim.measuring import Message, measure
from flad_sim.protocol.payloads import TYPE_WORLD
from flad_sim.protocol.snapshot import pack_header, pack_state
from flad_sim.protocol.structs import EpisodeSettings
from flad_sim.protocol.tokens import EPISODE_STREAM
from flad_sim.scenery import Scenery, grow_scenery
from flad_sim.towns import Town, TownError, available_towns, load_town
from flad_sim.towns.load import town_from_text
from flad_sim.traffic import TrafficError

_LOG = logging.getLogger(__name__)

DEFAULT_DELTA_S = 0.05
"""Length of a frame where a client asks for a variable one: nothing here depends on real time."""

OPENDRIVE_MAP = "OpenDriveMap"
"""The name under which clients load a map that they have sent."""

_MAX_TOWNS = 3  # kept in memory for the next time they are loaded


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """What the world is made of."""

    town: str = "Grid"
    net: Path | None = None
    town_dir: Path | None = None
    seed: int = 0
    num_vehicles: int = 0
    num_walkers: int = 0

    def __post_init__(self) -> None:
        for name in ("seed", "num_vehicles", "num_walkers"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class _Grown:
    """A town that has been loaded: growing its scenery takes seconds."""

    town: Town
    scenery: Scenery


@dataclass(frozen=True, slots=True)
class Frame:
    """What one tick has to tell: the snapshot and the sensors' messages, by id of the sensor."""

    frame: int
    snapshot: bytes
    messages: list[Message]


class World:
    """All state behind the calls.

    Raises:
        TownError: from the constructor, when the configured town is missing or broken.
    """

    def __init__(self, config: WorldConfig) -> None:
        self.config = config
        self.library = BlueprintLibrary()
        self.settings = EpisodeSettings()
        self.episode_id = 1
        self.frame = 0
        self._opendrive_text: str | None = None
        self._grown: dict[str, _Grown] = {}
        self._town_files = _town_files(config.town_dir)
        self._stream_ids = itertools.count(EPISODE_STREAM + 1)
        name = config.town
        town = self._load_file(name) if name in self._town_files else load_town(name, config.net)
        self.episode = self._begin(town)

    @property
    def delta_s(self) -> float:
        """Length of a frame."""
        return self.settings.fixed_delta_s or DEFAULT_DELTA_S

    def close(self) -> None:
        """Release what lives outside Python's memory."""
        self.episode.close()

    # --- a frame --------------------------------------------------------------------------------

    def tick(self, is_listened: Callable[[int], bool] = lambda stream_id: True) -> Frame:
        """Advance by one frame and measure what is due and ``is_listened`` to."""
        self.frame += 1
        self.episode.advance(self.delta_s)
        snapshot = self.snapshot()
        messages = measure(
            self.episode, self.frame, is_listened, cameras=not self.settings.no_rendering_mode
        )
        return Frame(self.frame, snapshot, messages)

    def snapshot(self) -> bytes:
        """The state of the present frame, ready for the wire."""
        e = self.episode
        # The platform's clock is simulated time too, so that two runs give the same bytes.
        return b"".join(
            (
                pack_header(TYPE_WORLD, self.frame, e.elapsed_s),
                pack_state(self.episode_id, e.elapsed_s, e.delta_s, 0),
                *[actor.row() for actor in e.actors],
            )
        )

    def first_snapshot(self) -> bytes:
        """The state of a new episode, under a frame number that clients have not seen."""
        self.frame += 1
        return self.snapshot()

    # --- towns ----------------------------------------------------------------------------------

    def town_names(self) -> list[str]:
        """Towns that :meth:`load` knows."""
        names = {*available_towns(), *self._town_files, self.episode.town.name}
        if self._opendrive_text is not None:
            names.add(OPENDRIVE_MAP)
        return sorted(names)

    def load(self, name: str, *, reset_settings: bool = True) -> None:
        """Begin a new episode in a town; an empty name means the present one.

        Raises:
            RequestRefused: when there is no such town, or it is broken; the present episode goes
                on then.
        """
        town = self._find_town(name)
        if reset_settings:
            self.settings = EpisodeSettings()
        last_town = self.episode.town
        self.episode.close()  # first: there is one traffic simulation in a process
        self.episode_id += 1
        try:
            self.episode = self._begin(town)
        except TrafficError as error:
            self.episode = self._begin(last_town)
            raise RequestRefused(f"{town.name} has no traffic: {error}") from error

    def keep_opendrive(self, text: str) -> None:
        """Remember a client's own map, for ``load(OPENDRIVE_MAP)``."""
        self._opendrive_text = text

    def _find_town(self, name: str) -> Town:
        with _as_refusal():
            if name == OPENDRIVE_MAP and self._opendrive_text is not None:
                return town_from_text(OPENDRIVE_MAP, self._opendrive_text)
            if name == "":
                return self.episode.town
            if name in self._grown:
                return self._grown[name].town
            if name in self._town_files:
                return self._load_file(name)
            if name in available_towns():
                return load_town(name)
        raise RequestRefused(
            f"no town {name!r:.80}; this server has {', '.join(self.town_names())} "
            "(start it with --town-dir DIR to offer the OpenDRIVE files of a folder)"
        )

    def _load_file(self, name: str) -> Town:
        path = self._town_files[name]
        net = path.with_name(f"{name}.net.xml")
        return load_town(path, net if net.is_file() else None)

    def _begin(self, town: Town) -> Episode:
        c = self.config
        grown = self._grown.get(town.name)
        if grown is None or grown.town is not town:
            grown = _Grown(town, grow_scenery(town.network, c.seed))
            self._grown[town.name] = grown
            if len(self._grown) > _MAX_TOWNS:
                del self._grown[next(iter(self._grown))]
        episode = Episode(
            town,
            grown.scenery,
            self.library,
            self._stream_ids,
            seed=c.seed,
            num_vehicles=c.num_vehicles,
            num_walkers=c.num_walkers,
        )
        _LOG.info(
            "episode %d\n  town %s, seed %d\n  traffic: %d vehicles, %d walkers\n"
            "  %d traffic lights, %d solid pieces of scenery, %d spawn points",
            self.episode_id,
            town.name,
            c.seed,
            c.num_vehicles,
            c.num_walkers,
            len(episode.lights),
            len(episode.scenery.boxes),
            len(episode.spawn_points),
        )
        return episode


def _town_files(folder: Path | None) -> dict[str, Path]:
    """OpenDRIVE files of a folder by name.

    Raises:
        TownError: when the folder does not exist.
    """
    if folder is None:
        return {}
    if not folder.is_dir():
        raise TownError(f"--town-dir {folder} is no folder: give one that holds .xodr files")
    return {path.stem: path for path in sorted(folder.glob("*.xodr"))}


@contextmanager
def _as_refusal() -> Iterator[None]:
    try:
        yield
    except TownError as error:
        raise RequestRefused(str(error)) from error
