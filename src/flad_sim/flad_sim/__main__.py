# SPDX-License-Identifier: Apache-2.0
"""``python -m flad_sim``."""

from __future__ import annotations

import sys

from flad_sim.cli import main

sys.exit(main())
