# SPDX-License-Identifier: Apache-2.0
"""One module per sub-command; :mod:`flad_bringup.cli` says what each offers."""
