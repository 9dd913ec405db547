/* SPDX-License-Identifier: Apache-2.0
 *
 * ECCP, full protocol: two flows of one connection, both hosts mobile, host 0 behind a NAT that rebinds.
 *
 * Each move and each rebinding moves one flow (a host that moves them all makes several moves), so flows also move apart,
 * as between interfaces.  The flows share the network's capacity.  Models controller/eccp/flow.py by way of
 * docs/eccp-protocol.md section 4; everything of it is in eccp.inc, whose header explains network and version abstraction.
 * -DREDUCE forgets messages that their receiver ignores now and for ever, and takes flows that differ in name only for
 * one; run base-pointless checks the former.
 *
 * Commands (models/manifest.toml has them all, with what must come out; `python -m models.verify` runs them):
 *   spin -a -DMOVES=6 -DCAP=3 -DREDUCE models/eccp_full.pml && gcc -O2 -DSAFETY -o pan pan.c && ./pan -m5000000  no error
 *   spin -a -DMOVES=3 -DCAP=3 -DREDUCE -DLIVE models/eccp_full.pml && gcc -O2 -DNFAIR=4 -o pan pan.c && ./pan -m5000000 -a -f -N heals
 */
#define FLOWS 2
#ifndef REBINDS
#define REBINDS 1
#endif
#include "eccp.inc"
