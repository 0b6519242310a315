# SPDX-License-Identifier: Apache-2.0
"""The encoder's graph, one idea per file; ``encoder.py`` puts it together."""
