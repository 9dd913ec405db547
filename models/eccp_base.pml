/* SPDX-License-Identifier: Apache-2.0
 * Placeholder header
 */
#define FLOWS 1
#define OPENING
#include "eccp.inc"
