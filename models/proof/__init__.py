# SPDX-License-Identifier: Apache-2.0
"""SMT proofs about ECCP for any number of migrations."""
