# SPDX-License-Identifier: Apache-2.0
"""What the vehicle sees, as a few tokens: the vision encoder, its data, training and node."""
