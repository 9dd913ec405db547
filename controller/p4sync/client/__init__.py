# SPDX-License-Identifier: Apache-2.0
"""The P4Runtime client: the only part of this room that knows gRPC and protobuf."""
