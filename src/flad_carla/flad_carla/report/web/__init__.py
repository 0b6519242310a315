# SPDX-License-Identifier: Apache-2.0
"""Template, style and scripts of the page; ``flad_carla.report.page_data`` feeds them."""
