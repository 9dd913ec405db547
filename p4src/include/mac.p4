// SPDX-License-Identifier: Apache-2.0
// The MAC of a sync packet, into meta.digest. Included inside a control.
//
// Suite 1: SipHash-2-4 over 5 header words and 64 body words.
// Suite 2: the body is compressed first, h = sum of w[i] * r^(64-i) modulo p = 2^127 - 1 with a secret r < 2^120, and
// SipHash-2-4 runs over 5 header words and the two halves of h. Two different bodies of the same sequence number
// meet in h with probability at most 64 / 2^120 over r (a polynomial of degree 64 has at most 64 roots).
// Four words are taken at a time, with r to r^4 ready: x = (h + w0) r^4 + w1 r^3 + w2 r^2 + w3 r stays below 2^258.

action mac_header() {
    SIP_INIT(meta.key0, meta.key1)
    meta.word = hdr.sync.version ++ hdr.sync.array ++ hdr.sync.round ++ hdr.sync.session;
    SIP_WORD(meta.word)
    SIP_WORD(hdr.sync.nonce)
    meta.word = hdr.sync.source ++ hdr.sync.destination ++ hdr.sync.sequence;
    SIP_WORD(meta.word)
    meta.word = hdr.sync.count ++ hdr.sync.suite ++ hdr.sync.base;
    SIP_WORD(meta.word)
    SIP_WORD(hdr.sync.previous)
}

#define MAC_WORD(n) SIP_WORD(hdr.body.w##n)
action mac_body() {
    EACH_WORD(MAC_WORD)
    SIP_FINISH(64w0x2800000000000000, meta.digest)    // 552 bytes
}

#define P127 320w0x7fffffffffffffffffffffffffffffff
#define FOLD(x) x = (x & P127) + (x >> 127);
#define COMPRESS_WORDS(j, a, b, c, d) \
    meta.accumulator = (meta.accumulator + (bit<320>) hdr.body.w##a) * meta.poly4 + (bit<320>) hdr.body.w##b * meta.poly3 \
        + (bit<320>) hdr.body.w##c * meta.poly2 + (bit<320>) hdr.body.w##d * meta.poly; \
    FOLD(meta.accumulator)
action mac_compressed_body() {
    meta.poly2 = meta.poly * meta.poly;
    FOLD(meta.poly2)
    meta.poly3 = meta.poly2 * meta.poly;
    FOLD(meta.poly3)
    meta.poly4 = meta.poly2 * meta.poly2;
    FOLD(meta.poly4)
    meta.accumulator = 0;
    EACH_RECORD(COMPRESS_WORDS)
    FOLD(meta.accumulator)
    FOLD(meta.accumulator)
    if (meta.accumulator == P127) {
        meta.accumulator = 0;
    }
    meta.word = meta.accumulator[127:64];
    SIP_WORD(meta.word)
    meta.word = meta.accumulator[63:0];
    SIP_WORD(meta.word)
    SIP_FINISH(64w0x3800000000000000, meta.digest)    // 56 bytes
}
