# SPDX-License-Identifier: Apache-2.0
"""How vehicles move through an edge's coverage: traces, dwell times, positions to come."""
