/* SPDX-License-Identifier: Apache-2.0
 *
 * Host Identity Protocol: a host changes its locator by a three-packet UPDATE exchange.
 *
 * Models RFC 7401 (HIPv2) sections 6.11 and 6.12 for UPDATE, SEQ and ACK ([U]), and RFC 8046 sections 3.2.1 and 5 for
 * LOCATOR_SET and address verification ([M]); RFC 5201 and 5206 say the same.  Each transition names its clause.  Host 0
 * is mobile, with one interface; host 1 stays where it is.  Keys, SPIs, lifetimes and signatures are left out (no attacker).
 * A move takes a new Update ID, equal to the number of the new place, which is its locator as well; the peer's UPDATE that
 * answers UPDATE q has Update ID q (each answers one, so the real numbers are only renamed).
 *
 *   UPDATE_1 (LOCATOR_SET, SEQ q)              mobile -> peer         [M] 3.2.1, figure 3, first packet
 *   UPDATE_2 (SEQ m, ACK q, ECHO_REQUEST)      peer -> new address    second packet, verifies the address (5.4)
 *   UPDATE_3 (ACK m, ECHO_RESPONSE)            mobile -> peer         third packet; no SEQ, not sent again
 *
 * Where the texts leave a choice, READING takes each in turn:
 *   1  one outstanding UPDATE at a time: [U] 6.11, "one way to prevent any conflicts"; and the way for every UPDATE that
 *      depends on an outstanding one, which MUST be postponed until that one is acknowledged;
 *   2  several outstanding UPDATEs ([U] 6.11 and 6.12 allow them); the receiver takes them in the order in which they come,
 *      without resequencing ([U] 6.12);
 *   3  as 2, and the receiver discards what lies below the newest it has processed: it MAY have such a window ([U] 6.12);
 *   4  as 1, and the peer answers to where an UPDATE came from instead of to the address that it announces ([M] 5.3, last
 *      paragraph: the source MAY be taken as a candidate locator): the most favourable reading.
 *
 * Commands (models/manifest.toml has them all, with what must come out):
 *   spin -a -DREADING=1 models/hip.pml && cc -O2 -DNFAIR=3 -o pan pan.c && ./pan -a -f -N heals    finds a cycle
 *   spin -t -DREADING=1 models/hip.pml                                                           shows it
 */
#ifndef READING
#define READING 1
#endif
#define ONE_AT_A_TIME (READING == 1 || READING == 4)
#define RETRIES 3               /* UPDATE_RETRY_MAX, counted once live: every one of them was delivered */

mtype:message = { UPDATE_1, UPDATE_2, UPDATE_3, PING, PONG };
#include "rivals.inc"

/* The mobile host. */
byte own = 1;                   /* present locator */
byte unacked;                   /* bit set of outstanding Update IDs */
byte waits;                     /* retries in vain, once live */
bool broken;                    /* the association was given up */
/* The peer. */
byte done = 2;                  /* bit set of Update IDs that were processed */
byte preferred = 1;             /* ACTIVE locator of the mobile host; 0: none */
byte unverified;                /* UNVERIFIED locator; 0: none */
byte source;                    /* reading 4: where the newest UPDATE came from */
mtype k; byte q; byte m;

#define BIT(x)  (1 << (x))
#define HAS(set, x) ((set & BIT(x)) != 0)

/* The answer to UPDATE q goes "to the mobile host at its new address" ([M] 3.2.1, step 2), which is locator q; in reading 4
 * to the source m of the packet.  It arrives if the mobile host is there. */
inline answer() {
    if
    :: READING == 4 -> if :: m == own -> send(1, UPDATE_2, q, q) :: else fi
    :: READING != 4 -> if :: q == own -> send(1, UPDATE_2, q, q) :: else fi
    fi
}

inline peer_receives() {
    if
    :: k == UPDATE_1 ->
        if
        /* [U] 6.12.1, step 2: processed before: a retransmission, which MUST be acknowledged again. */
        :: HAS(done, q) -> answer()
#if READING == 3
        /* [U] 6.12: below the receiver's window: discarded. */
        :: !HAS(done, q) && BIT(q) < done
        :: !HAS(done, q) && BIT(q) > done ->
#else
        /* [U] 6.12: processed in the order of receipt, whatever its number; step 5: recorded. */
        :: !HAS(done, q) ->
#endif
            /* [M] 5.2: replaces the locators of any earlier one; 5.3: the new one is UNVERIFIED, those not listed are
               DEPRECATED; 5.4: it MUST be verified. */
            done = done | BIT(q); unverified = q; source = m; preferred = 0; answer()
        fi
    :: k == UPDATE_3 ->
        /* [M] 3.2.1, step 3: the ECHO_RESPONSE to the challenge: UNVERIFIED -> ACTIVE (5.1). */
        if
        :: q == unverified && unverified != 0 -> preferred = unverified; unverified = 0
        :: else
        fi
    :: k == PING -> if :: preferred == own || unverified == own -> send(1, PONG, 0, 0) :: else fi
    :: k == PONG -> ok[1] = true
    :: else
    fi
}

inline mobile_receives() {
    if
    :: k == UPDATE_2 ->
        /* [U] 6.12.2, step 4: the acknowledged UPDATE is no longer sent again; 6.12.1: its SEQ is acknowledged, and [M]
           3.2.1, step 3: the nonce echoed. */
        unacked = unacked & ~BIT(q);
        send(0, UPDATE_3, m, 0);
        /* [U] 6.11: what had to be postponed is sent now. */
        if :: ONE_AT_A_TIME && unacked == 0 && q != own -> unacked = BIT(own) :: else fi
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

/* [U] 6.11, steps 3 and 4: each outstanding UPDATE has its timer and is sent again until it is acknowledged, at most
 * UPDATE_RETRY_MAX times; then the association is broken.  The newest goes first (of those in flight at once, any is lost). */
inline mobile_timers() {
    if
    :: HAS(unacked, own) -> send(0, UPDATE_1, own, own)
    :: unacked != 0 && (!live || !HAS(unacked, own)) ->
        q = 2;
        do
        :: !HAS(unacked, q) || q == own -> q++; if :: q > 7 -> break :: else fi
        :: else -> break
        od;
        if :: q < 8 -> send(0, UPDATE_1, q, own) :: else fi;
        q = 0;
        if
        :: live && waits < RETRIES -> waits++
        :: live && waits == RETRIES && !broken -> broken = true; printf("MSC broken 0 0 0 0\n")
        :: else
        fi
    :: else
    fi;
    if :: live && !ok[0] -> send(0, PING, 0, 0) :: else fi
}

/* The peer's own UPDATE is sent again as well ([U] 6.11).  [M] 5.5 and 5.6: data goes to an ACTIVE locator if there is one,
 * else within the credit to the UNVERIFIED one. */
inline peer_timers() {
    if
    :: unverified != 0 -> q = unverified; m = source; answer(); q = 0; m = 0
    :: else
    fi;
    if :: live && !ok[1] && (preferred == own || unverified == own) -> send(1, PING, 0, 0) :: else fi
}

inline move() {
    d_step { own++; moves++;
        if
        :: !ONE_AT_A_TIME || unacked == 0 -> unacked = unacked | BIT(own)
        :: else                         /* [U] 6.11: postponed until the last UPDATE is acknowledged */
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
