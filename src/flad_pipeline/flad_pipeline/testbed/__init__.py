# SPDX-License-Identifier: Apache-2.0
"""Vehicles that this computer is not: computers and radio links of other speeds, emulated."""
