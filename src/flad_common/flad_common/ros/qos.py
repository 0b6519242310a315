# SPDX-License-Identifier: Apache-2.0
"""Quality of service, by purpose. A publisher and its subscribers import the same name."""

from __future__ import annotations

from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy


def _profile(
    depth: int, *, best_effort: bool = False, latched: bool = False, lease_s: float | None = None
) -> QoSProfile:
    """A profile that leaves nothing to the middleware's own defaults, which differ."""
    lease = {} if lease_s is None else {"liveliness_lease_duration": Duration(seconds=lease_s)}
    reliability = ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE
    durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
    return QoSProfile(
        depth=depth,
        reliability=reliability,
        durability=durability,
        liveliness=LivelinessPolicy.AUTOMATIC,
        **lease,
    )


# Only the newest command matters, and it must arrive.
CONTROL = _profile(1)

# In lockstep every message is awaited by name (its stamp); none may be overwritten unread.
LOCKSTEP = _profile(32)

# Cameras and LiDAR in real time: an old frame is worth less than the next one.
SENSOR = _profile(5, best_effort=True)

# What the bridge publishes: reliable, as ros-bridge does, so that both kinds of subscriber match.
SENSOR_OUT = _profile(10)

# What an encoder says of a tick. In lockstep it is awaited by name, and whoever is matched only
# after it was said must still get it: nothing else would ever come.
SCENE = _profile(8, latched=True)

# Ego state, plans and planner status: small, ordered, all of them wanted.
STATE = _profile(10)

# One topic for all vehicles of an edge: a burst of every one of them must fit.
MANY = _profile(256)

# The same from the edge, whose death every vehicle notices: a killed process within 0.3 s.
ANSWERS = _profile(256, lease_s=0.3)

# Said once, heard by whoever comes later: vehicle info, route, map.
LATCHED = _profile(1, latched=True)

# rclpy's own time source listens best effort with depth 1; reliable serves both kinds.
CLOCK = _profile(10)

# Markers, paths and pictures for people; a slow viewer must not slow the vehicle.
VIEW = _profile(2)

# /diagnostics, about 1 Hz.
DIAGNOSTICS = _profile(10)

# /tf is a stream; /tf_static is latched, and each publisher may speak more than once.
TF = _profile(100)
TF_STATIC = _profile(100, latched=True)


def inbox(depth: int) -> QoSProfile:
    """Of a vehicle that trains with others: credits keep what is on the way below ``depth``."""
    return _profile(depth)


def alive(lease_s: float) -> QoSProfile:
    """Of a topic on which nothing is said: DDS itself tells whether its publisher's process runs.

    Automatic liveliness also stays while a process holds Python's lock, for example in a long
    computation; only a process that is dead, stopped or cut off loses it.
    """
    return _profile(1, lease_s=lease_s)
