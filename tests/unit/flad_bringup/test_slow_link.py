# SPDX-License-Identifier: Apache-2.0
"""Two hosts on this computer: what crosses the link between them, and what Linux counts of it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from flad_bringup.bench.slow_link import INTERFACE, LinkProfile, SlowLink

pytestmark = pytest.mark.needs_network_namespaces

NUM, SIZE, DELAY_S = 40, 1000, 0.02
PORT = 5005
ECHO = f"""
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", {PORT}))
s.settimeout(30)
print("ready", flush=True)
while True:
    data, who = s.recvfrom(65536)
    s.sendto(data, who)
    if data == b"end":
        break
"""
ASK = f"""
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(0.5)
fastest, back = 9.0, 0
for i in range({NUM}):
    began = time.monotonic()
    s.sendto(bytes({SIZE}), (sys.argv[1], {PORT}))
    try:
        back += len(s.recv(65536)) == {SIZE}
        fastest = min(fastest, time.monotonic() - began)
    except TimeoutError:
        pass
for _ in range(20):
    s.sendto(b"end", (sys.argv[1], {PORT}))
print(back, fastest)
"""


@pytest.mark.parametrize("loss", [0.0, 0.3])
def test_what_crosses_is_late_or_lost_and_counted_as_linux_counts_it(loss: float):
    profile = LinkProfile(rate_bps=50e6, delay_s=DELAY_S, loss=loss)
    with SlowLink(f"flad_t{os.getpid()}_", profile, seed=2) as link:
        echo = subprocess.Popen(
            link.inside(1, [sys.executable, "-c", ECHO]), stdout=subprocess.PIPE, text=True
        )
        try:
            assert echo.stdout is not None
            assert echo.stdout.readline() == "ready\n"
            asked = subprocess.run(
                link.inside(0, [sys.executable, "-c", ASK, link.hosts[1]]),
                check=True,
                capture_output=True,
                text=True,
                timeout=60.0,
            )
            echo.wait(60.0)
            # Hosts still answer what comes to a closed port: what comes later is counted later.
            received = [_counted(link, end, "rx_bytes") for end in (0, 1)]
            passed_on = list(link.num_bytes)
            sent = [_counted(link, end, "tx_bytes") for end in (0, 1)]
        finally:
            echo.kill()
            echo.wait(10.0)
        back, fastest_s = asked.stdout.split()
        assert float(fastest_s) >= 2.0 * DELAY_S
        assert int(back) == NUM if loss == 0.0 else 0 < int(back) < NUM
        for end in (0, 1):
            # Ours hold what was passed on: at most what one interface sent, and what another got.
            assert received[1 - end] <= passed_on[end] <= sent[end]
            assert passed_on[end] >= int(back) * SIZE
        assert (link.num_dropped[0] + link.num_dropped[1] > 0) == (loss > 0.0)


def _counted(link: SlowLink, end: int, what: str) -> int:
    """Linux's own count."""
    file = f"/sys/class/net/{INTERFACE}/statistics/{what}"
    return int(
        subprocess.run(link.inside(end, ["cat", file]), check=True, capture_output=True).stdout
    )
