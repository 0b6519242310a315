# SPDX-License-Identifier: Apache-2.0
"""Fixtures that several packages' tests share."""
