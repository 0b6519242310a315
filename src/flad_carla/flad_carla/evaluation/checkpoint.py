# SPDX-License-Identifier: Apache-2.0
"""The results file: written atomically after every route, and where a broken run goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flad_carla.evaluation.protocol import Protocol
from flad_carla.evaluation.statistics import Json, global_record, values_and_labels


class CheckpointError(ValueError):
    """A results file that cannot be continued; the text says why and what to do."""


class Checkpoint:
    """Collects route records into one results JSON.

    ``config`` (routes file, seed, driver, ...) is written beside the results; a run may only be
    continued under the same one.
    """

    def __init__(
        self,
        path: Path,
        protocol: Protocol,
        route_ids: Sequence[str],
        config: Mapping[str, Any],
        sensors: Sequence[str] = (),
    ) -> None:
        self._path = path
        self._protocol = protocol
        self._route_ids = list(route_ids)  # one per route and repetition, in running order
        self._config = dict(config)
        self._sensors = list(sensors)
        self.records: list[Json] = []

    @property
    def next_index(self) -> int:
        """The first route run that has no record."""
        return len(self.records)

    def resume(self) -> int:
        """Take over the records of an earlier run; returns the index to go on with.

        A file that says "Finished" is complete. Otherwise the last record is run again when it
        tells of a crash.

        Raises:
            CheckpointError: if the file is no results file of the same routes and configuration.
        """
        if not self._path.exists():
            return 0
        try:
            data = json.loads(self._path.read_text())
            records = data["_checkpoint"]["records"]
            asked = data["flad"]["route_ids"]
            config = data["flad"]["config"]
        except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{self._path} is no results file of this program ({type(error).__name__}: "
                f"{error}); move it away, or run without --resume"
            ) from None
        if asked != self._route_ids:
            raise CheckpointError(
                f"{self._path} was made with other routes ({_short(asked)}) than now "
                f"({_short(self._route_ids)}); run without --resume to start over"
            )
        changed = sorted(
            k for k in config.keys() | self._config.keys() if config.get(k) != self._config.get(k)
        )
        if changed:
            raise CheckpointError(
                f"{self._path} was made with another {', '.join(changed)}: "
                + "; ".join(
                    f"{k} {config.get(k)!r} then, {self._config.get(k)!r} now" for k in changed
                )
                + "; run without --resume to start over"
            )
        while records and "crashed" in records[-1]["status"]:
            records = records[:-1]
        self.records = list(records)
        return self.next_index

    def add(self, record: Json) -> None:
        """Append one route's record and write the file."""
        self.records.append(record)
        self.write("Finished" if self.next_index == len(self._route_ids) else "Started")

    def global_record(self) -> Json:
        """Means over everything asked for, with what is known now."""
        return global_record(self.records, len(self._route_ids), self._protocol)

    def write(self, entry_status: str) -> None:
        """Write the whole file; a reader sees either the old or the new one."""
        record = self.global_record()
        if entry_status == "Finished" and self._protocol.version == 1:
            entry_status = _lb1_status(self.records)
        values, labels = values_and_labels(record, self._protocol)
        data = {
            "_checkpoint": {
                "global_record": record,
                "progress": [self.next_index, len(self._route_ids)],
                "records": self.records,
            },
            "entry_status": entry_status,
            "eligible": entry_status == "Finished",
            "sensors": self._sensors,
            "values": values,
            "labels": labels,
            "flad": {
                "protocol": self._protocol.name,
                "route_ids": self._route_ids,
                "config": self._config,
            },
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_name(f".{self._path.name}.part")
        with part.open("w") as file:
            json.dump(data, file, indent=4)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._path)


def _lb1_status(records: Sequence[Json]) -> str:
    crashed = [r for r in records if "crashed" in r["status"] or "couldn't" in r["status"]]
    return "Finished with agent errors" if crashed else "Finished"


def _short(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
