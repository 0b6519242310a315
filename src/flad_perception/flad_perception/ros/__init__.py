# SPDX-License-Identifier: Apache-2.0
"""The parts of flad_perception that need ROS messages."""
