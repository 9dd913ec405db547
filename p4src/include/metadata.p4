// SPDX-License-Identifier: Apache-2.0
// What a packet carries through the pipeline beside its headers.

#ifndef METADATA_P4
#define METADATA_P4

struct metadata_t {
    bit<16> credit;             // of the token being handled
    @field_list(1)
    bit<8> token_kind;          // survives into the clone and the recirculated token, for nobody but a reader of traces

    // SipHash state, its result, and the accumulator of the keyed compression
    bit<64> v0;
    bit<64> v1;
    bit<64> v2;
    bit<64> v3;
    bit<64> word;
    bit<64> digest;
    bit<320> accumulator;

    // parameters of the session, from table sync_out or sync_in
    bit<1> known;
    bit<64> key0;
    bit<64> key1;
    bit<320> poly;              // r, then its powers
    bit<320> poly2;
    bit<320> poly3;
    bit<320> poly4;
    bit<64> nonce;
    bit<16> suite;
    bit<16> source;
    bit<16> destination;
    port_t port;

    @field_list(1)
    bit<32> now;                // ticks of 1,024 us since this switch started; a recirculated token gets it in egress
    bit<32> in_session;         // the session whose packets are staged here; 0: none
    bit<8> mark;                // MARK_* of in_session

    // outgoing session
    bit<32> out_session;
    bit<8> phase;
    bit<16> round;
    bit<16> walk;
    bit<8> array;
    bit<8> mode;
    bit<32> cursor;
    bit<32> last;
    bit<32> undo;
    bit<32> sequence;
    bit<32> at;                 // walks over the cells of a block; an expression as an index would cost a field for each cell
    bit<16> count;
    bit<32> base;
    bit<64> previous;
    bit<128> described;
    bit<8> wanted;
    bit<8> one_mark;
    bit<8> block_mark;          // of the block to visit; 0x80: none of those looked at
    bit<1> again;               // the token walks on

    // incoming session
    bit<32> staged;
    bit<32> links;
    bit<32> conflicts;
    bit<32> swept;
    bit<32> finished;           // the session closed last, outgoing or incoming
    bit<64> bitmap;
    bit<64> neighbour;
    bit<64> linked;
    bit<40> block;
    bit<1> duplicate;

    // one flow record on its way into live state
    bit<1> record_valid;
    bit<1> record_fits;
    bit<32> record_index;
    bit<64> record_key;
    bit<32> record_packets;
    bit<64> record_bytes;
    bit<32> record_seen;
    bit<8> record_verdict;
    bit<16> record_order;

    // one flow entry, one staged flow, and entries of 4 bytes
    bit<64> entry_key;
    bit<32> entry_packets;
    bit<64> entry_bytes;
    bit<32> entry_seen;
    bit<8> entry_verdict;
    bit<248> staged_flow;
    bit<1> conflict;
    bit<64> staged_client;
    bit<32> even;
    bit<32> odd;

    // the packet being counted
    bit<16> service;
    bit<64> key;
    bit<32> index;
    bit<32> client;
    bit<32> client_index;
    bit<1> reserved;
    bit<1> mac_needed;
}

#endif
