/* Masks from PNG files: undoing row filters, and decoding the non-zero pixels directly from the compressed stream.

   A mask compresses to runs of one value and copies of earlier rows. Inflated to one bit per byte (zero or not) it takes
   an eighth of the memory, and a copied row is a few words. The bits are the non-zero pixels as long as no row is
   filtered, which is how palette images are written; other files are left to a reader of bytes.
   The input is not trusted: LEFT_ALONE is returned for everything except a complete stream of exactly the stated size. */

#include "native.h"

enum { DONE = 0, LEFT_ALONE = 1 };

/* Row filters */

/* Paeth predictor: the neighbour nearest to left + up - corner (PNG specification, section 9.4). */
INLINE uint8_t paeth(int left, int up, int corner) {
    int by_left = up - corner, by_up = left - corner, by_corner = by_left + by_up;
    by_left = by_left < 0 ? -by_left : by_left;
    by_up = by_up < 0 ? -by_up : by_up;
    by_corner = by_corner < 0 ? -by_corner : by_corner;
    if (by_left <= by_up && by_left <= by_corner) return (uint8_t)left;
    return (uint8_t)(by_up <= by_corner ? up : corner);
}

/* Undo the row filters of a PNG with at most one byte per pixel (PNG specification, section 9).
   `data` is `height` rows of a filter number and `width` bytes; `out` receives the unfiltered bytes.
   Returns DONE, or LEFT_ALONE for an unknown filter. */
FOR_EACH_PROCESSOR
static int64_t unfilter(const uint8_t *data, int64_t height, int64_t width, uint8_t *out) {
    for (int64_t row = 0; row < height; row++, data += width + 1, out += width) {
        const uint8_t *in = data + 1, *up = row ? out - width : NULL;
        uint8_t left = 0, corner = 0;
        int filter = data[0];
        if (!row && filter == 2) filter = 0; /* the row above the first one is 0 */
        if (!row && filter == 4) filter = 1;
        if (filter == 0) memcpy(out, in, (size_t)width);
        else if (filter == 1)
            for (int64_t i = 0; i < width; i++) out[i] = left = (uint8_t)(in[i] + left);
        else if (filter == 2)
            for (int64_t i = 0; i < width; i++) out[i] = (uint8_t)(in[i] + up[i]);
        else if (filter == 3)
            for (int64_t i = 0; i < width; i++) out[i] = left = (uint8_t)(in[i] + (left + (row ? up[i] : 0)) / 2);
        else if (filter == 4)
            for (int64_t i = 0; i < width; i++) {
                out[i] = left = (uint8_t)(in[i] + paeth(left, up[i], corner));
                corner = up[i];
            }
        else return LEFT_ALONE;
    }
    return DONE;
}

EXPORT int64_t evqa_unfilter(const uint8_t *data, int64_t height, int64_t width, uint8_t *out) {
    return unfilter(data, height, width, out);
}

/* Inflating (RFC 1950 and 1951) to one bit per byte */

enum { MAX_CODE = 15, FAST = 10, NUM_LITERALS = 288, NUM_DISTANCES = 30, END = 256 };

typedef struct {
    const uint8_t *next, *end;
    uint64_t held;  /* bits read from the bytes and not consumed yet, the next one lowest */
    int64_t number; /* number of these bits; negative once more were consumed than there are */
} Input;

typedef struct {
    uint64_t *words;
    int64_t size, at; /* total and written number of bits; bits from `at` on are 0 */
} Output;

/* A canonical Huffman code. `fast`: for each sequence of FAST bits the code word that it starts with, as
   symbol * 16 + length (0 = a longer code word or none). For longer ones: the number of code words of each length, and
   the symbols in the order of their code words. */
typedef struct {
    uint16_t fast[1 << FAST], counts[MAX_CODE + 1], symbols[NUM_LITERALS];
} Code;

/* Fill `held` to at least 56 bits, or to the end of the input. */
INLINE void refill(Input *in) {
    if (in->end - in->next >= 8) {
        uint64_t more;
        memcpy(&more, in->next, 8);
        in->held |= more << in->number;
        in->next += (63 - in->number) >> 3;
        in->number |= 56;
        return;
    }
    while (in->number <= 56 && in->next < in->end) {
        in->held |= (uint64_t)*in->next++ << in->number;
        in->number += 8;
    }
}

/* Consume the next `number` bits, at most 16. `in->number` becomes negative once there are too few. */
INLINE int take(Input *in, int number) {
    int bits = (int)(in->held & (((uint64_t)1 << number) - 1));
    in->held >>= number;
    in->number -= number;
    return bits;
}

/* Build a code from the length of each symbol's code word (0 = none). An incomplete code is refused, unless it has one
   code word of length 1 or none. */
static int make_code(Code *code, const uint8_t *lengths, int number) {
    uint16_t place[MAX_CODE + 2] = {0};
    int left = 1, first = 0, used = 0;
    memset(code->counts, 0, sizeof code->counts);
    memset(code->fast, 0, sizeof code->fast);
    for (int symbol = 0; symbol < number; symbol++) code->counts[lengths[symbol]]++;
    used = number - code->counts[0];
    code->counts[0] = 0;
    for (int length = 1; length <= MAX_CODE; length++) {
        left = 2 * left - code->counts[length];
        if (left < 0) return LEFT_ALONE;
        place[length + 1] = (uint16_t)(place[length] + code->counts[length]);
    }
    if (left > 0 && !(used == 0 || (used == 1 && code->counts[1] == 1))) return LEFT_ALONE;
    for (int symbol = 0; symbol < number; symbol++)
        if (lengths[symbol]) code->symbols[place[lengths[symbol]]++] = (uint16_t)symbol;
    used = 0;
    for (int length = 1; length <= FAST; length++) {
        first <<= 1;
        for (int i = 0; i < code->counts[length]; i++, first++) {
            uint16_t entry = (uint16_t)(code->symbols[used++] << 4 | length);
            int reversed = 0;
            for (int bit = 0; bit < length; bit++) reversed |= (first >> bit & 1) << (length - 1 - bit);
            for (int at = reversed; at < 1 << FAST; at += 1 << length) code->fast[at] = entry;
        }
    }
    return DONE;
}

/* Consume the next symbol; -1 for bits that are not a code word. */
INLINE int take_symbol(Input *in, const Code *code) {
    int entry = code->fast[in->held & ((1 << FAST) - 1)];
    if (entry) {
        take(in, entry & 15);
        return entry >> 4;
    }
    int word = 0, first = 0, before = 0;
    for (int length = 1; length <= MAX_CODE; length++) {
        word |= (int)(in->held >> (length - 1) & 1);
        if (word - first < code->counts[length]) {
            take(in, length);
            return code->symbols[before + word - first];
        }
        before += code->counts[length];
        first = (first + code->counts[length]) << 1;
        word <<= 1;
    }
    return -1;
}

/* A word whose lowest `number` bits (1 to 64) are set. */
INLINE uint64_t ones(int64_t number) { return ~(uint64_t)0 >> (64 - number); }

/* Set the bits of `bits` from bit `at` on. */
INLINE void put_bits(uint64_t *words, int64_t at, uint64_t bits) {
    words[at >> 6] |= bits << (at & 63);
    words[(at >> 6) + 1] |= bits >> 1 >> (63 - (at & 63));
}

/* Copy `length` bits from `distance` bits earlier. Zero bits are already in place. */
INLINE void copy(Output *out, int64_t length, int64_t distance) {
    int64_t at = out->at, end = at + length, step = 64;
    uint64_t bits = bits_at(out->words, at - distance);
    out->at = end;
    if (distance < 64) { /* source and target overlap: write as many whole periods as fit into a word at a time */
        bits &= ones(distance);
        if (!bits) return;
        for (step = distance; step <= 32; step *= 2) bits |= bits << step;
        for (; end - at > step; at += step) put_bits(out->words, at, bits & ones(step));
    } else {
        for (; end - at > 64; at += 64, bits = bits_at(out->words, at - distance))
            if (bits) put_bits(out->words, at, bits);
    }
    put_bits(out->words, at, bits & ones(end - at));
}

/* Base values and extra bits of length symbols, base values of distance symbols (RFC 1951, 3.2.5). */
static const uint16_t LENGTHS[29] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                     31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
static const uint8_t LENGTH_BITS[29] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
static const uint16_t DISTANCES[NUM_DISTANCES] = {1,   2,   3,   4,   5,   7,    9,    13,   17,   25,   33,   49,   65,    97,    129,
                                                  193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};

/* Decode the symbols of a block up to its end. */
static int inflate_symbols(Input *in, Output *out, const Code *literals, const Code *distances) {
    for (;;) {
        int64_t length, distance;
        int symbol;
        refill(in);
        symbol = take_symbol(in, literals);
        if (symbol < END) {
            if (symbol < 0 || in->number < 0 || out->at >= out->size) return LEFT_ALONE;
            if (symbol) out->words[out->at >> 6] |= (uint64_t)1 << (out->at & 63);
            out->at++;
            continue;
        }
        if (symbol == END) return in->number < 0 ? LEFT_ALONE : DONE;
        symbol -= END + 1;
        if (symbol >= 29) return LEFT_ALONE;
        length = LENGTHS[symbol] + take(in, LENGTH_BITS[symbol]); /* at most 20 bits so far, 28 more before the next refill */
        symbol = take_symbol(in, distances);
        if (symbol < 0 || symbol >= NUM_DISTANCES) return LEFT_ALONE;
        distance = DISTANCES[symbol] + take(in, symbol < 2 ? 0 : symbol / 2 - 1);
        if (in->number < 0 || distance > out->at || length > out->size - out->at) return LEFT_ALONE;
        copy(out, length, distance);
    }
}

/* Read the two codes of a block with dynamic codes, whose code lengths are Huffman-coded (RFC 1951, 3.2.7). */
static int read_codes(Input *in, Code *literals, Code *distances) {
    static const uint8_t ORDER[19] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    uint8_t lengths[NUM_LITERALS + 32] = {0};
    int num_literals, num_distances, number, at = 0;
    refill(in);
    num_literals = take(in, 5) + 257;
    num_distances = take(in, 5) + 1;
    number = take(in, 4) + 4;
    if (num_literals > 286 || num_distances > NUM_DISTANCES) return LEFT_ALONE;
    for (int i = 0; i < number; i++) {
        refill(in);
        lengths[ORDER[i]] = (uint8_t)take(in, 3);
    }
    if (make_code(literals, lengths, 19) != DONE) return LEFT_ALONE;
    memset(lengths, 0, sizeof lengths);
    while (at < num_literals + num_distances) {
        int symbol, times = 1;
        uint8_t length;
        refill(in);
        symbol = take_symbol(in, literals);
        if (symbol < 0 || in->number < 0 || (symbol == 16 && !at)) return LEFT_ALONE;
        length = symbol < 16 ? (uint8_t)symbol : symbol == 16 ? lengths[at - 1] : 0;
        if (symbol >= 16) times = symbol == 16 ? 3 + take(in, 2) : symbol == 17 ? 3 + take(in, 3) : 11 + take(in, 7);
        if (times > num_literals + num_distances - at) return LEFT_ALONE;
        while (times--) lengths[at++] = length;
    }
    if (!lengths[END] || make_code(distances, lengths + num_literals, num_distances) != DONE) return LEFT_ALONE;
    return make_code(literals, lengths, num_literals);
}

/* The two fixed codes (RFC 1951, 3.2.6). */
static int fixed_codes(Code *literals, Code *distances) {
    uint8_t lengths[NUM_LITERALS];
    for (int i = 0; i < NUM_LITERALS; i++) lengths[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
    if (make_code(literals, lengths, NUM_LITERALS) != DONE) return LEFT_ALONE;
    memset(lengths, 5, 32);
    return make_code(distances, lengths, 32);
}

static int inflate_bits(Input *in, Output *out) {
    Code literals, distances;
    for (int is_last = 0; !is_last;) {
        int kind;
        refill(in);
        is_last = take(in, 1);
        kind = take(in, 2);
        if (in->number < 0) return LEFT_ALONE;
        if (kind == 1 && fixed_codes(&literals, &distances) != DONE) return LEFT_ALONE;
        if (kind == 2 && read_codes(in, &literals, &distances) != DONE) return LEFT_ALONE;
        if (kind == 0 || kind == 3) return LEFT_ALONE; /* stored bytes: compressors do not store masks */
        if (inflate_symbols(in, out, &literals, &distances) != DONE) return LEFT_ALONE;
    }
    return out->at == out->size ? DONE : LEFT_ALONE;
}

/* Non-zero pixels of a PNG with one byte per pixel: bit `row * (width + 1) + 1 + column` of `words`, which has room
   for all rows, each preceded by its filter number, and one more word. `packed` is a zlib stream. Returns DONE, or
   LEFT_ALONE where a row is filtered, the stream is not complete or not of this size, or the machine is big-endian.
   The checksum of the stream is not verified: it is of bytes. */
EXPORT int64_t evqa_inflate_bits(const uint8_t *packed, int64_t length, int64_t height, int64_t width, uint64_t *words) {
    Input in = {packed + 2, packed + length, 0, 0};
    Output out = {words, height * (width + 1), 0};
    const uint16_t probe = 1;
    if (!*(const uint8_t *)&probe) return LEFT_ALONE;
    if (length < 8 || (packed[0] & 15) != 8 || (packed[1] & 32) || ((packed[0] << 8) + packed[1]) % 31) return LEFT_ALONE;
    memset(words, 0, (size_t)(out.size / 64 + 2) * 8);
    if (inflate_bits(&in, &out) != DONE) return LEFT_ALONE;
    if (in.end - in.next + in.number / 8 != 4) return LEFT_ALONE; /* the 4 bytes of the checksum must follow */
    for (int64_t at = 0; at < out.size; at += width + 1)
        if (words[at >> 6] >> (at & 63) & 1) return LEFT_ALONE;
    return DONE;
}
