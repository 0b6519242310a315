# SPDX-License-Identifier: Apache-2.0
"""Closed-loop evaluation: routes, criteria, scores, and the loop that drives them."""
