# SPDX-License-Identifier: Apache-2.0
"""What happens to the ego on a route: pedestrians, cut-ins, oncoming cars, sudden braking."""
