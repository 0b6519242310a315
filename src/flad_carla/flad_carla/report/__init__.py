# SPDX-License-Identifier: Apache-2.0
"""The report of a run: one self-contained HTML page, drawn from files beside the results.

``collect`` listens to a run and writes a file per route, ``page`` turns the files into HTML;
``python -m flad_carla.report RUN_DIR`` redraws it.
"""
