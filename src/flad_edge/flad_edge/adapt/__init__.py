# SPDX-License-Identifier: Apache-2.0
"""CELLAdapt at the edge: what vehicles upload, tuning on it, releases that pass a gate."""
