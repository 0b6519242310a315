# SPDX-License-Identifier: Apache-2.0
"""What is emulated: how fast each vehicle computes, its memory, and the radio between them.

One dilation factor stretches computing and links alike, so that tensors, DDS and failures are real
on a computer that is slower than what it stands for; results are given in emulated time.
:mod:`flad_pipeline.testbed.pace` slows the computing, :mod:`flad_pipeline.testbed.shaped_link` the
link; ``flad_bringup.testbed`` makes a testbed of a cluster file, which the planner reads as well.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from flad_common.config import knob
from flad_pipeline.group.deadlines import TransportConfig

_CHUNK_S = 0.05
"""A packet takes no longer on a slow link: what is urgent waits for at most one."""
_WINDOW_S = 0.5
_LEAST_CHUNK_BYTES = 4096


@dataclass(frozen=True, kw_only=True)
class LinkProfile:
    """A radio link, in emulated time."""

    bits_per_s: float = knob(unit="bit/s", doc="Of payload: what protocols add is taken off.")
    delay_s: float = knob(0.0, unit="s", doc="One way.")
    loss: float = knob(0.0, unit="1", doc="Share of packets that never arrive.")

    def __post_init__(self) -> None:
        if not (math.isfinite(self.bits_per_s) and self.bits_per_s > 0.0):
            raise ValueError(f"bits_per_s must be positive and finite, got {self.bits_per_s}")
        if not (math.isfinite(self.delay_s) and self.delay_s >= 0.0):
            raise ValueError(f"delay_s must not be negative, got {self.delay_s}")
        if not 0.0 <= self.loss < 1.0:
            raise ValueError(f"loss must be in [0, 1), got {self.loss}")


@dataclass(frozen=True, kw_only=True)
class EmulatedVehicle:
    """A vehicle's computer, in emulated time."""

    seconds_per_flop: float = knob(unit="s/FLOP", doc="Eq. 8: nu / (cmp_v mu).")
    available_bytes: float = knob(unit="B", doc="Memory that training may take.")

    def __post_init__(self) -> None:
        for name in ("seconds_per_flop", "available_bytes"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class Testbed:
    """A cluster that is emulated.

    Raises:
        ValueError: if a link names a vehicle that is not there, or the dilation is not positive.
    """

    __test__ = False  # its name begins as pytest's classes do

    vehicles: Mapping[str, EmulatedVehicle]
    link: LinkProfile
    """Of every pair that is not in ``between``."""
    between: Mapping[frozenset[str], LinkProfile] = field(default_factory=dict)
    shared_channel: bool = True
    """Whether all vehicles take turns on one radio channel."""
    dilation: float = 1.0
    """Seconds here for one emulated second."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.dilation) and self.dilation > 0.0):
            raise ValueError(f"dilation must be positive and finite, got {self.dilation}")
        for pair in self.between:
            if len(pair) != 2 or not pair <= self.vehicles.keys():
                raise ValueError(
                    f"a link is between two vehicles of {sorted(self.vehicles)}, got {sorted(pair)}"
                )

    def link_between(self, a: str, b: str) -> LinkProfile:
        """The link of a pair, the same in both directions."""
        return self.between.get(frozenset((a, b)), self.link)

    def vehicle(self, name: str) -> EmulatedVehicle:
        """One of the vehicles.

        Raises:
            KeyError: naming those there are.
        """
        if name not in self.vehicles:
            raise KeyError(f"no {name!r} in the testbed; there are {sorted(self.vehicles)}")
        return self.vehicles[name]

    def transport_config(self, base: TransportConfig | None = None) -> TransportConfig:
        """``base`` for these links: smaller packets and windows where they are slow here."""
        base = base or TransportConfig()
        links = [self.link, *self.between.values()]
        bytes_per_s = min(link.bits_per_s for link in links) / 8.0 / self.dilation
        delay_s = max(link.delay_s for link in links) * self.dilation
        channel = base.channel
        chunk = int(min(channel.chunk_bytes, max(_LEAST_CHUNK_BYTES, bytes_per_s * _CHUNK_S)))
        window = max(4 * chunk, int(bytes_per_s * (_WINDOW_S + 2.0 * delay_s)))
        return dataclasses.replace(
            base,
            channel=dataclasses.replace(
                channel,
                chunk_bytes=chunk,
                open_pieces=1,
                first_window_bytes=min(channel.first_window_bytes, window),
                least_window_bytes=min(channel.least_window_bytes, window),
                least_repeat_s=min(2.0, channel.least_repeat_s + _WINDOW_S + 2.0 * delay_s),
            ),
        )

    def as_json(self) -> str:
        """For :func:`read_testbed` in another process."""
        values = {
            "vehicles": {name: dataclasses.asdict(v) for name, v in self.vehicles.items()},
            "link": dataclasses.asdict(self.link),
            "between": [[*sorted(p), dataclasses.asdict(v)] for p, v in self.between.items()],
            "shared_channel": self.shared_channel,
            "dilation": self.dilation,
        }
        return json.dumps(values)


def read_testbed(text: str) -> Testbed:
    """What :meth:`Testbed.as_json` wrote."""
    values = json.loads(text)
    return Testbed(
        vehicles={name: EmulatedVehicle(**v) for name, v in values["vehicles"].items()},
        link=LinkProfile(**values["link"]),
        between={frozenset((a, b)): LinkProfile(**v) for a, b, v in values["between"]},
        shared_channel=values["shared_channel"],
        dilation=values["dilation"],
    )
