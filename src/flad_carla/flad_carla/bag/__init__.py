# SPDX-License-Identifier: Apache-2.0
"""Records runs as rosbag2 folders (MCAP) that rviz and Foxglove open; needs no ROS."""

from flad_carla.bag.recorder import BagConfig, BagRecorder

__all__ = ["BagConfig", "BagRecorder"]
