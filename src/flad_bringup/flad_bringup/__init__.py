# SPDX-License-Identifier: Apache-2.0
"""The command line, the node topology and the supervision of processes."""
