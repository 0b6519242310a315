# SPDX-License-Identifier: Apache-2.0
"""``python -m flad_carla.evaluation``."""

import sys

from flad_carla.evaluation.cli import main

sys.exit(main())
