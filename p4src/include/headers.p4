// SPDX-License-Identifier: Apache-2.0
// Headers, and the numbers of the protocol: docs/p4sync-protocol.md is their reference.

#ifndef HEADERS_P4
#define HEADERS_P4

typedef bit<9> port_t;
typedef bit<48> mac_t;

const bit<16> ETHERTYPE_IPV4 = 0x0800;
const bit<16> ETHERTYPE_SYNC = 0x88B5;    // local experimental EtherTypes, IEEE 802
const bit<16> ETHERTYPE_MARKER = 0x88B6;
const bit<8> PROTOCOL_TCP = 6;
const bit<8> PROTOCOL_UDP = 17;

const port_t CPU_PORT = 255;
const bit<32> INSTANCE_INGRESS_CLONE = 1;
const bit<32> INSTANCE_RECIRCULATED = 4;
const bit<32> CLONE_SESSION = 1;          // its replica's port only names a queue: the clone is recirculated

const bit<8> SYNC_VERSION = 1;
const bit<32> SYNC_LENGTH = 574;         // Ethernet 14, sync 48, body 512
const bit<16> SUITE_NONE = 0;             // baseline.p4 only
const bit<16> SUITE_SIPHASH = 1;
const bit<16> SUITE_POLY_SIPHASH = 2;

const bit<8> ARRAY_CLIENTS = 0;           // 4-byte entries, 128 a packet
const bit<8> ARRAY_FLOWS = 1;             // 32-byte records, 16 a packet
const bit<32> ENTRIES = 65536;            // of every array; both are indexed by 16 bits
const bit<32> CLIENTS_PER_PACKET = 128;
const bit<32> FLOWS_PER_PACKET = 16;
const bit<32> SEQUENCES = 8192;           // sync packets a session can hold
const bit<32> BITMAP_WORDS = 128;

// Kinds of token (packet_out.kind); a report (packet_in.kind) carries the kind it answers.
const bit<8> TOKEN_FORWARD = 0;
const bit<8> TOKEN_OPEN_OUT = 1;
const bit<8> TOKEN_ROUND = 2;
const bit<8> TOKEN_WALK = 3;
const bit<8> TOKEN_FLOW = 4;
const bit<8> TOKEN_RESEND = 5;
const bit<8> TOKEN_RESTORE = 6;
const bit<8> TOKEN_RELEASE = 7;
const bit<8> TOKEN_REPORT_OUT = 8;
const bit<8> TOKEN_OPEN_IN = 9;
const bit<8> TOKEN_REPORT_IN = 10;
const bit<8> TOKEN_SWEEP = 11;
const bit<8> TOKEN_VERDICT = 12;
const bit<8> TOKEN_READ_FLOW = 13;
const bit<8> TOKEN_READ_BLOCK = 14;
const bit<8> REPORT_MARKER = 15;

const bit<8> WALK_ALL = 0;
const bit<8> WALK_OCCUPIED = 1;
const bit<8> WALK_DIRTY = 2;

// packet_in.state
const bit<8> STATE_OK = 0;
const bit<8> STATE_DONE = 1;              // the walk, sweep, restoration or release has nothing left
const bit<8> STATE_BUSY = 2;              // another session is in the way
const bit<8> STATE_UNKNOWN = 3;           // no such session here (never opened, or closed)
const bit<8> STATE_FULL = 4;              // the outbox holds SEQUENCES packets
const bit<8> STATE_ABSENT = 5;            // no entry has this key
const bit<8> STATE_COLLISION = 6;         // another key holds the entry
const bit<8> STATE_REFUSED = 7;           // not in this phase, or out of range

const bit<8> PHASE_IDLE = 0;
const bit<8> PHASE_OPEN = 1;
const bit<8> PHASE_RESTORING = 2;
const bit<8> PHASE_RELEASING = 3;

// What table staging_mark says of the incoming session.
const bit<8> MARK_NONE = 0;
const bit<8> MARK_OPEN = 1;
const bit<8> MARK_COMMITTED = 2;
const bit<8> MARK_DISCARDED = 3;

const bit<8> VERDICT_NONE = 0;
const bit<8> VERDICT_FORWARD = 1;
const bit<8> VERDICT_DROP = 2;

// Indices of counter `events`.
const bit<32> EVENT_SYNC_UNEXPECTED = 0;  // no such session on this port
const bit<32> EVENT_SYNC_MALFORMED = 1;   // version, array, range, length
const bit<32> EVENT_SYNC_FOREIGN = 2;     // nonce, source, destination or suite of another session
const bit<32> EVENT_SYNC_FORGED = 3;      // the MAC does not hold
const bit<32> EVENT_SYNC_CLOSED = 4;      // authentic, but the session takes no more
const bit<32> EVENT_SYNC_DUPLICATE = 5;   // authentic, staged before
const bit<32> EVENT_SYNC_STAGED = 6;
const bit<32> EVENT_FLOW_COLLISION = 7;   // packets not counted: the entry belongs to another key
const bit<32> EVENT_MERGE_COLLISION = 8;  // records not merged for the same reason
const bit<32> EVENT_VERDICT_DROP = 9;
const bit<32> EVENT_MARKER_UNEXPECTED = 10;
const bit<32> EVENT_TOKEN_REFUSED = 11;
const bit<32> EVENT_SYNC_SENT = 12;
const bit<32> EVENT_SYNC_RESENT = 13;
const bit<32> EVENT_COUNTED = 14;
const bit<32> EVENT_FOLDED = 15;          // records merged by the first packet that touched them
const bit<32> EVENTS = 16;

@controller_header("packet_out")
header packet_out_t {
    bit<8> kind;
    bit<8> flags;
    bit<16> credit;
    bit<32> session;
    bit<64> argument;
    bit<16> port;
}

// Follows packet_out in every token but FORWARD. bmv2 gives a packet room for 512 bytes more than it came in with and
// writes past the end of its buffer beyond that: a 100-byte token can become a 574-byte packet, an 18-byte one cannot.
header padding_t {
    bit<512> zero;
}

@controller_header("packet_in")
header packet_in_t {
    bit<8> kind;
    bit<8> state;
    bit<16> round;
    bit<32> session;
    bit<32> count;
    bit<32> links;
    bit<64> detail;
    bit<64> digest;
}

header ethernet_t {
    mac_t destination;
    mac_t source;
    bit<16> ethertype;
}

header ipv4_t {
    bit<4> version;
    bit<4> ihl;
    bit<8> tos;
    bit<16> total_length;
    bit<16> identification;
    bit<3> flags;
    bit<13> fragment_offset;
    bit<8> ttl;
    bit<8> protocol;
    bit<16> checksum;
    bit<32> source;
    bit<32> destination;
}

header ports_t {
    bit<16> source;
    bit<16> destination;
}

header sync_t {
    bit<8> version;
    bit<8> array;
    bit<16> round;
    bit<32> session;
    bit<64> nonce;
    bit<16> source;
    bit<16> destination;
    bit<32> sequence;
    bit<16> count;
    bit<16> suite;
    bit<32> base;
    bit<64> previous;
    bit<64> mac;
}

header marker_t {
    bit<32> session;
    bit<64> token;
}

#define WORD_FIELD(n) bit<64> w##n;
header body_t {
    EACH_WORD(WORD_FIELD)
}

struct headers_t {
    packet_out_t packet_out;
    padding_t padding;
    packet_in_t packet_in;
    ethernet_t ethernet;
    sync_t sync;
    body_t body;
    marker_t marker;
    ipv4_t ipv4;
    ports_t ports;
}

#endif
