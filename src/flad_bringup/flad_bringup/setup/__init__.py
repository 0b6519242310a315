# SPDX-License-Identifier: Apache-2.0
"""Set-up of a checkout: steps that are skipped while their inputs are unchanged.

Standard library only: it runs before anything is installed.
"""
