# SPDX-License-Identifier: Apache-2.0
"""Memory of a vehicle that CPU and GPU share: what is there, what a stage needs, what can go."""
