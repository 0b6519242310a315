# SPDX-License-Identifier: Apache-2.0
"""How the models of one round become one: means, order statistics, checks, signatures, privacy."""
