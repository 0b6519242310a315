# SPDX-License-Identifier: Apache-2.0
"""Quality of service, by purpose. A publisher and its subscribers import the same name."""

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

# Only the newest command matters, and it must arrive.
CONTROL = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)

# In lockstep every message is awaited by name (its stamp); none may be overwritten unread.
LOCKSTEP = QoSProfile(depth=32, reliability=ReliabilityPolicy.RELIABLE)

# Cameras and LiDAR in real time: an old frame is worth less than the next one.
SENSOR = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)

# What the bridge publishes: reliable, as ros-bridge does, so that both kinds of subscriber match.
SENSOR_OUT = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)

# Ego state, plans and planner status: small, ordered, all of them wanted.
STATE = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)

# Said once, heard by whoever comes later: vehicle info, route, map.
LATCHED = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)

# rclpy's own time source listens best effort with depth 1; reliable serves both kinds.
CLOCK = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)

# Markers, paths and pictures for people; a slow viewer must not slow the vehicle.
VIEW = QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE)

# /diagnostics, about 1 Hz.
DIAGNOSTICS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)

# /tf is a stream; /tf_static is latched, and each publisher may speak more than once.
TF = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
TF_STATIC = QoSProfile(
    depth=100,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
    history=HistoryPolicy.KEEP_LAST,
)
