# SPDX-License-Identifier: Apache-2.0
"""The AD-LLM: an instruction and frames of scene tokens in, waypoints out."""
