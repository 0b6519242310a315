# SPDX-License-Identifier: Apache-2.0
"""The process group of a pipeline: links, transport, and PyTorch's view of them."""
