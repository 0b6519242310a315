# SPDX-License-Identifier: Apache-2.0
"""The world: one episode's actors and the order in which a frame is computed.

(1) client controls move bodies, (2) contacts, (3) traffic, lights and pedestrians, (4) snapshot,
(5) measurements that are due. Publishing is the server's part (``flad_sim.server``), spawning is
``flad_sim.spawning``, measuring ``flad_sim.measuring``. Single-threaded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from flad_sim._parts import Traffic
from flad_sim.actors import (
    Actor,
    ClientVehicle,
    ClientWalker,
    Prop,
    TrafficLight,
    TrafficVehicle,
    TrafficWalker,
    Vehicle,
)
from flad_sim.blueprints import SPECTATOR, BlueprintLibrary
from flad_sim.errors import RequestRefused
from flad_sim.height_field import HeightField
from flad_sim.measuring import Measurements
from flad_sim.physics import Contact, ContactSolver, Obstacle
from flad_sim.protocol.payloads import TYPE_WORLD
from flad_sim.protocol.snapshot import pack_header, pack_state
from flad_sim.protocol.structs import EpisodeSettings
from flad_sim.protocol.tokens import EPISODE_STREAM
from flad_sim.registry import ActorRegistry
from flad_sim.scenery import grow_scenery
from flad_sim.sensors import Renderer
from flad_sim.signals import place_signals
from flad_sim.towns import Town, TownError, available_towns, load_town
from flad_sim.towns.load import town_from_text
from flad_sim.triggers import LightTriggers
from flad_sim.types import (
    ClientVehicle as MirroredVehicle,
)
from flad_sim.types import (
    MovingActor,
    Pose,
    Transform,
    VisibleActor,
    VisibleWorld,
    Weather,
)

_LOG = logging.getLogger(__name__)
DEFAULT_DELTA_S = 0.05
OPENDRIVE_MAP = "OpenDriveMap"
_SPEED_LIMIT_EVERY = 10  # frames between two looks at the map, per vehicle


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """What the world is made of."""

    town: str = "Grid"
    net: Path | None = None
    town_dir: Path | None = None
    seed: int = 0
    num_vehicles: int = 0
    num_walkers: int = 0


@dataclass(frozen=True, slots=True)
class Frame:
    """What one tick has to tell: the snapshot and ``(stream id, message)`` of the sensors."""

    frame: int
    snapshot: bytes
    messages: list[tuple[int, bytes]] = field(default_factory=list)


class World:
    """All state behind the RPCs."""

    def __init__(self, config: WorldConfig) -> None:
        self.config = config
        self.library = BlueprintLibrary()
        self.settings = EpisodeSettings()
        self.weather = Weather()
        self.episode_id = 0
        self.frame = 0
        self._last_stream_id = EPISODE_STREAM
        self._opendrive_text: str | None = None
        self._town_files = _town_files(config.town_dir)
        self._open(load_town(config.town, config.net))

    @property
    def delta_s(self) -> float:
        """Length of a frame."""
        return self.settings.fixed_delta_s or DEFAULT_DELTA_S

    def town_names(self) -> list[str]:
        """Towns that :meth:`load` knows."""
        names = {*available_towns(), *self._town_files, self.town.name}
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
        self._close()
        self._open(town)

    def keep_opendrive(self, text: str) -> None:
        """Remember a client's own map, for ``load(OPENDRIVE_MAP)``."""
        self._opendrive_text = text

    def _find_town(self, name: str) -> Town:
        if name == OPENDRIVE_MAP and self._opendrive_text is not None:
            with _as_refusal():
                return town_from_text(OPENDRIVE_MAP, self._opendrive_text)
        if name in ("", self.town.name):
            return self.town
        if name in self._town_files:
            path = self._town_files[name]
            net = path.with_name(f"{name}.net.xml")
            with _as_refusal():
                return load_town(path, net if net.is_file() else None)
        if name in available_towns():
            with _as_refusal():
                return load_town(name)
        raise RequestRefused(
            f"no town {name!r:.80}; this server has {', '.join(self.town_names())} "
            "(start it with --town-dir DIR to offer the OpenDRIVE files of a folder)"
        )

    def first_snapshot(self) -> bytes:
        """The state of a new episode, under a frame number that clients have not seen."""
        self.frame += 1
        return self.snapshot()

    def forget_mover(self, key: str) -> None:
        """The traffic simulation does not move that actor any more."""
        self._movers.pop(key, None)

    def close(self) -> None:
        """Release what lives outside Python's memory."""
        self._close()

    def new_stream_id(self) -> int:
        """A stream id that no sensor of any episode had."""
        self._last_stream_id += 1
        return self._last_stream_id

    # --- a frame --------------------------------------------------------------------------------

    def tick(self, is_listened: Callable[[int], bool] = lambda stream_id: True) -> Frame:
        """Advance by one frame and measure what is due and ``is_listened`` to."""
        delta_s = self.delta_s
        self.frame += 1
        self.ticks += 1
        self.elapsed_s = self.ticks_s(delta_s)
        self._move_client_bodies(delta_s)
        self._move_traffic(delta_s)
        self._follow_parents()
        vehicles = self.actors.of_kind(Vehicle)
        self._triggers.update(vehicles)
        self._read_speed_limits(vehicles)
        self.last_delta_s = delta_s
        snapshot = self.snapshot()
        return Frame(self.frame, snapshot, self.measurements.take(self, is_listened))

    def ticks_s(self, delta_s: float) -> float:
        """Simulated time after one more frame."""
        return self.elapsed_s + delta_s

    def snapshot(self) -> bytes:
        """The episode state of this frame, ready for the wire."""
        rows = [actor.row() for actor in self.actors]
        return b"".join(
            (
                pack_header(TYPE_WORLD, self.frame, self.elapsed_s),
                pack_state(self.episode_id, self.elapsed_s, self.last_delta_s, 0),
                *rows,
            )
        )

    def visible(self) -> VisibleWorld:
        """What the sensors see of this frame."""
        return VisibleWorld(
            frame=self.ticks,
            elapsed_s=self.elapsed_s,
            delta_s=self.last_delta_s,
            weather=self.weather,
            actors=tuple(v for v in map(_visible, self.actors) if v is not None),
            lights={light.signal.signal_id: light.status.state for light in self.lights},
        )

    def _move_client_bodies(self, delta_s: float) -> None:
        driven = [a for a in self.actors if isinstance(a, (ClientVehicle, ClientWalker))]
        for actor in driven:
            actor.body.step(delta_s, self._heights.near(actor.pose.transform.z))
        self.contacts = (
            self.contact_solver.resolve(
                {a.actor_id: a.body for a in driven}, self.obstacles(), delta_s
            )
            if driven
            else []
        )
        for actor in driven:
            actor.pose = actor.body.pose

    def obstacles(self, *, with_client_bodies: bool = False) -> list[Obstacle]:
        """Solid actors that a contact does not move: traffic and props."""
        solid = (TrafficVehicle, TrafficWalker, Prop)
        if with_client_bodies:
            solid = (*solid, ClientVehicle, ClientWalker)
        return [
            Obstacle(a.actor_id, a.pose, a.box, a.blueprint.mass_kg)
            for a in self.actors
            if isinstance(a, solid)
        ]

    def _move_traffic(self, delta_s: float) -> None:
        mirrored = [
            MirroredVehicle(a.actor_id, a.blueprint.blueprint_id, a.pose, a.box.extent)
            for a in self.actors
            if isinstance(a, ClientVehicle)
        ]
        self.traffic.step(delta_s, mirrored, [])
        self._sync_movers()
        self.read_lights()

    def read_lights(self) -> None:
        """Take over what the lights show, after a step or a client's command."""
        statuses = {s.signal_id: s for s in self.traffic.lights()}
        for light in self.lights:
            light.status = statuses.get(light.signal.signal_id, light.status)

    def _sync_movers(self) -> None:
        seen: dict[str, int] = {}
        for mover in self.traffic.actors():
            actor_id = self._movers.get(mover.key)
            actor = None if actor_id is None else self.actors.find(actor_id)
            if isinstance(actor, (TrafficVehicle, TrafficWalker)):
                actor.mover = mover
                actor.pose = mover.pose
            else:
                actor = self._enter(mover)
            seen[mover.key] = actor.actor_id
        for key, actor_id in self._movers.items():
            if key not in seen:
                self.actors.remove(actor_id)
        self._movers = seen

    def _enter(self, mover: MovingActor) -> Actor:
        blueprint = self.library[mover.blueprint]
        attributes = blueprint.defaults()
        walks = mover.blueprint.startswith("walker.")
        attributes["role_name"] = "background" if walks else "autopilot"
        if "color" in attributes:
            attributes["color"] = ",".join(map(str, mover.color))
        kind = TrafficWalker if walks else TrafficVehicle
        return self.actors.add(
            kind(
                actor_id=self.actors.new_id(),
                blueprint=blueprint,
                attributes=attributes,
                box=blueprint.box,
                pose=mover.pose,
                mover=mover,
            )
        )

    def _follow_parents(self) -> None:
        for actor in self.actors:
            if actor.parent_id and actor.mount is not None:
                parent = self.actors.find(actor.parent_id)
                if parent is not None:
                    actor.pose = replace(
                        parent.pose, transform=parent.pose.transform.compose(actor.mount)
                    )

    def _read_speed_limits(self, vehicles: list[Vehicle]) -> None:
        for vehicle in vehicles:
            if (self.ticks + vehicle.actor_id) % _SPEED_LIMIT_EVERY == 0:
                t = vehicle.pose.transform
                vehicle.speed_limit_kmh = self.town.network.speed_limit_kmh(t.x, t.y) or 30.0

    # --- an episode -----------------------------------------------------------------------------

    def _open(self, town: Town) -> None:
        self.town = town
        self.episode_id += 1
        self.ticks = 0
        self.elapsed_s = 0.0
        self.last_delta_s = 0.0
        self.actors = ActorRegistry()
        self._movers: dict[str, int] = {}
        self.spectator = self.actors.add(
            Actor(
                actor_id=self.actors.new_id(),
                blueprint=self.library[SPECTATOR],
                attributes={},
                pose=Pose(Transform(z=10.0)),
            )
        )
        self._heights = HeightField(town.network)
        self.spawn_points = town.network.spawn_points()
        place_signals(self.actors, self.library, town.network.signals)
        self.lights = self.actors.of_kind(TrafficLight)
        self._triggers = LightTriggers(self.lights)
        self.scenery = grow_scenery(town.network, self.config.seed)
        self.contact_solver = ContactSolver(self.scenery.boxes)
        self.contacts: list[Contact] = []
        self.renderer = Renderer(self.scenery)
        self.measurements = Measurements(self.renderer, town.network.geo)
        self.traffic = Traffic(
            town,
            seed=self.config.seed,
            num_vehicles=self.config.num_vehicles,
            num_walkers=self.config.num_walkers,
        )
        self.read_lights()
        _LOG.info(
            "episode %d\n  town %s\n  spawn points %d\n  traffic lights %d",
            self.episode_id,
            town.name,
            len(self.spawn_points),
            len(self.lights),
        )

    def _close(self) -> None:
        self.traffic.close()
        self.renderer.close()


def _visible(actor: Actor) -> VisibleActor | None:
    if not actor.blueprint.has_body:
        return None
    color = actor.attributes.get("color", "128,128,128")
    r, g, b = (int(v) for v in color.split(","))
    vehicle = isinstance(actor, Vehicle)
    return VisibleActor(
        actor.actor_id,
        actor.blueprint.blueprint_id,
        actor.pose.transform,
        actor.pose.velocity,
        (r, g, b),
        vehicle and actor.control.brake > 0.0,
        actor.lights if vehicle else 0,
        actor.control.steer if vehicle else 0.0,
    )


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
