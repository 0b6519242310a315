# SPDX-License-Identifier: Apache-2.0
"""The parts of ``./flad check``, one file each."""
