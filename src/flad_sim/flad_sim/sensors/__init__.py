# SPDX-License-Identifier: Apache-2.0
"""What the world's sensors measure: ray-traced pictures and sweeps, and values of motion."""

from __future__ import annotations

from flad_sim.sensors.renderer import SERVED, Renderer, RendererConfig

__all__ = ["SERVED", "Renderer", "RendererConfig"]
