# SPDX-License-Identifier: Apache-2.0
"""A privileged rule-based driver: it sees boxes, lights and the map, and answers with waypoints.

``driver.Expert`` is the driver; plain values in, plain values out. Distances along the route are
called ``s``, to its right ``d``; metres, seconds, radians, CARLA's frame (y right, yaw clockwise).
"""
