# SPDX-License-Identifier: Apache-2.0
"""FHDP: vehicles train one model together, in pipelines over ROS 2, and survive losing one."""
