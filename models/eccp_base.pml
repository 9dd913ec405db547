/* SPDX-License-Identifier: Apache-2.0
 *
 * ECCP, base protocol: one flow from its opening on, both hosts mobile.
 *
 * Models controller/eccp/flow.py by way of docs/eccp-protocol.md section 4; everything of it is in eccp.inc, whose header
 * explains the network (simulated inside the sender) and the version abstraction.
 *
 * Commands (models/manifest.toml has them all, with what must come out; `python -m models.verify` runs them):
 *   spin -a -DMOVES=20 -DCAP=2 models/eccp_base.pml && gcc -O2 -DSAFETY -o pan pan.c && ./pan -m5000000       no error
 *   spin -a -DMOVES=0 -DCAP=3 models/eccp_base.pml && ...    any number of moves: a fixed point, no error
 *   spin -a -DMOVES=3 -DCAP=3 -DLIVE models/eccp_base.pml && gcc -O2 -DNFAIR=4 -o pan pan.c && ./pan -m5000000 -a -f -N heals
 *   spin -a -DMOVES=2 -DCAP=3 -DLIVE -DESTABLISHED_AT_START -DEXACT -DBUG=1 ...  sequence semantics: a cycle that never heals
 */
#define FLOWS 1
#ifndef ESTABLISHED_AT_START
#define OPENING
#endif
#include "eccp.inc"
