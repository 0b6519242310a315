# SPDX-License-Identifier: Apache-2.0
"""A short soak: real processes are killed, stopped and cut off, and every step is accounted for.

The hour with a failure each minute is ``./flad bench soak_federate``.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from flad_bringup.environment import child_environment

pytestmark = pytest.mark.timeout(600)  # four processes begin, and three again, on two busy cores
_MINUTES = 3.0
_EVERY_S = 20.0
_DEADLINE_S = 540.0


def test_every_step_is_accounted_for_and_every_failure_explained(workspace, tmp_path):
    figures = tmp_path / "soak.json"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "flad_bringup", "bench", "soak_federate"),
            *("--minutes", str(_MINUTES), "--every-s", str(_EVERY_S)),
            *("--lease-s", "5.0"),  # a busy machine is no dead vehicle
            *("--json", str(figures)),
        ],
        cwd=workspace.root,
        env=child_environment(workspace, OMP_NUM_THREADS="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said, _ = process.communicate(timeout=_DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate()
    rows = json.loads(figures.read_text())["rows"] if figures.is_file() else []
    found = {row["name"]: row["value"] for row in rows}

    assert found, said
    assert found["soak_federate_unaccounted"] == 0, said
    assert found["soak_federate_unexplained"] == 0, said
    assert found["soak_federate_failures"] >= 1
    assert found["soak_federate_steps"] > 0
