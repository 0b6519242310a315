# SPDX-License-Identifier: Apache-2.0
"""The same rays by embreex's own binding: an oracle for tests, a baseline for the benchmark."""

from __future__ import annotations

import numpy as np
from embreex import rtcore_scene
from embreex.mesh_construction import TriangleMesh
from numpy.typing import NDArray

from flad_sim.scenery.mesh import Mesh
from flad_sim.sensors.frame import View


class ReferenceTracer:
    """Traces a mesh at rest one ray at a time."""

    def __init__(self, mesh: Mesh) -> None:
        self._scene = rtcore_scene.EmbreeScene()
        self._mesh = TriangleMesh(self._scene, mesh.vertices[mesh.triangles])

    def depths_m(self, view: View) -> NDArray[np.float32]:
        """Depth along the optical axis ``[H, W]`` of a view; inf where there is nothing."""
        u = (np.arange(view.width) + 0.5 - 0.5 * view.width) / view.focal_px
        v = (np.arange(view.height) + 0.5 - 0.5 * view.height) / view.focal_px
        gu, gv = np.meshgrid(u, v)
        local = np.stack([np.ones_like(gu), gu, -gv], axis=-1).reshape(-1, 3)
        directions = np.ascontiguousarray(local @ view.axes, dtype=np.float32)
        origins = np.tile(view.origin, (len(directions), 1))
        found = self._scene.run(origins, directions, query="INTERSECT", output=True)
        hit = found["primID"] >= 0
        depths: NDArray[np.float32] = np.where(hit, found["tfar"], np.float32(np.inf))
        return depths.reshape(view.height, view.width)
