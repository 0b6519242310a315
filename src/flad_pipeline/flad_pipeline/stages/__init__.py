# SPDX-License-Identifier: Apache-2.0
"""Units at work: stages, optimizers, random numbers, moving between vehicles, training steps."""
