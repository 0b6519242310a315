# SPDX-License-Identifier: Apache-2.0
"""From a model to units in an order that pipelines may cut: trace, groups, order, costs."""
