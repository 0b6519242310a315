# SPDX-License-Identifier: Apache-2.0
"""A round of federated training among processes: orders, the vehicle's worker, the edge's memory.

Plain Python: the ROS side is :mod:`flad_pipeline.worker_node` and ``flad_edge.conductor_node``.
"""
