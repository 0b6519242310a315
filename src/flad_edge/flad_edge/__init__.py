# SPDX-License-Identifier: Apache-2.0
"""The edge server: language models that drive many vehicles, and the service around them."""
