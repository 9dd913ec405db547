/* SPDX-License-Identifier: Apache-2.0
 *
 * The loops of ECCP's data path that run once for every slice, for whole runs of slices at once.
 *
 * A run is a piece of memory with datagrams of `step` bytes back to back (the last may be shorter), as UDP GSO sends
 * and GRO receives them.  Each is header:20, body, and tag:16 unless it goes in clear; see controller/wire/eccp.py.
 * Nothing is decided here and nothing is kept: which packets may come and what follows from them is the caller's, in
 * Python.  controller/eccp/datapath/in_python.py does the same byte for byte; tests compare the two.
 *
 * Every function checks all lengths against the buffers it was given, and returns ECCP_REFUSED if they do not fit;
 * what the network sent is only ever a length, never an offset taken from a packet.
 */
#include <openssl/evp.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { HEADER = 20, VERSION = 8, TAG = 16, NONCE = 12 };
enum { AUX_AT = 2, NUMBER_AT = 12, KEY_SIZE = 32 };
enum { KIND_DATA = 16, KIND_DATA_MAC = 17, MAGIC = 0xEC };
#define RESENT 0x8000u
#define INDEX_ONE 0x80u
#define LARGEST ((size_t)1 << 20) /* of any buffer: far above what a datagram can bring, far below any overflow */
#define ECCP_REFUSED (-1L)

/* Raised with every change of the functions' meaning: a library of another checkout is not taken for this one's. */
int eccp_interface(void) { return 1; }

static void put_u16(uint8_t *at, unsigned value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static void put_u64(uint8_t *at, uint64_t value)
{
    for (int byte = 7; byte >= 0; byte--, value >>= 8)
        at[byte] = (uint8_t)value;
}

static uint64_t get_u64(const uint8_t *at)
{
    uint64_t value = 0;
    for (int byte = 0; byte < 8; byte++)
        value = value << 8 | at[byte];
    return value;
}

static size_t slices_in(size_t size, size_t step) { return (size + step - 1) / step; }

static size_t smaller(size_t one, size_t other) { return one < other ? one : other; }

/* AES-256-GCM under `key`, to seal or to open with; NULL if OpenSSL refuses. */
void *eccp_key_new(const uint8_t *key, size_t size, int seals)
{
    EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
    if (cipher && (size != KEY_SIZE || EVP_CipherInit_ex(cipher, EVP_aes_256_gcm(), NULL, key, NULL, seals) != 1)) {
        EVP_CIPHER_CTX_free(cipher);
        return NULL;
    }
    return cipher;
}

void eccp_key_free(void *key) { EVP_CIPHER_CTX_free(key); }

/* Begin a packet: its nonce is four zero bytes and the number in its header (keys.py), `clear` is authenticated. */
static int begin(EVP_CIPHER_CTX *cipher, const uint8_t *datagram, size_t clear)
{
    uint8_t nonce[NONCE] = {0};
    int done;
    memcpy(nonce + NONCE - 8, datagram + NUMBER_AT, 8);
    return EVP_CipherInit_ex(cipher, NULL, NULL, NULL, nonce, -1) == 1 &&
           EVP_CipherUpdate(cipher, NULL, &done, datagram, (int)clear) == 1;
}

/* Seal the `size` bytes of a datagram in place and put the tag behind them; the first `clear` stay as they are. */
static int seal_one(EVP_CIPHER_CTX *cipher, uint8_t *datagram, size_t clear, size_t size)
{
    uint8_t *body = datagram + clear;
    int done;
    return begin(cipher, datagram, clear) &&
           (size == clear || EVP_CipherUpdate(cipher, body, &done, body, (int)(size - clear)) == 1) &&
           EVP_CipherFinal_ex(cipher, datagram + size, &done) == 1 &&
           EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_GET_TAG, TAG, datagram + size) == 1;
}

/* Open in place what seal_one has sealed; 1 only if it is genuine. */
static int open_one(EVP_CIPHER_CTX *cipher, uint8_t *datagram, size_t clear, size_t size)
{
    uint8_t *body = datagram + clear;
    int done;
    return begin(cipher, datagram, clear) &&
           (size == clear || EVP_CipherUpdate(cipher, body, &done, body, (int)(size - clear)) == 1) &&
           EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_SET_TAG, TAG, datagram + size) == 1 &&
           EVP_CipherFinal_ex(cipher, body, &done) == 1;
}

/* Write one datagram for every `piece` bytes of `frame` from `start` to `end`: header, lead (version, then the head of
 * the slices), the piece, and the tag if `key` is not NULL.  With RESENT in `aux` the number under which each slice
 * first went, from `was` on, stands after the version.  Returns the bytes written to `out`. */
long eccp_seal(void *key, unsigned kind, unsigned aux, uint64_t flow, uint64_t number, uint64_t was,
               const uint8_t *lead, size_t lead_size, const uint8_t *frame, size_t frame_size, size_t start, size_t end,
               size_t piece, uint8_t *out, size_t room)
{
    if (start >= end || end > frame_size)
        return ECCP_REFUSED;
    const uint8_t *payload = frame + start;
    size_t size = end - start;
    size_t extra = aux & RESENT ? 8 : 0, tag = key ? TAG : 0;
    if (size > LARGEST || !piece || lead_size < VERSION || lead_size > LARGEST)
        return ECCP_REFUSED;
    piece = smaller(piece, size);
    if (key && !EVP_CIPHER_CTX_is_encrypting(key))
        return ECCP_REFUSED;
    if ((key != NULL) != (kind == KIND_DATA || kind == KIND_DATA_MAC))
        return ECCP_REFUSED; /* what is to be sealed is never sent in clear for want of a key */
    size_t count = slices_in(size, piece);
    size_t around = HEADER + lead_size + extra + tag;
    if (aux > 0xFFFF || count - 1 > (0xFFFF - aux) / INDEX_ONE || number > UINT64_MAX - (count - 1) ||
        (extra && was > UINT64_MAX - (count - 1)))
        return ECCP_REFUSED; /* nothing of a header wraps */
    if (around > LARGEST || room < size || (room - size) / count < around)
        return ECCP_REFUSED;
    uint8_t *to = out;
    for (size_t at = 0; at < size; at += piece, aux += INDEX_ONE, number++, was++) {
        size_t here = smaller(piece, size - at), filled = HEADER + VERSION;
        to[0] = MAGIC;
        to[1] = (uint8_t)kind;
        put_u16(to + AUX_AT, aux);
        put_u64(to + 4, flow);
        put_u64(to + NUMBER_AT, number);
        memcpy(to + HEADER, lead, VERSION);
        if (extra) {
            put_u64(to + filled, was);
            filled += 8;
        }
        memcpy(to + filled, lead + VERSION, lead_size - VERSION);
        filled += lead_size - VERSION;
        memcpy(to + filled, payload + at, here);
        filled += here;
        if (key && !seal_one(key, to, kind == KIND_DATA_MAC ? filled : HEADER, filled))
            return ECCP_REFUSED;
        to += filled + tag;
    }
    return (long)(to - out);
}

/* How many datagrams from the first on have headers that count up as slices of one frame do: at least 1. */
long eccp_count_run(const uint8_t *run, size_t size, size_t step)
{
    if (size < HEADER || size > LARGEST || step < HEADER)
        return ECCP_REFUSED;
    step = smaller(step, size);
    if (run[0] != MAGIC)
        return 1;
    unsigned aux = (unsigned)run[AUX_AT] << 8 | run[AUX_AT + 1];
    uint8_t wanted[HEADER];
    uint64_t number = get_u64(run + NUMBER_AT);
    memcpy(wanted, run, HEADER);
    long count = 1;
    for (size_t at = step; at < size && size - at >= HEADER; at += step, count++) {
        aux += INDEX_ONE;
        number++;
        if (aux > 0xFFFF || !number)
            break; /* neither wraps */
        put_u16(wanted + AUX_AT, aux);
        put_u64(wanted + NUMBER_AT, number);
        if (memcmp(run + at, wanted, HEADER) != 0)
            break;
    }
    return count;
}

/* Open the datagrams in place, tags left behind the bodies; returns how many from the first on are genuine.  The one
 * after them is spoilt.  Of KIND_DATA_MAC, whose bodies are in clear, only the tags are checked. */
long eccp_open(void *key, unsigned kind, uint8_t *run, size_t size, size_t step)
{
    if (!key || EVP_CIPHER_CTX_is_encrypting(key) || (kind != KIND_DATA && kind != KIND_DATA_MAC))
        return ECCP_REFUSED;
    if (!size || size > LARGEST || step < HEADER + TAG)
        return ECCP_REFUSED;
    step = smaller(step, size);
    long count = 0;
    for (size_t at = 0; at < size; at += step, count++) {
        size_t here = smaller(step, size - at);
        if (here < HEADER + TAG)
            break;
        if (!open_one(key, run + at, kind == KIND_DATA_MAC ? here - TAG : HEADER, here - TAG))
            break;
    }
    return count;
}

/* Close the gaps: leave out the first `skip` and the last `tail` bytes of each datagram but the first `skip` bytes of
 * the run.  Returns how many bytes then follow those. */
long eccp_compact(uint8_t *run, size_t size, size_t step, size_t skip, size_t tail)
{
    if (!size || size > LARGEST || skip > LARGEST || tail > LARGEST || step <= skip + tail)
        return ECCP_REFUSED;
    step = smaller(step, size);
    size_t last = size - (slices_in(size, step) - 1) * step;
    if (last <= skip + tail)
        return ECCP_REFUSED;
    uint8_t *to = run + skip;
    for (size_t at = 0; at < size; at += step) {
        size_t here = smaller(step, size - at) - skip - tail;
        memmove(to, run + at + skip, here);
        to += here;
    }
    return (long)(to - run - (ptrdiff_t)skip);
}
