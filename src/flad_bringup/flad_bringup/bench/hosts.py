# SPDX-License-Identifier: Apache-2.0
"""Vehicles that are hosts of their own, on this machine: a network namespace each, on one bridge.

The kernel forwards, so the link is open and costs nothing; a host can be cut off and connected
again, as a radio that is out of reach. Needs root. A slow or lossy link is
:mod:`flad_bringup.bench.slow_link` or the testbed's.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType

_CLONE_NEWNET = 0x40000000
_INTERFACE = "radio"


class Hosts:
    """Namespaces with addresses ``10.78.0.N``, and a bridge in a namespace of its own.

    Args:
        prefix: of the namespaces' names.
        names: of the hosts.

    Raises:
        PermissionError: without root.
    """

    def __init__(self, prefix: str, names: Sequence[str]) -> None:
        if os.geteuid() != 0:
            raise PermissionError("network namespaces need root")
        self._air = f"{prefix}_air"
        self._hosts = {name: f"{prefix}_{i}" for i, name in enumerate(names)}
        self._ports = {name: f"port{i}" for i, name in enumerate(names)}

    def __enter__(self) -> Hosts:
        try:
            self._make()
        except BaseException:
            self._unmake()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._unmake()

    def inside(self, name: str, command: Sequence[str]) -> list[str]:
        """``command``, to be run on a host."""
        return ["ip", "netns", "exec", self._hosts[name], *command]

    @contextmanager
    def this_thread(self, name: str) -> Iterator[None]:
        """This thread, and those that it starts, are on a host meanwhile."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            there = os.open(f"/var/run/netns/{self._hosts[name]}", os.O_RDONLY)
            try:
                _go_to(there)
            finally:
                os.close(there)
            try:
                yield
            finally:
                _go_to(home)
        finally:
            os.close(home)

    def cut_off(self, name: str) -> None:
        """Nothing reaches this host any more, nor leaves it."""
        _ip("-n", self._air, "link", "set", self._ports[name], "down")

    def connect(self, name: str) -> None:
        """The link is back."""
        _ip("-n", self._air, "link", "set", self._ports[name], "up")

    def _make(self) -> None:
        _ip("netns", "add", self._air)
        _ip("-n", self._air, "link", "add", "air", "type", "bridge", "mcast_snooping", "0")
        _ip("-n", self._air, "link", "set", "air", "up")
        for number, (name, host) in enumerate(self._hosts.items(), start=1):
            port = self._ports[name]
            _ip("netns", "add", host)
            pair = ("type", "veth", "peer", "name", _INTERFACE, "netns", host)
            _ip("-n", self._air, "link", "add", port, *pair)
            _ip("-n", self._air, "link", "set", port, "master", "air", "up")
            for command in (
                ("link", "set", "lo", "up"),
                ("addr", "add", f"10.78.0.{number}/24", "dev", _INTERFACE),
                ("link", "set", _INTERFACE, "up"),
                ("route", "add", "224.0.0.0/4", "dev", _INTERFACE),
            ):
                _ip("-n", host, *command)

    def _unmake(self) -> None:
        for namespace in (*self._hosts.values(), self._air):
            subprocess.run(["ip", "netns", "del", namespace], check=False, capture_output=True)


def _go_to(namespace: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
