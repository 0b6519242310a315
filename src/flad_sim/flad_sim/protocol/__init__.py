# SPDX-License-Identifier: Apache-2.0
"""CARLA 0.9.16's network protocol as bytes: framing, structs, tokens, snapshots, sensor payloads.

Nothing here knows the world or a socket. The servers that use it are in ``flad_sim.server``.
"""
