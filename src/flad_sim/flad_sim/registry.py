# SPDX-License-Identifier: Apache-2.0
"""Who is alive in an episode: ids, kinds, parents. Used by the world's one thread."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from flad_sim.actors import Actor
from flad_sim.errors import RequestRefused

A = TypeVar("A", bound=Actor)


class ActorRegistry:
    """Actors by id, in the order of their ids; an id is never used twice."""

    def __init__(self) -> None:
        self._actors: dict[int, Actor] = {}
        self._last_id = 0

    def __len__(self) -> int:
        return len(self._actors)

    def __iter__(self) -> Iterator[Actor]:
        return iter(self._actors.values())

    def new_id(self) -> int:
        """An id that no actor had."""
        self._last_id += 1
        return self._last_id

    def add(self, actor: A) -> A:
        """Register a new actor, or another kind of actor under the id of a living one."""
        assert actor.actor_id <= self._last_id, f"id {actor.actor_id} was not given by new_id"
        self._actors[actor.actor_id] = actor
        return actor

    def remove(self, actor_id: int) -> Actor | None:
        """Forget an actor; None when it does not live."""
        return self._actors.pop(actor_id, None)

    def find(self, actor_id: int) -> Actor | None:
        """The actor of that id, None when it does not live."""
        return self._actors.get(actor_id)

    def get(self, actor_id: int, kind: type[A]) -> A:
        """The living actor of that id and kind.

        Raises:
            RequestRefused: when it does not live or is something else.
        """
        actor = self._actors.get(actor_id)
        if actor is None:
            raise RequestRefused(f"no actor {actor_id}: it was destroyed or never spawned")
        if not isinstance(actor, kind):
            raise RequestRefused(
                f"actor {actor_id} ({actor.blueprint.blueprint_id}) is no {kind.__name__}"
            )
        return actor

    def of_kind(self, kind: type[A]) -> list[A]:
        """The living actors of a kind, by id."""
        return [a for a in self._actors.values() if isinstance(a, kind)]
