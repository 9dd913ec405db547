/* SPDX-License-Identifier: Apache-2.0
 *
 * TCP-Migrate: a connection's end changes its address by a Migrate SYN.
 *
 * Models the protocol of A. C. Snoeren and H. Balakrishnan, "An End-to-End Approach to Host Mobility", MobiCom 2000
 * ([P], section 4.4 and figure 4); all that [P] does not say is plain TCP, RFC 793 section 3.9, "segment arrives".  Each
 * transition names its clause.  A request number (reqNo) grows by one with each move, so the place number serves as both.
 * Keys and tokens are assumed right: no attacker.  The application's bytes are left out: a ping stands for them.
 * Of [P] the page with section 4.4 and figure 4 was read; of draft-snoeren-tcp-migrate-00 only its first page could be had,
 * so nothing rests on it.  A host in SYN_RCVD is never moved, which favours the protocol.
 *
 * Where the text leaves a choice, READING takes each in turn:
 *   1  a Migrate SYN with a new reqNo that finds the connection in SYN_RCVD is answered with RST: [P] 4.4 calls a token
 *      valid when an *established* connection has it, and answers an invalid token with RST (RFC 793, 3.9, fourth step: a
 *      SYN in the window of a connection in SYN-RECEIVED is an error and is answered with a reset as well);
 *   2  it is ignored: figure 4 of [P] has no transition for it;
 *   3  it is taken up, as if the connection were established, and Migrate SYNs that cross are a simultaneous open (RFC 793,
 *      3.4, figure 8): the most favourable reading.
 *
 * Commands (models/manifest.toml has them all, with what must come out):
 *   spin -a -DREADING=1 models/tcp_migrate.pml && cc -O2 -DNFAIR=3 -o pan pan.c && ./pan -a -f -N heals    finds a cycle
 *   spin -t -DREADING=1 models/tcp_migrate.pml                                                           shows it
 */
#ifndef READING
#define READING 1
#endif
#ifndef MOBILE
#define MOBILE 1                /* 1: host 0 moves, host 1 is fixed; 2: both move */
#endif
#ifndef RENDEZVOUS
#define RENDEZVOUS 0            /* 1: a Migrate SYN finds its peer wherever it is (more than [P] offers) */
#endif

mtype:message = { MIGRATE_SYN, SYN_ACK, ACK, RST, PING, PONG };
mtype:state = { CLOSED, SYN_SENT, SYN_RCVD, ESTABLISHED, MIGRATE_WAIT };
#include "rivals.inc"

typedef End {
    mtype:state st;
    byte own;                   /* present place, and reqNo of its Migrate SYN */
    byte dest;                  /* place of the peer to which segments go */
    byte req                    /* highest reqNo received */
}
End e[2];
#define ME      e[h]
#define PEER    e[1 - h]

inline recv_migrate_syn(q) {
    if
    /* [P] 4.4: reqNo smaller than a previously received one: out of order, silently discarded. */
    :: q < ME.req && ME.st != CLOSED
    /* [P] 4.4: reqNo identical to the last one: a duplicate, processed accordingly: the SYN/ACK is sent again. */
    :: q == ME.req && (ME.st == SYN_RCVD || ME.st == ESTABLISHED) ->
        if :: q == PEER.own -> send(h, SYN_ACK, q, ME.own) :: else fi
    /* [P] 4.4: token of an established connection, reqNo greater than any before: destination := source of the Migrate SYN,
       SYN/ACK; figure 4: ESTABLISHED (and MIGRATE_WAIT) -> SYN_RCVD. */
    :: q > ME.req && (ME.st == ESTABLISHED || ME.st == MIGRATE_WAIT) ->
        ME.req = q; ME.dest = q; ME.st = SYN_RCVD;
        if :: q == PEER.own -> send(h, SYN_ACK, q, ME.own) :: else fi
    :: q > ME.req && ME.st == SYN_RCVD ->
#if READING == 1
        /* [P] 4.4: no established connection has the token: RST to the source. */
        if :: q == PEER.own -> send(h, RST, q, 0) :: else fi
#elif READING == 2
        skip
#else
        ME.req = q; ME.dest = q;
        if :: q == PEER.own -> send(h, SYN_ACK, q, ME.own) :: else fi
#endif
    /* SYN_SENT: the peer moves as well.  No established connection has the token: READING 1 as above.  Reading 3: RFC 793,
       3.9, SYN-SENT, fourth step: a SYN without ACK: SYN-RECEIVED, SYN/ACK. */
    :: q > ME.req && ME.st == SYN_SENT ->
#if READING == 1
        if :: q == PEER.own -> send(h, RST, q, 0) :: else fi
#elif READING == 2
        skip
#else
        ME.req = q; ME.dest = q; ME.st = SYN_RCVD;
        if :: q == PEER.own -> send(h, SYN_ACK, q, ME.own) :: else fi
#endif
    :: else
    fi
}

inline receive(slot) {
    d_step { msg = net[h * CAP + slot]; if :: live -> net[h * CAP + slot] = 0 :: else fi };
    k = KIND(msg); q = FIRST(msg); m = SECOND(msg); msg = 0;
    printf("MSC recv %d %e %d %d\n", h, k, q, m);
    if
    :: k == MIGRATE_SYN -> recv_migrate_syn(q)
    :: k == SYN_ACK ->
        if
        /* Figure 4: SYN_SENT -> ESTABLISHED on SYN/ACK, ACK sent; in any synchronized state a SYN/ACK that comes again is out
           of the window and is acknowledged (RFC 793, 3.9, first step). */
        :: ME.st == SYN_SENT && m == ME.dest -> ME.st = ESTABLISHED; send(h, ACK, q, 0)
        :: ME.st == ESTABLISHED && m == ME.dest -> send(h, ACK, q, 0)
#if READING == 3
        /* A connection is a pair of sockets (RFC 793, 1.5): a SYN/ACK from elsewhere matches none.  This reading takes it. */
        :: ME.st == SYN_SENT && m != ME.dest -> ME.dest = m; ME.req = m; ME.st = ESTABLISHED; send(h, ACK, q, 0)
        /* RFC 793, 3.4, figure 8: simultaneous open: SYN-RECEIVED -> ESTABLISHED by the ACK in the SYN/ACK (3.9, fifth step). */
        :: ME.st == SYN_RCVD && m == ME.dest -> ME.st = ESTABLISHED; send(h, ACK, q, 0)
#endif
        :: else
        fi
    :: k == ACK ->
        /* Figure 4 (RFC 793, 3.9, fifth step): SYN_RCVD -> ESTABLISHED.  The ACK has no reqNo, only a sequence number, and the
           SYN/ACK's is "the last received" one of the connection ([P] 4.4): those of a quiet connection are all alike. */
        if :: ME.st == SYN_RCVD -> ME.st = ESTABLISHED :: else fi
    :: k == RST ->
        if
        :: ME.st == SYN_SENT -> ME.st = CLOSED                  /* RFC 793, 3.9, SYN-SENT, second step: connection reset */
        :: ME.st == ESTABLISHED -> ME.st = MIGRATE_WAIT         /* figure 4 */
        :: else
        fi
    :: k == PING -> if :: ME.st == ESTABLISHED && ME.dest == PEER.own -> send(h, PONG, 0, 0) :: else fi
    :: k == PONG -> ok[h] = true
    fi;
    k = 0; q = 0; m = 0
}

inline timers() {
    if
    /* [P] 4.4: the Migrate SYN goes to the peer's address as it is known, and is sent again like any SYN (RFC 793). */
    :: ME.st == SYN_SENT -> if :: ME.dest == PEER.own || RENDEZVOUS -> send(h, MIGRATE_SYN, ME.own, 0) :: else fi
    :: ME.st == SYN_RCVD -> if :: ME.dest == PEER.own -> send(h, SYN_ACK, ME.dest, ME.own) :: else fi
    :: live && ME.st == ESTABLISHED && !ok[h] -> if :: ME.dest == PEER.own -> send(h, PING, 0, 0) :: else fi
    :: else
    fi
}

mtype k; byte q; byte m;

inline move() {
    /* Figure 4: ESTABLISHED -> SYN_SENT (the application migrates); a host in SYN_SENT that moves again starts anew with
       the next reqNo.  What was on its way to the old address is lost. */
    d_step { ME.own++; ME.st = SYN_SENT; moves++; i = 0;
        do
        :: i < CAP ->
            if :: KIND(net[h * CAP + i]) == SYN_ACK || KIND(net[h * CAP + i]) == RST -> net[h * CAP + i] = 0 :: else fi; i++
        :: else -> break
        od; i = 0 }
    printf("MSC move %d 0 %d 0\n", h, ME.own)
}

proctype Host(bit h) {
    do
    :: atomic { !live && MOBILE > h && moves < MOVES && (ME.st == ESTABLISHED || ME.st == SYN_SENT) -> move() }
    :: atomic { !live -> timers() }
    :: atomic { live && EMPTY && turn == h -> timers(); turn = 1 - turn }
    :: atomic { net[h * CAP] != 0 -> receive(0) }
    :: atomic { net[h * CAP + 1] != 0 -> receive(1) }
    od
}

active proctype Quiesce() {
    if :: atomic { true -> live = 1; printf("MSC quiesce 0 0 0 0\n") } fi
}

ltl heals { [] (live -> <> (ok[0] && ok[1])) }

init {
    atomic {
        e[0].st = ESTABLISHED; e[1].st = ESTABLISHED; e[0].own = 1; e[1].own = 1; e[0].dest = 1; e[1].dest = 1; e[0].req = 1; e[1].req = 1;
        run Host(0); run Host(1)
    }
}
