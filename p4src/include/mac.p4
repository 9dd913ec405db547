// SPDX-License-Identifier: Apache-2.0
// The MAC of a sync packet, into meta.digest. Included inside a control.
//
// Suite 1: SipHash-2-4 over 5 header words and 64 body words.
// Suite 2: the body is compressed first, h = sum of w[i] * r^(64-i) modulo 2^127 - 1 with a secret r < 2^120, and
// SipHash-2-4 runs over 5 header words and the two halves of h. Two different bodies of the same sequence number
// meet in h with probability at most 64 / 2^120 over r (a polynomial of degree 64 has at most 64 roots).
// h stays below 2^128 without a final reduction: what is folded back is below 2^127 + 2^121.

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

#define COMPRESS_WORD(n) \
    meta.accumulator = (meta.accumulator + (bit<256>) hdr.body.w##n) * meta.poly; \
    meta.accumulator = (meta.accumulator & 256w0x7fffffffffffffffffffffffffffffff) + (meta.accumulator >> 127);
action mac_compressed_body() {
    meta.accumulator = 0;
    EACH_WORD(COMPRESS_WORD)
    meta.word = meta.accumulator[127:64];
    SIP_WORD(meta.word)
    meta.word = meta.accumulator[63:0];
    SIP_WORD(meta.word)
    SIP_FINISH(64w0x3800000000000000, meta.digest)    // 56 bytes
}
