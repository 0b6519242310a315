# SPDX-License-Identifier: Apache-2.0
"""A rosbag2 writer that survives a full disk: what was written stays a complete, indexed bag."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Literal

from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer

from flad_carla.bag.safe_file import DiskFullError, SafeFile
from flad_carla.bag.types import MessageTypes

# Humble reads version 8; its parser fails on 9 (rosbag2 issue 2013).
_VERSION: Literal[8] = 8
_INFINITE = QosTime(9223372036, 854775807)  # as Humble writes it


class BagWriter:
    """Writes one new bag folder with MCAP storage.

    Args:
        path: the folder; must not exist.
        types: the types of the messages.
        reserve_bytes: room kept free on the disk for the end of the bag.

    Raises:
        OSError: if the folder cannot be made, or the disk has less room than the reserve.
    """

    def __init__(self, path: Path, types: MessageTypes, reserve_bytes: int) -> None:
        self.path = path
        self._types = types
        self._writer = Writer(path, version=_VERSION, storage_plugin=StoragePlugin.MCAP)
        self._writer.open()
        storage: Any = self._writer.storage
        storage.bio.close()  # the header is on disk; from here on whole commits only
        try:
            self._file = SafeFile(storage.path, reserve_bytes)
        except OSError:
            shutil.rmtree(path, ignore_errors=True)
            raise
        storage.bio = self._file
        self._connections: dict[str, Any] = {}

    @property
    def is_full(self) -> bool:
        """Whether the disk ran full: close now, the reserve is being used."""
        return self._file.is_full

    def knows(self, type_name: str) -> bool:
        """Whether the type's definition is there."""
        return type_name in self._types

    def write(
        self, topic: str, type_name: str, message: Any, stamp_ns: int, *, latched: bool = False
    ) -> None:
        """Append a message; a topic is made when it is first used.

        Raises:
            DiskFullError: if there is no room left even without the reserve.
        """
        connection = self._connections.get(topic)
        if connection is None:
            connection = self._writer.add_connection(
                topic,
                type_name,
                typestore=self._types.store,
                offered_qos_profiles=[_qos(latched)],
            )
            self._connections[topic] = connection
        data = self._types.store.serialize_cdr(message, type_name)
        self._writer.write(connection, stamp_ns, data)
        self._file.commit()

    def close(self) -> None:
        """Write the index and the metadata.

        Raises:
            DiskFullError: if there is no room; the messages are in the file, ``ros2 bag reindex``
                makes it readable once there is.
        """
        try:
            self._writer.close()
        except OSError as error:
            raise DiskFullError(error.strerror or str(error)) from error


def _qos(latched: bool) -> Qos:
    """Reliable, depth 10; latched topics keep their last message for late subscribers."""
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=1 if latched else 10,
        reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=_INFINITE,
        lifespan=_INFINITE,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=_INFINITE,
        avoid_ros_namespace_conventions=False,
    )
