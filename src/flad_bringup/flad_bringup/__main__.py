# SPDX-License-Identifier: Apache-2.0
"""``python -m flad_bringup``: what the ``./flad`` script hands over to."""

from flad_bringup.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
