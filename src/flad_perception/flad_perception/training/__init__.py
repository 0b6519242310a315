# SPDX-License-Identifier: Apache-2.0
"""Training the encoder: from packed frames to weights, metrics and a model card."""
