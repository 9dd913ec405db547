/* SPDX-License-Identifier: Apache-2.0
 *
 * Host Identity Protocol: a host changes its locator by a three-packet UPDATE exchange.
 *
 * Models RFC 7401 (HIPv2; RFC 5201 alike) sections 6.11 and 6.12 for UPDATE, SEQ and ACK, and RFC 8046 (RFC 5206 alike)
 * sections 3.2 and 5 for LOCATOR_SET and address verification.  Each transition names its clause.  Host 0 is mobile, host 1
 * stays where it is; keys, SPIs, lifetimes and signatures are left out (no attacker).  One UPDATE per move, so the place
 * number serves as the mobile host's Update ID and as its locator.
 *
 *   UPDATE_1 (LOCATOR_SET, SEQ n)            mobile -> peer      RFC 8046, 3.2.1, first packet
 *   UPDATE_2 (SEQ m, ACK n, ECHO_REQUEST)    peer -> new locator second packet, verifies the address (5.4)
 *   UPDATE_3 (ACK m, ECHO_RESPONSE)          mobile -> peer      third packet
 *
 * Where the texts leave a choice, READING takes each in turn:
 *   1  an UPDATE is finished before the next one is sent: sequence semantics, at most one outstanding UPDATE a side;
 *   2  a newer UPDATE is sent at once, and the older ones stay outstanding: each is sent again until *it* is acknowledged
 *      (RFC 7401, 6.11), and an association whose UPDATE stays unanswered is given up.
 *
 * Commands (models/manifest.toml has them all, with what must come out):
 *   spin -a -DREADING=1 models/hip.pml && cc -O2 -DNFAIR=3 -o pan pan.c && ./pan -a -f -N heals    finds a cycle
 *   spin -t -DREADING=1 models/hip.pml                                                           shows it
 */
#ifndef READING
#define READING 1
#endif
#define RETRIES 3               /* UPDATE_RETRY_MAX, counted once live: every one of them was delivered */

mtype:message = { UPDATE_1, UPDATE_2, UPDATE_3, PING, PONG };
#include "rivals.inc"

/* The mobile host. */
byte own = 1;                   /* present locator */
byte sent = 1;                  /* newest UPDATE_1 sent: Update ID and locator in it */
byte unacked;                   /* bit set of outstanding Update IDs */
byte stored;                    /* highest Update ID received from the peer */
/* The peer. */
byte peer_stored = 1;           /* highest Update ID received from the mobile host */
byte preferred = 1;             /* ACTIVE locator of the mobile host */
byte unverified;                /* UNVERIFIED locator; 0: none */
byte echo_id;                   /* Update ID m of its newest UPDATE_2 */
byte peer_unacked;              /* bit set of outstanding Update IDs of the peer */
byte waits;                     /* retries in vain, once live */
bool broken;                    /* the association was given up */
hidden mtype k; hidden byte q; hidden byte m;

#define BIT(x) (1 << (x))

/* RFC 8046, 5.4: the UPDATE with ECHO_REQUEST goes to the address to be verified. */
inline send_update_2() {
    if :: unverified == own -> send(1, UPDATE_2, unverified, echo_id) :: else fi
}

inline peer_receives() {
    if
    :: k == UPDATE_1 ->
        if
        /* RFC 7401, 6.12: the Update ID in SEQ is smaller than the stored one: the packet MUST be dropped. */
        :: q < peer_stored
        /* 6.12: equal: treated as a retransmission; its answer is sent again. */
        :: q == peer_stored -> if :: unverified == q -> send_update_2() :: else fi
        :: q > peer_stored ->
#if READING == 1
            /* Its own UPDATE (ECHO_REQUEST to the earlier locator) is not finished: this one cannot be taken up yet. */
            if
            :: peer_unacked != 0
            :: else ->
#else
            if
            :: true ->
#endif
                /* 6.12.1: record the Update ID; 8046, 5.3: the locator becomes UNVERIFIED; 5.4: verify it. */
                peer_stored = q; unverified = q; echo_id++; peer_unacked = peer_unacked | BIT(echo_id); send_update_2()
            fi
        fi
    :: k == UPDATE_3 ->
        /* 6.12.2: the ACK matches an outstanding UPDATE, which is not sent again; 8046, 5.4: ECHO_RESPONSE -> ACTIVE. */
        if
        :: (peer_unacked & BIT(q)) != 0 ->
            peer_unacked = peer_unacked & ~BIT(q);
            if :: q == echo_id && unverified != 0 -> preferred = unverified; unverified = 0 :: else fi
        :: else
        fi
    :: k == PING -> if :: preferred == own -> send(1, PONG, 0, 0) :: else fi
    :: k == PONG -> ok[1] = true
    :: else
    fi
}

inline mobile_receives() {
    if
    :: k == UPDATE_2 ->
        /* 6.12.2: the ACK in it stops the retransmission of that UPDATE. */
        unacked = unacked & ~BIT(q);
        if
        :: m < stored                                   /* 6.12: smaller SEQ: dropped */
        :: else -> stored = m; send(0, UPDATE_3, m, 0)  /* 6.12.1, 8046 3.2.1: ACK and ECHO_RESPONSE */
        fi;
#if READING == 1
        if :: unacked == 0 && sent != own -> sent = own; unacked = BIT(own) :: else fi
#endif
    :: k == PING -> send(0, PONG, 0, 0)
    :: k == PONG -> ok[0] = true
    :: else
    fi
}

inline receive(h, slot) {
    d_step { msg = net[h * CAP + slot]; if :: live -> net[h * CAP + slot] = 0 :: else fi };
    k = KIND(msg); q = FIRST(msg); m = SECOND(msg); msg = 0;
    printf("MSC recv %d %e %d %d\n", h, k, q, m);
    if :: h == 0 -> mobile_receives() :: else -> peer_receives() fi;
    k = 0; q = 0; m = 0
}

/* RFC 7401, 6.11: an UPDATE that carries SEQ is sent again until it is acknowledged.  Any one outstanding UPDATE of a
 * reading 2 host may be the next to go; while all its retries are in vain it is given up. */
inline mobile_timers() {
    if
    :: READING == 1 && unacked != 0 -> send(0, UPDATE_1, sent, 0)
    :: READING == 2 && (unacked & BIT(own)) != 0 -> send(0, UPDATE_1, own, 0)
    :: READING == 2 && (unacked & ~BIT(own)) != 0 && (!live || (unacked & BIT(own)) == 0) ->
        q = 2;
        do
        :: (unacked & BIT(q)) == 0 -> q++
        :: else -> break
        od;
        send(0, UPDATE_1, q, 0); q = 0;
        if
        :: live && waits < RETRIES -> waits++
        :: live && waits == RETRIES -> broken = true; printf("MSC broken 0 0 0 0\n")
        :: else
        fi
    :: else
    fi;
    if :: live && !ok[0] -> send(0, PING, 0, 0) :: else fi
}

inline peer_timers() {
    if
    :: unverified != 0 -> send_update_2()
    :: live && unverified == 0 && !ok[1] -> if :: preferred == own -> send(1, PING, 0, 0) :: else fi
    :: else
    fi
}

inline move() {
    d_step { own++; moves++;
        if
        :: READING == 2 || unacked == 0 -> sent = own; unacked = unacked | BIT(own)
        :: else                         /* reading 1: the new locator waits until the last UPDATE is acknowledged */
        fi;
        i = 0;
        do                              /* what was on its way to the old locator is lost */
        :: i < CAP -> net[i] = 0; i++
        :: else -> break
        od; i = 0 }
    printf("MSC move 0 0 %d 0\n", own)
}

proctype Mobile() {
    do
    :: atomic { !live && moves < MOVES -> move() }
    :: atomic { !live -> mobile_timers() }
    :: atomic { live && EMPTY && turn == 0 -> mobile_timers(); turn = 1 }
    :: atomic { net[0] != 0 -> receive(0, 0) }
    :: atomic { net[1] != 0 -> receive(0, 1) }
    od
}

proctype Peer() {
    do
    :: atomic { !live -> peer_timers() }
    :: atomic { live && EMPTY && turn == 1 -> peer_timers(); turn = 0 }
    :: atomic { net[CAP] != 0 -> receive(1, 0) }
    :: atomic { net[CAP + 1] != 0 -> receive(1, 1) }
    od
}

active proctype Quiesce() {
    if :: atomic { true -> live = 1; printf("MSC quiesce 0 0 0 0\n") } fi
}

ltl heals { [] (live -> <> (ok[0] && ok[1])) }
ltl lasts { [] !broken }

init { atomic { run Mobile(); run Peer() } }
