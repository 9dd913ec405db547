/* SPDX-License-Identifier: Apache-2.0
 *
 * Written by `python -m models.proof.abstraction --promela` from its TABLE: the version abstraction of ECCP, whose soundness
 * Z3 checks action by action.  Any number of moves, any number of messages in flight.  state = 4 * rank + 2 * moving + holds.
 *   spin -a models/eccp_abstract.pml && gcc -O2 -DSAFETY -o pan pan.c && ./pan -E    a fixed point, no error
 */
byte facts[2];

inline go(d, to) { facts[d] = to; assert((facts[d] & 2) || (facts[d] & 1)) }

inline direction(d) {
    if
    :: facts[d] == 1 -> go(d, 14)  /* MOVE */
    :: facts[d] == 3 -> go(d, 14)  /* MOVE */
    :: facts[d] == 5 -> go(d, 14)  /* MOVE */
    :: facts[d] == 9 -> go(d, 14)  /* MOVE */
    :: facts[d] == 11 -> go(d, 14)  /* MOVE */
    :: facts[d] == 13 -> go(d, 14)  /* MOVE */
    :: facts[d] == 15 -> go(d, 14)  /* MOVE */
    :: facts[d] == 1 -> go(d, 13)  /* REBIND */
    :: facts[d] == 3 -> go(d, 15)  /* REBIND */
    :: facts[d] == 5 -> go(d, 13)  /* REBIND */
    :: facts[d] == 9 -> go(d, 13)  /* REBIND */
    :: facts[d] == 11 -> go(d, 15)  /* REBIND */
    :: facts[d] == 5 -> go(d, 1)  /* RECV_ACK */
    :: facts[d] == 5 -> go(d, 1)  /* RECV_DATA */
    :: facts[d] == 9 -> go(d, 1)  /* RECV_DATA */
    :: facts[d] == 11 -> go(d, 3)  /* RECV_DATA */
    :: facts[d] == 13 -> go(d, 1)  /* RECV_DATA */
    :: facts[d] == 13 -> go(d, 5)  /* RECV_DATA */
    :: facts[d] == 13 -> go(d, 9)  /* RECV_DATA */
    :: facts[d] == 14 -> go(d, 11)  /* RECV_DATA */
    :: facts[d] == 14 -> go(d, 15)  /* RECV_DATA */
    :: facts[d] == 15 -> go(d, 11)  /* RECV_DATA */
    :: facts[d] == 5 -> go(d, 1)  /* RECV_PING */
    :: facts[d] == 9 -> go(d, 1)  /* RECV_PING */
    :: facts[d] == 11 -> go(d, 3)  /* RECV_PING */
    :: facts[d] == 13 -> go(d, 1)  /* RECV_PING */
    :: facts[d] == 13 -> go(d, 5)  /* RECV_PING */
    :: facts[d] == 13 -> go(d, 9)  /* RECV_PING */
    :: facts[d] == 14 -> go(d, 11)  /* RECV_PING */
    :: facts[d] == 14 -> go(d, 15)  /* RECV_PING */
    :: facts[d] == 15 -> go(d, 11)  /* RECV_PING */
    :: facts[d] == 5 -> go(d, 1)  /* RECV_RSYN */
    :: facts[d] == 9 -> go(d, 1)  /* RECV_RSYN */
    :: facts[d] == 11 -> go(d, 3)  /* RECV_RSYN */
    :: facts[d] == 13 -> go(d, 1)  /* RECV_RSYN */
    :: facts[d] == 13 -> go(d, 5)  /* RECV_RSYN */
    :: facts[d] == 13 -> go(d, 9)  /* RECV_RSYN */
    :: facts[d] == 14 -> go(d, 11)  /* RECV_RSYN */
    :: facts[d] == 14 -> go(d, 15)  /* RECV_RSYN */
    :: facts[d] == 15 -> go(d, 11)  /* RECV_RSYN */
    :: facts[d] == 3 -> go(d, 1)  /* RECV_RSYN_ACK */
    :: facts[d] == 9 -> go(d, 5)  /* RECV_RSYN_ACK */
    :: facts[d] == 11 -> go(d, 5)  /* RECV_RSYN_ACK */
    :: facts[d] == 11 -> go(d, 9)  /* RECV_RSYN_ACK */
    :: facts[d] == 15 -> go(d, 13)  /* RECV_RSYN_ACK */
    :: facts[d] == 3 -> go(d, 1)  /* RECV_SYN_ACK */
    :: facts[d] == 5 -> go(d, 1)  /* RECV_SYN_ACK */
    :: facts[d] == 9 -> go(d, 1)  /* RECV_SYN_ACK */
    :: facts[d] == 9 -> go(d, 5)  /* RECV_SYN_ACK */
    :: facts[d] == 11 -> go(d, 3)  /* RECV_SYN_ACK */
    :: facts[d] == 11 -> go(d, 5)  /* RECV_SYN_ACK */
    :: facts[d] == 11 -> go(d, 9)  /* RECV_SYN_ACK */
    :: facts[d] == 13 -> go(d, 1)  /* RECV_SYN_ACK */
    :: facts[d] == 13 -> go(d, 5)  /* RECV_SYN_ACK */
    :: facts[d] == 13 -> go(d, 9)  /* RECV_SYN_ACK */
    :: facts[d] == 14 -> go(d, 11)  /* RECV_SYN_ACK */
    :: facts[d] == 14 -> go(d, 15)  /* RECV_SYN_ACK */
    :: facts[d] == 15 -> go(d, 11)  /* RECV_SYN_ACK */
    :: facts[d] == 15 -> go(d, 13)  /* RECV_SYN_ACK */
    :: facts[d] == 1 -> go(d, 13)  /* SPOOF */
    :: facts[d] == 3 -> go(d, 15)  /* SPOOF */
    :: facts[d] == 5 -> go(d, 13)  /* SPOOF */
    :: facts[d] == 9 -> go(d, 13)  /* SPOOF */
    :: facts[d] == 11 -> go(d, 15)  /* SPOOF */
    :: facts[d] == 14 -> go(d, 15)  /* SPOOF */
    fi
}

init {
    if :: facts[0] = 1 :: facts[0] = 5 :: facts[0] = 9 :: facts[0] = 13 fi;
    if :: facts[1] = 1 :: facts[1] = 5 :: facts[1] = 9 :: facts[1] = 13 fi;
    do
    :: atomic { direction(0) }
    :: atomic { direction(1) }
    od
}
