# SPDX-License-Identifier: Apache-2.0
"""The P4 programs of the project, what they compile to, and the target that runs them."""
