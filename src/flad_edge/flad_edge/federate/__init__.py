# SPDX-License-Identifier: Apache-2.0
"""Federated training led by the edge: who trains with whom, orders, recovery, aggregation."""
