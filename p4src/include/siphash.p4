// SPDX-License-Identifier: Apache-2.0
// SipHash-2-4 (Aumasson, Bernstein, 2012) on 64-bit words held in meta.v0 to meta.v3.
//
// A message word is the little-endian reading of 8 message bytes, as the paper has it. What is hashed here is
// made of words already, so the byte string that a software SipHash is given is each word in little-endian order.
// The state lives in metadata fields and the rounds are macros: parameters of an action would be copied in and
// out around every round, and every assignment costs about 0.3 us on bmv2.

#ifndef SIPHASH_P4
#define SIPHASH_P4

#define ROTATE_LEFT(x, n) (((x) << (n)) | ((x) >> (64 - (n))))

// A round, arranged for as few assignments as possible: v0's rotation by 32 is part of the addition that follows it,
// and v2's waits for the next use (v2 is kept not yet rotated). `in3` and `out0` are the message word where it enters.
#define SIP_STEPS(in3, out0) \
    meta.v0 = meta.v0 + meta.v1; \
    meta.v1 = ROTATE_LEFT(meta.v1, 13) ^ meta.v0; \
    meta.v2 = ROTATE_LEFT(meta.v2, 32) + in3; \
    meta.v3 = ROTATE_LEFT(in3, 16) ^ meta.v2; \
    meta.v0 = (ROTATE_LEFT(meta.v0, 32) + meta.v3) out0; \
    meta.v3 = ROTATE_LEFT(meta.v3, 21) ^ meta.v0 out0; \
    meta.v2 = meta.v2 + meta.v1; \
    meta.v1 = ROTATE_LEFT(meta.v1, 17) ^ meta.v2;

#define SIP_ROUND SIP_STEPS(meta.v3, )

#define SIP_WORD(m) \
    SIP_STEPS((meta.v3 ^ (m)), ) \
    SIP_STEPS(meta.v3, ^ (m))

#define SIP_INIT(k0, k1) \
    meta.v0 = (k0) ^ 64w0x736f6d6570736575; \
    meta.v1 = (k1) ^ 64w0x646f72616e646f6d; \
    meta.v2 = (k0) ^ 64w0x6c7967656e657261; \
    meta.v2 = ROTATE_LEFT(meta.v2, 32); \
    meta.v3 = (k1) ^ 64w0x7465646279746573;

// The last word carries the message length modulo 256 in its top byte, over what is left of the message.
#define SIP_FINISH(last, result) \
    SIP_WORD(last) \
    meta.v2 = meta.v2 ^ 64w0xff00000000; \
    SIP_ROUND \
    SIP_ROUND \
    SIP_ROUND \
    SIP_ROUND \
    result = meta.v0 ^ meta.v1 ^ ROTATE_LEFT(meta.v2, 32) ^ meta.v3;

#endif
