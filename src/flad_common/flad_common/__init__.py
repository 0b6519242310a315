# SPDX-License-Identifier: Apache-2.0
"""What every package shares: configuration, frames, quality of service, error codes."""
