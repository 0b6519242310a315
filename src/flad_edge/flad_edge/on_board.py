# SPDX-License-Identifier: Apache-2.0
"""The ADM on a vehicle: the edge's own service with a small model and one vehicle.

So the same checks and the same rule of histories hold on board. Imports PyTorch; only a vehicle
with an ADM imports this module.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from flad_edge.service.admission import AdmissionConfig
from flad_edge.service.core import EdgeService, EdgeServiceConfig
from flad_edge.service.requests import Answer, DriveRequest
from flad_edge.service.served_adllm import served_adllm

# One vehicle in this process: nobody else can claim its name, and its clock may begin anew.
_ADMISSION = AdmissionConfig(max_vehicles=1, alive_s=1e-6, forget_after_s=3600.0)


class OnBoardModel:
    """Drives frames; one thread uses it.

    Args:
        path: weights of the ADM.
        encoder_hash: of the encoder whose tokens it was trained on.

    Raises:
        OSError: if there is no such file.
        ValueError: if it is no model of this version.
    """

    def __init__(self, path: Path, encoder_hash: str) -> None:
        config = EdgeServiceConfig(max_batch=1, admission=_ADMISSION)
        self._errors: list[Exception] = []
        served = served_adllm(path, encoder_hash=encoder_hash)
        self.name = served.release.name
        self._service = EdgeService(served, time.monotonic, config, self._errors.append)

    def drive(self, unread: Sequence[DriveRequest]) -> Answer:
        """Read frames that have come since it last drove, and say where to drive at the last one.

        Args:
            unread: at least one, by stamp.

        Raises:
            Exception: what the model raised, if it broke off.
        """
        answers: list[Answer] = []
        for request in unread:
            head = replace(request.head, arrived_s=time.monotonic())
            now = replace(request, head=head, budget_s=0.0)
            answers = [*self._service.submit(now), *self._service.run_batch(time.monotonic())]
        if self._errors:
            error = self._errors[-1]
            self._errors.clear()
            raise error
        return answers[-1]


def set_threads(num_threads: int) -> None:
    """How many threads PyTorch computes with; 0 leaves its default."""
    if num_threads:
        torch.set_num_threads(num_threads)
