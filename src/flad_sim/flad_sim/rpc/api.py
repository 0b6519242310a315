# SPDX-License-Identifier: Apache-2.0
"""What a handler may use: the world, and the server's few services."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from flad_sim.episode import Episode
from flad_sim.errors import RequestRefused
from flad_sim.world import World


class Api(Protocol):
    """The server as the handlers see it."""

    world: World
    traffic_managers: dict[int, str]  # host by port

    @property
    def episode(self) -> Episode:
        """The present episode of the world."""

    def note(self, text: str) -> None:
        """Say something in the log, the first time only."""

    def register_traffic_manager(self, port: int, host: str) -> None:
        """Remember the calling client's TrafficManager for as long as the client is connected."""

    def tick(self) -> int:
        """Advance by a frame, publish it, and return its number."""

    def apply_settings(self, settings: Any) -> int:
        """Take over the settings and return the frame from which they hold."""

    def change_episode(self, load: Callable[[], None]) -> None:
        """Run ``load``, which begins a new episode, and tell every client."""

    def stream_token(self, stream_id: int) -> bytes:
        """The token with which a client may subscribe."""

    def expect_subscriber(self, stream_id: int) -> None:
        """A client is about to subscribe: nothing published meanwhile may be lost."""


class Shape(Enum):
    """How a result is wrapped on the wire."""

    VALUE = "Response<T>"
    VOID = "Response<void>"
    BARE = "T"


@dataclass(frozen=True, slots=True)
class Handler:
    """One remote call; ``run(api, *args)``."""

    run: Callable[..., Any]
    shape: Shape


def values(**handlers: Callable[..., Any]) -> dict[str, Handler]:
    """Calls that return something."""
    return {name: Handler(run, Shape.VALUE) for name, run in handlers.items()}


def voids(**handlers: Callable[..., Any]) -> dict[str, Handler]:
    """Calls that return nothing but may fail."""
    return {name: Handler(run, Shape.VOID) for name, run in handlers.items()}


@contextmanager
def refusing() -> Iterator[None]:
    """A value that the world cannot work with goes back to the client who sent it."""
    try:
        yield
    except ValueError as error:
        raise RequestRefused(str(error)) from error
