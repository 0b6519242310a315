# SPDX-License-Identifier: Apache-2.0
"""Training of the language models that drive: clips, batches, figures, distillation."""
