// SPDX-License-Identifier: Apache-2.0
// Repetition: a v1model action has no loop, so what happens to each word or record of a packet body is unrolled.
//
// A body is 64 words of 64 bits: 128 entries of 4 bytes, or 16 flow records of 4 words.

#ifndef LANES_P4
#define LANES_P4

// M(n): word n.
#define EACH_WORD(M) \
    M(0)  M(1)  M(2)  M(3)  M(4)  M(5)  M(6)  M(7)  M(8)  M(9)  M(10) M(11) M(12) M(13) M(14) M(15) \
    M(16) M(17) M(18) M(19) M(20) M(21) M(22) M(23) M(24) M(25) M(26) M(27) M(28) M(29) M(30) M(31) \
    M(32) M(33) M(34) M(35) M(36) M(37) M(38) M(39) M(40) M(41) M(42) M(43) M(44) M(45) M(46) M(47) \
    M(48) M(49) M(50) M(51) M(52) M(53) M(54) M(55) M(56) M(57) M(58) M(59) M(60) M(61) M(62) M(63)

// M(j, a, b, c, d): record j in words a to d.
#define EACH_RECORD(M) \
    M(0, 0, 1, 2, 3)      M(1, 4, 5, 6, 7)      M(2, 8, 9, 10, 11)    M(3, 12, 13, 14, 15) \
    M(4, 16, 17, 18, 19)  M(5, 20, 21, 22, 23)  M(6, 24, 25, 26, 27)  M(7, 28, 29, 30, 31) \
    M(8, 32, 33, 34, 35)  M(9, 36, 37, 38, 39)  M(10, 40, 41, 42, 43) M(11, 44, 45, 46, 47) \
    M(12, 48, 49, 50, 51) M(13, 52, 53, 54, 55) M(14, 56, 57, 58, 59) M(15, 60, 61, 62, 63)

// The next cell of a register array: bmv2 resets every metadata field for every packet, so one counter serves all.
#define NEXT_CELL meta.at = meta.at + 1;

#endif
