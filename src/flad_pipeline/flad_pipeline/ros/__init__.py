# SPDX-License-Identifier: Apache-2.0
"""The parts of flad_pipeline that need rclpy."""
