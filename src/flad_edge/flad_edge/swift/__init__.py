# SPDX-License-Identifier: Apache-2.0
"""SWIFT: which vehicles train together, in which order, and who holds which part of the model."""
