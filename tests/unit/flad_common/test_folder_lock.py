# SPDX-License-Identifier: Apache-2.0
"""One writer at a time: another one is refused, or waits for the first."""

from __future__ import annotations

import threading

import pytest

from flad_common.folder_lock import folder_lock


def test_who_waits_has_its_turn_and_who_does_not_is_told(tmp_path):
    done, begun = [], threading.Event()

    def write():
        begun.set()
        with folder_lock(tmp_path, wait_s=60.0):
            done.append("second")

    with folder_lock(tmp_path):
        with (
            pytest.raises(ValueError, match="is being written by another process"),
            folder_lock(tmp_path),
        ):
            pass
        second = threading.Thread(target=write)
        second.start()
        begun.wait(10.0)
        done.append("first")
    second.join(60.0)
    assert done == ["first", "second"]
