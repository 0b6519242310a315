# SPDX-License-Identifier: Apache-2.0
"""From waypoints to pedals and steering: the last step, on the vehicle."""
