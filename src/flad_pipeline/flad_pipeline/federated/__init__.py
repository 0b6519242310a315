# SPDX-License-Identifier: Apache-2.0
"""Federated rounds over virtual vehicles in one process: selection, work, deadline, averaging."""
