# SPDX-License-Identifier: Apache-2.0
"""Language for the vehicle: what it is told, when, in which words, and what it refuses."""
