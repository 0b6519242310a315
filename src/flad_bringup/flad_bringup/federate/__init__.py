# SPDX-License-Identifier: Apache-2.0
"""``./flad federate``: a federation of processes on this machine, watched and disturbed."""
