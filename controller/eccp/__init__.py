# SPDX-License-Identifier: Apache-2.0
"""ECCP: connections that survive address changes (Arye et al., ICNP 2012), in user space."""
