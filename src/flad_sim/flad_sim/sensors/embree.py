# SPDX-License-Identifier: Apache-2.0
"""Embree by its C interface: scenes of meshes and instances, and rays sixteen at a time.

The library is the one that ``embreex`` installs. Its own binding traces one ray at a time and
rebuilds whatever moves; packets of 16 coherent rays measured 60 against 10 million rays a second
here, and an instance moves for a microsecond. The traversal itself is called from compiled kernels
(:data:`intersect16`, :data:`occluded16`), without the GIL.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any, NamedTuple

import embreex
import numpy as np
from llvmlite import binding as llvm
from numba import types
from numpy.typing import NDArray

from flad_sim.errors import SimError
from flad_sim.scenery.mesh import Mesh
from flad_sim.sensors.jit import kernel, pointer
from flad_sim.types import Transform

PACKET = 16
INVALID = -1  # geometry, primitive or instance id of a miss
# Where the fields of a packet begin in its memory (RTCRayHit16: each field is 16 lanes), its size.
ORG_X, ORG_Y, ORG_Z, T_NEAR, DIR_X, DIR_Y, DIR_Z, TIME, T_FAR, MASK, RAY_ID, FLAGS = range(
    0, 192, 16
)
NG_X, NG_Y, NG_Z, HIT_U, HIT_V, PRIM_ID, GEOM_ID, INST_ID, INST_PRIM_ID = range(192, 336, 16)
PACKET_WORDS = 352

_TRIANGLE, _INSTANCE = 0, 121
_INDEX_BUFFER, _VERTEX_BUFFER = 0, 1
_UINT3, _FLOAT3, _FLOAT3X4_COLUMN_MAJOR = 0x5003, 0x9003, 0x9234
_QUALITY_LOW, _QUALITY_MEDIUM, _QUALITY_HIGH = 0, 1, 2
_SCENE_DYNAMIC, _SCENE_ROBUST = 1, 4
_COHERENT = 1 << 16

_PTR, _UINT, _SIZE, _INT = ctypes.c_void_p, ctypes.c_uint, ctypes.c_size_t, ctypes.c_int
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "rtcNewDevice": (_PTR, [ctypes.c_char_p]),
    "rtcReleaseDevice": (None, [_PTR]),
    "rtcGetDeviceError": (_INT, [_PTR]),
    "rtcNewScene": (_PTR, [_PTR]),
    "rtcReleaseScene": (None, [_PTR]),
    "rtcSetSceneFlags": (None, [_PTR, _INT]),
    "rtcSetSceneBuildQuality": (None, [_PTR, _INT]),
    "rtcCommitScene": (None, [_PTR]),
    "rtcNewGeometry": (_PTR, [_PTR, _INT]),
    "rtcReleaseGeometry": (None, [_PTR]),
    "rtcCommitGeometry": (None, [_PTR]),
    "rtcAttachGeometryByID": (None, [_PTR, _PTR, _UINT]),
    "rtcDetachGeometry": (None, [_PTR, _UINT]),
    "rtcSetSharedGeometryBuffer": (None, [_PTR, _INT, _UINT, _INT, _PTR, _SIZE, _SIZE, _SIZE]),
    "rtcSetGeometryInstancedScene": (None, [_PTR, _PTR]),
    "rtcSetGeometryTransform": (None, [_PTR, _UINT, _INT, _PTR]),
}


def _library_path() -> Path:
    package = Path(embreex.__file__).parent
    for folder in (package.parent / "embreex.libs", package / ".dylibs", package):
        for pattern in ("libembree4*.so*", "libembree4*.dylib", "embree4*.dll"):
            if found := sorted(folder.glob(pattern)):
                return found[0]
    raise SimError(
        f"no Embree library beside {package}; install embreex's wheel (pip install 'embreex>=4.4')"
    )


def _load() -> Any:
    path = str(_library_path())
    llvm.load_library_permanently(path)  # so that kernels find its symbols by name
    library = ctypes.CDLL(path)
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


_rtc = _load()
_packet_call = types.void(types.intp, types.intp, types.intp, types.intp)
# In a kernel: intersect16(valid, scene, packet, arguments), all addresses.
intersect16: Any = types.ExternalFunction("rtcIntersect16", _packet_call)
occluded16: Any = types.ExternalFunction("rtcOccluded16", _packet_call)


class Packet(NamedTuple):
    """A thread's packets as a kernel sees them: words to index, addresses to pass on."""

    rays: Any
    ids: Any
    shadow: Any
    shadow_ids: Any
    valid: Any
    scratch: Any
    rays_at: int
    shadow_at: int
    valid_at: int
    arguments_at: int


@kernel
def packet_pointers(p: Packet) -> Packet:
    """The same with pointers for arrays."""
    return Packet(
        pointer(p.rays),
        pointer(p.ids),
        pointer(p.shadow),
        pointer(p.shadow_ids),
        pointer(p.valid),
        pointer(p.scratch),
        p.rays_at,
        p.shadow_at,
        p.valid_at,
        p.arguments_at,
    )


class Device:
    """Embree's device: owner of all scenes, builds on the calling thread."""

    def __init__(self) -> None:
        self._handle = _rtc.rtcNewDevice(b"threads=1,set_affinity=0")
        self.check("making the device")

    def check(self, doing: str) -> None:
        """Raise what Embree complained about since the last check."""
        if code := _rtc.rtcGetDeviceError(self._handle):
            raise SimError(f"Embree error {code} while {doing}")

    def mesh_scene(self, mesh: Mesh) -> MeshScene:
        """A committed scene of one mesh."""
        return MeshScene(self, self._handle, mesh)

    def world_scene(self) -> WorldScene:
        """An empty scene for instances."""
        return WorldScene(self, self._handle)

    def close(self) -> None:
        """Release the device; its scenes must be closed before."""
        _rtc.rtcReleaseDevice(self._handle)


class MeshScene:
    """A scene of one mesh at rest."""

    def __init__(self, device: Device, device_handle: int, mesh: Mesh) -> None:
        # Embree reads 16 bytes at the last vertex's 12: one vertex of padding. The buffers are
        # shared, so this object keeps them.
        padding = np.zeros((1, 3), dtype=np.float32)
        self._vertices = np.ascontiguousarray(np.concatenate([mesh.vertices, padding]))
        self._triangles = np.ascontiguousarray(mesh.triangles)
        self.handle = _rtc.rtcNewScene(device_handle)
        _rtc.rtcSetSceneBuildQuality(self.handle, _QUALITY_HIGH)
        _rtc.rtcSetSceneFlags(self.handle, _SCENE_ROBUST)
        geometry = _rtc.rtcNewGeometry(device_handle, _TRIANGLE)
        for kind, layout, data, count in (
            (_VERTEX_BUFFER, _FLOAT3, self._vertices, len(mesh.vertices)),
            (_INDEX_BUFFER, _UINT3, self._triangles, len(mesh.triangles)),
        ):
            _rtc.rtcSetSharedGeometryBuffer(
                geometry, kind, 0, layout, data.ctypes.data, 0, 12, count
            )
        _rtc.rtcCommitGeometry(geometry)
        _rtc.rtcAttachGeometryByID(self.handle, geometry, 0)
        _rtc.rtcReleaseGeometry(geometry)
        _rtc.rtcCommitScene(self.handle)
        device.check(f"building a mesh of {len(mesh.triangles)} triangles")

    def close(self) -> None:
        """Release the scene."""
        _rtc.rtcReleaseScene(self.handle)


class WorldScene:
    """A scene of instances, one per slot; slots are small integers that the caller hands out."""

    def __init__(self, device: Device, device_handle: int) -> None:
        self._device = device
        self._device_handle = device_handle
        self._geometries: dict[int, int] = {}
        self.handle = _rtc.rtcNewScene(device_handle)
        _rtc.rtcSetSceneFlags(self.handle, _SCENE_DYNAMIC)

    def attach(self, slot: int, scene: MeshScene) -> None:
        """Put an instance of ``scene`` into a free ``slot``, at the origin."""
        geometry = _rtc.rtcNewGeometry(self._device_handle, _INSTANCE)
        _rtc.rtcSetGeometryInstancedScene(geometry, scene.handle)
        _rtc.rtcAttachGeometryByID(self.handle, geometry, slot)
        _rtc.rtcReleaseGeometry(geometry)
        self._geometries[slot] = geometry
        self.move(slot, Transform())

    def move(self, slot: int, transform: Transform) -> None:
        """Place the instance in ``slot``."""
        matrix = np.empty((4, 3), dtype=np.float32)
        matrix[:3] = transform.rotation_matrix().T
        matrix[3] = transform.location
        geometry = self._geometries[slot]
        address = matrix.ctypes.data
        _rtc.rtcSetGeometryTransform(geometry, 0, _FLOAT3X4_COLUMN_MAJOR, address)
        _rtc.rtcCommitGeometry(geometry)

    def detach(self, slot: int) -> None:
        """Take the instance out of ``slot``."""
        _rtc.rtcDetachGeometry(self.handle, slot)
        del self._geometries[slot]

    def commit(self) -> None:
        """Make the changes visible to rays."""
        _rtc.rtcCommitScene(self.handle)
        self._device.check(f"placing {len(self._geometries)} instances")

    def close(self) -> None:
        """Release the scene and its instances."""
        _rtc.rtcReleaseScene(self.handle)


class PacketMemory:
    """One thread's memory for packets of rays, aligned as Embree wants it.

    ``rays`` and ``shadow`` are packets as float32 words (``ids`` and ``shadow_ids`` the same bytes
    as int32), ``valid`` the lanes' masks of the two, ``scratch`` 16 lanes each of what a kernel
    likes, ``arguments`` what every call takes.
    """

    def __init__(self) -> None:
        self.rays = _aligned(PACKET_WORDS)
        self.ids = self.rays.view(np.int32)
        self.shadow = _aligned(PACKET_WORDS)
        self.shadow_ids = self.shadow.view(np.int32)
        self.valid = _aligned(2 * PACKET).view(np.int32)
        self.scratch = _aligned(4 * PACKET)
        # RTCIntersectArguments: flags, feature mask (all), then null pointers.
        self.arguments = np.zeros(16, dtype=np.int32)
        self.arguments[0], self.arguments[1] = _COHERENT, -1

    def packet(self) -> Packet:
        """What kernels take."""
        return Packet(
            self.rays, self.ids, self.shadow, self.shadow_ids, self.valid, self.scratch,
            self.rays.ctypes.data, self.shadow.ctypes.data, self.valid.ctypes.data,
            self.arguments.ctypes.data,
        )  # fmt: skip


def _aligned(num_floats: int) -> NDArray[np.float32]:
    memory = np.zeros(num_floats + 16, dtype=np.float32)
    start = (-memory.ctypes.data % 64) // 4
    return memory[start : start + num_floats]
