# SPDX-License-Identifier: Apache-2.0
"""Two hosts with a slow link between them, on this machine: two network namespaces, and this.

Each namespace has one interface (TUN); what it sends comes here as IP packets and goes on to the
other one at the link's rate, after its delay. Every protocol meets the same link, also those that
the program under test does not know of. Needs root; the kernel's own ``netem`` is not needed.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import threading
import time
from dataclasses import dataclass
from types import TracebackType

_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_CLONE_NEWNET = 0x40000000
_MTU_BYTES = 1500
_BURST_PACKETS = 20_000
INTERFACE = "radio"
"""Of each namespace."""


@dataclass(frozen=True, kw_only=True)
class LinkProfile:
    """The link in each direction."""

    rate_bps: float
    delay_s: float
    loss: float = 0.0
    queue_s: float = 1.0
    """A packet that would wait longer in the link's queue is dropped."""


class SlowLink:
    """Namespaces ``NAME0`` and ``NAME1`` with addresses ``10.77.0.1`` and ``10.77.0.2``.

    Raises:
        PermissionError: without root.
    """

    hosts = ("10.77.0.1", "10.77.0.2")

    def __init__(self, name: str, profile: LinkProfile, seed: int = 1) -> None:
        if os.geteuid() != 0:
            raise PermissionError("network namespaces need root")
        self._namespaces = (f"{name}0", f"{name}1")
        self._profile = profile
        self._random = random.Random(seed)
        self._files: list[int] = []
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._forward, daemon=True)
        self.num_bytes = [0, 0]
        """Passed on from each end, with all headers."""
        self.num_dropped = [0, 0]

    def __enter__(self) -> SlowLink:
        try:
            self._make()
        except BaseException:
            self._unmake()
            raise
        self._thread.start()
        return self

    def _make(self) -> None:
        for namespace, host, other in zip(
            self._namespaces, self.hosts, reversed(self.hosts), strict=True
        ):
            _ip("netns", "add", namespace)
            self._files.append(_tun_in(namespace, INTERFACE))
            for command in (
                ("link", "set", "lo", "up"),
                ("addr", "add", host, "peer", other, "dev", INTERFACE),
                ("link", "set", "dev", INTERFACE, "mtu", str(_MTU_BYTES), "multicast", "on"),
                # A TUN interface does not hold its sender back: a burst must fit until it is read.
                ("link", "set", "dev", INTERFACE, "txqueuelen", str(_BURST_PACKETS), "up"),
                ("route", "add", "224.0.0.0/4", "dev", INTERFACE),
            ):
                _ip("-n", namespace, *command)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed.set()
        self._thread.join()
        self._unmake()

    def _unmake(self) -> None:
        for file in self._files:
            os.close(file)
        for namespace in self._namespaces:
            subprocess.run(["ip", "netns", "del", namespace], check=False, capture_output=True)

    def inside(self, end: int, command: list[str]) -> list[str]:
        """``command``, to be run on one of the hosts."""
        return ["ip", "netns", "exec", self._namespaces[end], *command]

    def _forward(self) -> None:
        free_s = [0.0, 0.0]
        waiting: list[tuple[float, int, int, bytes]] = []
        number = 0
        while not self._closed.is_set():
            pause_s = min(0.1, max(0.0, waiting[0][0] - time.monotonic())) if waiting else 0.1
            for file in select.select(self._files, [], [], pause_s)[0]:
                end, packet, now_s = (
                    self._files.index(file),
                    os.read(file, 65_536),
                    time.monotonic(),
                )
                waits_s = max(0.0, free_s[end] - now_s)
                lost = self._random.random() < self._profile.loss
                if lost or waits_s > self._profile.queue_s:
                    self.num_dropped[end] += 1
                    continue
                free_s[end] = now_s + waits_s + 8.0 * len(packet) / self._profile.rate_bps
                number += 1
                arrives_s = free_s[end] + self._profile.delay_s
                heapq.heappush(waiting, (arrives_s, number, 1 - end, packet))
                self.num_bytes[end] += len(packet)
            while waiting and waiting[0][0] <= time.monotonic():
                _, _, end, packet = heapq.heappop(waiting)
                os.write(self._files[end], packet)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def _tun_in(namespace: str, name: str) -> int:
    """A TUN interface inside a namespace; made by a thread that goes there and ends."""
    made: list[int] = []
    errors: list[OSError] = []

    def make() -> None:
        try:
            with open(f"/var/run/netns/{namespace}") as file:
                if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), f"setns into {namespace}")
            tun = os.open("/dev/net/tun", os.O_RDWR)
            fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TUN | _IFF_NO_PI))
            made.append(tun)
        except OSError as error:
            errors.append(error)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return made[0]
