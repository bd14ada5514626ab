/* Pixel counts of a pair of masks for the metrics J (region similarity) and F (boundary accuracy), from run lengths,
   pixels or bits, without a mask of one byte per pixel.

   Plain C without Python's headers: setup.py compiles it where there is a compiler, evqa/masks/native.py loads it, and
   evqa/metrics/boundary.py computes the same in numpy. The input is not trusted: run lengths are checked before use.

   Steps of evqa_compare:
   1. read_source: run lengths -> runs, or pixels -> packed bits; the bounding box of each mask.
   2. field_of: the part of the frame around both boxes; only this part is drawn and searched.
   3. draw_runs or transpose_lines: both masks as bits in the field. count_pixels: intersection and areas.
   4. draw_outline: the outline of each mask (DAVIS seg2bmap) as bits.
   5. count_missed: the outline pixels of each mask without a pixel of the other outline within the radius.

   Layout. A mask is stored as bits, 64 pixels per word, in lines. A line is a column of the frame if a side is given as
   run lengths (COCO's are column-major), and a row if both are given as pixels; the outline of DAVIS is the same under
   transposition. Word j of line i is words[j * stride + i]: words at the same position of consecutive lines are
   adjacent, so one operation on a word is applied to many lines in a loop that compilers vectorize. */

#include "native.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

enum { MAX_RADIUS = 128 };      /* numpy computes larger ones: frames with a diagonal above 16,000 pixels */
enum { MAX_PARTS = 5 };         /* words that a window of MAX_RADIUS around a word overlaps */
enum { BLOCK = 8 };             /* lines that are processed together */
enum { MAX_PROBE = 31 };        /* radius up to which a row of the disk fits a word */
enum { MAX_RUN_CHARACTERS = 6 };
static const int64_t MAX_AREA = 1 << 26;  /* pixels; evqa.media.images.MAX_PIXELS */
static const int64_t MAX_WORDS = 1 << 22; /* of one bitmap */

/* Status codes: done, damaged run lengths of the first or the second mask, out of memory, size or radius too large. */
enum { DONE = 0, BAD_FIRST = 1, BAD_SECOND = 2, NO_MEMORY = 3, NOT_COVERED = 4 };

/* Forms of a mask. */
enum { RUNS = 0, BYTES = 1, BITS = 2 };

/* One mask, or the union of several, as given by the caller. */
typedef struct {
    int64_t form;     /* RUNS, BYTES or BITS */
    const void *data; /* RUNS: COCO's text of `num_masks` masks, separated by spaces. BYTES: rows, non-zero = foreground.
                         BITS: rows without gaps, each preceded by one bit; one word after the last is readable */
    int64_t size;     /* RUNS: characters; BYTES: bytes from row to row */
    int64_t num_masks;
} Source;

typedef struct { uint32_t start, end; } Run; /* foreground pixels [start, end) in column-major order */

typedef struct { int64_t first_line, last_line, first_bit, last_bit; } Box; /* all included */

typedef struct { uint64_t *words; int64_t stride; } Bits; /* word j of line i: words[j * stride + i] */

/* Part of a frame that contains the outlines of both masks. In functions with a field, lines and words are relative to
   its corner (first_line, first_word). */
typedef struct {
    int64_t first_line, num_lines, first_word, num_words;
    int64_t frame_lines, frame_bits;
} Field;

INLINE int lowest_bit(uint64_t word) {
#if defined(__GNUC__)
    return __builtin_ctzll(word);
#else
    int place = 0;
    while (!(word & 1)) { word >>= 1; place++; }
    return place;
#endif
}
INLINE int highest_bit(uint64_t word) {
#if defined(__GNUC__)
    return 63 - __builtin_clzll(word);
#else
    int place = 0;
    while (word >>= 1) place++;
    return place;
#endif
}
INLINE int64_t count_bits(uint64_t word) {
#if defined(__GNUC__)
    return __builtin_popcountll(word);
#else
    int64_t count = 0;
    for (; word; word &= word - 1) count++;
    return count;
#endif
}

/* Distance in words from one word of a line to the next: an odd number of cache lines (8 words each), so that the words
   of a line do not map to the same cache sets. */
INLINE int64_t stride_for(int64_t num_lines) { return ((num_lines + 7) / 8 | 1) * 8; }

/* Word `word` of line 0; that of line i follows at index i. */
INLINE uint64_t *column(const Bits *bits, int64_t word) { return bits->words + word * bits->stride; }

/* Run lengths */

/* Decode the foreground runs of one mask: text[0..length) -> at most length / 2 + 1 runs.
   COCO's text has 5 bits per character (code - 48), low bits first; bit 32 = more follows, bit 16 of the last = sign;
   from the fourth run on it is the difference to the run before the last. Runs alternate, background first.
   Returns the number of runs, or -1 for a text that is not the run lengths of `area` pixels. */
static int64_t read_runs(const char *text, int64_t length, int64_t area, Run *runs) {
    int64_t position = 0, before = 0, last = 0, number = 0, num_runs = 0, at = 0;
    if (length < 1) return -1;
    while (at < length) {
        int64_t value = 0;
        int shift = 0, code;
        do {
            if (at == length || shift == 5 * MAX_RUN_CHARACTERS) return -1;
            code = (unsigned char)text[at++] - 48;
            if (code < 0 || code > 63) return -1;
            value |= (int64_t)(code & 31) << shift;
            shift += 5;
        } while (code & 32);
        if (code & 16) value -= (int64_t)1 << shift;
        if (number > 2) value += before;
        if (value < 0 || value > area - position) return -1;
        if ((number & 1) && value > 0) {
            runs[num_runs].start = (uint32_t)position;
            runs[num_runs].end = (uint32_t)(position + value);
            num_runs++;
        }
        position += value;
        before = last;
        last = value;
        number++;
    }
    return position == area ? num_runs : -1;
}

/* Decode the runs of all masks of a source, one mask after the other. Returns their number, or -1 where a mask is
   damaged or the number of masks differs from `num_masks`. */
static int64_t read_masks(const Source *source, int64_t area, Run *runs) {
    const char *text = source->data, *end = text + source->size;
    int64_t num_runs = 0, num_masks = 0;
    for (;;) {
        const char *stop = memchr(text, ' ', (size_t)(end - text));
        int64_t more = read_runs(text, (stop ? stop : end) - text, area, runs + num_runs);
        if (more < 0 || ++num_masks > source->num_masks) return -1;
        num_runs += more;
        if (!stop) return num_masks == source->num_masks ? num_runs : -1;
        text = stop + 1;
    }
}

/* Widen a box to contain lines and bits (inclusive). */
INLINE void widen(Box *box, int64_t first_line, int64_t last_line, int64_t first_bit, int64_t last_bit) {
    box->first_line = least(box->first_line, first_line);
    box->last_line = most(box->last_line, last_line);
    box->first_bit = least(box->first_bit, first_bit);
    box->last_bit = most(box->last_bit, last_bit);
}

/* Widen `box` to the runs of one or more masks; a line has `num_bits` pixels. Divisions are avoided where a run
   starts on the same line as the previous one or on the next. */
static void add_box_of_runs(const Run *runs, int64_t num_runs, int64_t num_bits, Box *box) {
    int64_t line = 0, start_of_line = 0;
    for (int64_t i = 0; i < num_runs; i++) {
        int64_t start = runs[i].start - start_of_line, last;
        if (start < 0) { line = start_of_line = 0; start = runs[i].start; } /* the next mask */
        if (start >= num_bits) {
            int64_t lines = start < 2 * num_bits ? 1 : (int64_t)((uint32_t)start / (uint32_t)num_bits);
            line += lines;
            start_of_line += lines * num_bits;
            start -= lines * num_bits;
        }
        last = (int64_t)runs[i].end - 1 - start_of_line;
        if (last < num_bits) widen(box, line, line, start, last);
        else widen(box, line, line + (int64_t)((uint32_t)last / (uint32_t)num_bits), 0, num_bits - 1);
    }
}

/* Set the bits first..last of a line, whose words are `stride` apart. */
INLINE void set_bits(uint64_t *line, int64_t stride, int64_t first, int64_t last) {
    int64_t word = first >> 6, end = last >> 6;
    uint64_t head = ~(uint64_t)0 << (first & 63), tail = ~(uint64_t)0 >> (63 - (last & 63));
    if (word == end) { line[word * stride] |= head & tail; return; }
    line[word * stride] |= head;
    while (++word < end) line[word * stride] = ~(uint64_t)0;
    line[end * stride] |= tail;
}

/* Draw the runs of one or more masks into the field; a run that continues on further lines is split. */
static void draw_runs(const Field *field, const Bits *bits, const Run *runs, int64_t num_runs) {
    int64_t line = 0, start_of_line = 0, num_bits = field->frame_bits, skipped = 64 * field->first_word;
    for (int64_t i = 0; i < num_runs; i++) {
        int64_t start = runs[i].start - start_of_line, last;
        if (start < 0) { line = start_of_line = 0; start = runs[i].start; } /* the next mask */
        if (start >= num_bits) {
            int64_t lines = start < 2 * num_bits ? 1 : (int64_t)((uint32_t)start / (uint32_t)num_bits);
            line += lines;
            start_of_line += lines * num_bits;
            start -= lines * num_bits;
        }
        last = (int64_t)runs[i].end - 1 - start_of_line;
        while (last >= num_bits) {
            set_bits(bits->words + line - field->first_line, bits->stride, start - skipped, num_bits - 1 - skipped);
            line++;
            start_of_line += num_bits;
            last -= num_bits;
            start = 0;
        }
        set_bits(bits->words + line - field->first_line, bits->stride, start - skipped, last - skipped);
    }
}

/* Pixels */

/* One bit per pixel, non-zero = 1, for `number` (at most 64) pixels. */
INLINE uint64_t pack_up_to_64(const uint8_t *pixels, int64_t number) {
    uint64_t word = 0;
    for (int64_t i = 0; i < number; i++) word |= (uint64_t)(pixels[i] != 0) << i;
    return word;
}

INLINE uint64_t pack_64(const uint8_t *pixels) {
#if defined(__SSE2__)
    const __m128i zero = _mm_setzero_si128();
    __m128i a = _mm_loadu_si128((const __m128i *)pixels), b = _mm_loadu_si128((const __m128i *)(pixels + 16));
    __m128i c = _mm_loadu_si128((const __m128i *)(pixels + 32)), d = _mm_loadu_si128((const __m128i *)(pixels + 48));
    __m128i any = _mm_or_si128(_mm_or_si128(a, b), _mm_or_si128(c, d));
    if (_mm_movemask_epi8(_mm_cmpeq_epi8(any, zero)) == 0xFFFF) return 0;
    uint64_t w0 = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(a, zero));
    uint64_t w1 = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(b, zero));
    uint64_t w2 = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(c, zero));
    uint64_t w3 = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(d, zero));
    return ~(w0 | w1 << 16 | w2 << 32 | w3 << 48);
#else
    uint64_t words[8], any = 0;
    memcpy(words, pixels, 64);
    for (int i = 0; i < 8; i++) any |= words[i];
    return any ? pack_up_to_64(pixels, 64) : 0;
#endif
}

/* Store word `word` of line `row`, and add its bits to `seen` (by word) and `any` (of the line) for the bounding box.
   */
INLINE void store_word(const Bits *bits, uint64_t *seen, uint64_t *any, int64_t row, int64_t word, uint64_t packed) {
    column(bits, word)[row] = packed;
    seen[word] |= packed;
    *any |= packed;
}

/* Pack rows of bytes or bits into lines of words, and widen `box` to the foreground. `seen` has room for one line. */
FOR_EACH_PROCESSOR
static void pack_rows(
    const Source *source, int64_t height, int64_t width, const Bits *bits, uint64_t *seen, Box *box) {
    int64_t whole = width / 64, rest = width % 64;
    memset(seen, 0, (size_t)(whole + 1) * 8);
    for (int64_t row = 0; row < height; row++) {
        uint64_t any = 0;
        if (source->form == BYTES) {
            const uint8_t *pixels = (const uint8_t *)source->data + row * source->size;
            for (int64_t word = 0; word < whole; word++)
                store_word(bits, seen, &any, row, word, pack_64(pixels + 64 * word));
            store_word(bits, seen, &any, row, whole, pack_up_to_64(pixels + 64 * whole, rest));
        } else {
            int64_t start = row * (width + 1) + 1;
            for (int64_t word = 0; word < whole; word++)
                store_word(bits, seen, &any, row, word, bits_at(source->data, start + 64 * word));
            store_word(bits, seen, &any, row, whole, rest ? bits_at(source->data, start + 64 * whole) << (64 - rest) >> (64 - rest) : 0);
        }
        if (any) {
            box->first_line = least(box->first_line, row);
            box->last_line = most(box->last_line, row);
        }
    }
    for (int64_t word = 0; word <= whole; word++) {
        if (!seen[word]) continue;
        box->first_bit = least(box->first_bit, 64 * word + lowest_bit(seen[word]));
        box->last_bit = most(box->last_bit, 64 * word + highest_bit(seen[word]));
    }
}

/* Transpose 64 x 64 bits in place: exchange the off-diagonal 32 x 32 blocks, then 16 x 16 blocks, and so on. */
INLINE void transpose_64(uint64_t block[64]) {
    uint64_t mask = 0x00000000FFFFFFFFu;
    for (int width = 32; width; width >>= 1, mask ^= mask << width) {
        for (int i = 0; i < 64; i = ((i | width) + 1) & ~width) {
            uint64_t change = ((block[i] >> width) ^ block[i | width]) & mask;
            block[i] ^= change << width;
            block[i | width] ^= change;
        }
    }
}

/* Transpose lines that are rows of the frame into lines that are its columns, by blocks of 64 x 64, within `box` (whose
   lines are columns). The target is zero there before. */
FOR_EACH_PROCESSOR
static void transpose_lines(const Bits *rows, int64_t height, const Field *field, const Bits *target, const Box *box) {
    for (int64_t place = box->first_bit >> 6; place <= box->last_bit >> 6; place++) {
        int64_t num_rows = least(64, height - 64 * place);
        for (int64_t word = box->first_line >> 6; word <= box->last_line >> 6; word++) {
            uint64_t block[64] = {0}, any = 0;
            for (int64_t i = 0; i < num_rows; i++) any |= block[i] = column(rows, word)[64 * place + i];
            if (!any) continue;
            transpose_64(block);
            uint64_t *lines = column(target, place - field->first_word);
            for (int i = lowest_bit(any); i <= highest_bit(any); i++) lines[64 * word + i - field->first_line] = block[i];
        }
    }
}

/* Outlines */

/* counts: pixels in both masks, in the first, in the second. */
FOR_EACH_PROCESSOR
static void count_pixels(const Field *field, const Bits masks[2], int64_t counts[3]) {
    int64_t both = 0, in_first = 0, in_second = 0, number = field->num_lines;
    for (int64_t word = 0; word < field->num_words; word++) {
        const uint64_t *first = column(&masks[0], word), *second = column(&masks[1], word);
        for (int64_t i = 0; i < number; i++) {
            both += count_bits(first[i] & second[i]);
            in_first += count_bits(first[i]);
            in_second += count_bits(second[i]);
        }
    }
    counts[0] = both;
    counts[1] = in_first;
    counts[2] = in_second;
}

/* Repeat the last pixel of each line and the last line beyond the frame's edge, so that no outline arises there. */
static void repeat_last(const Field *field, const Bits *mask) {
    int64_t last = field->frame_bits - 1, next = field->frame_bits, num_lines = field->num_lines;
    if (next >> 6 < field->first_word + field->num_words) {
        const uint64_t *from = column(mask, (last >> 6) - field->first_word);
        uint64_t *to = column(mask, (next >> 6) - field->first_word);
        for (int64_t i = 0; i < num_lines; i++) to[i] |= (from[i] >> (last & 63) & 1) << (next & 63);
    }
    if (field->first_line + num_lines == field->frame_lines)
        for (int64_t word = 0; word <= field->num_words; word++)
            column(mask, word)[num_lines] = column(mask, word)[num_lines - 1];
}

/* Draw the outline of a mask and return its number of pixels. A pixel belongs to it if it differs from the next pixel
   of the line, from its neighbour on the next line, or from the diagonal neighbour there (`seg2bmap` of DAVIS). */
FOR_EACH_PROCESSOR
static int64_t draw_outline(const Field *field, const Bits *mask, const Bits *outline) {
    int64_t count = 0, beyond = field->frame_bits - 64 * field->first_word, number = field->num_lines;
    for (int64_t word = 0; word < field->num_words; word++) {
        const uint64_t *here = column(mask, word), *more = column(mask, word + 1);
        uint64_t *edge = column(outline, word), inside = ~(uint64_t)0;
        if (beyond - 64 * word < 64) inside = beyond > 64 * word ? inside >> (64 - (beyond - 64 * word)) : 0;
        NO_OVERLAP
        for (int64_t i = 0; i < number; i++) {
            uint64_t ahead = here[i] >> 1 | more[i] << 63, across = here[i + 1] >> 1 | more[i + 1] << 63;
            edge[i] = ((here[i] ^ ahead) | (here[i] ^ here[i + 1]) | (here[i] ^ across)) & inside;
        }
        for (int64_t i = 0; i < number; i++) count += count_bits(edge[i]);
    }
    return count;
}

/* Distances. An outline is stored with `radius` empty lines on either side and `pads` empty words, so that windows
   around its pixels need no bounds checks. */

/* Line i of `unions` = bitwise or of the lines i to i + number - 1 of `outline`, including the empty lines. The number
   of lines that each result covers doubles with each pass. */
FOR_EACH_PROCESSOR
static void union_lines(const Bits *outline, int64_t num_words, int64_t lines, int64_t number, const Bits *unions) {
    for (int64_t word = 0; word < num_words; word++) {
        const uint64_t *from = column(outline, word);
        uint64_t *to = column(unions, word);
        if (number == 1) {
            memcpy(to, from, (size_t)lines * 8);
            continue;
        }
        NO_OVERLAP
        for (int64_t i = 0; i < lines - 1; i++) to[i] = from[i] | from[i + 1];
        for (int64_t done = 2; done < number;) {
            int64_t step = least(done, number - done);
            done += step;
            NO_OVERLAP
            for (int64_t i = 0; i <= lines - done; i++) to[i] |= to[i + step];
        }
    }
}

/* `to` |= the 128-bit numbers (high, low) >> shift, truncated to 64 bits; `high` may be NULL for 0. */
INLINE void or_shifted(uint64_t *to, const uint64_t *low, const uint64_t *high, int shift, int64_t number) {
    if (!shift) {
        NO_OVERLAP
        for (int64_t i = 0; i < number; i++) to[i] |= low[i];
    } else if (!high) {
        NO_OVERLAP
        for (int64_t i = 0; i < number; i++) to[i] |= low[i] >> shift;
    } else {
        NO_OVERLAP
        for (int64_t i = 0; i < number; i++) to[i] |= low[i] >> shift | high[i] << (64 - shift);
    }
}

/* Dilate a word of each of `number` lines: bit b of the result is set if the line has a bit within `reach` of b.
   `parts` holds the words around it, part after part with `number` lines each; the result replaces the first part. The
   window doubles with each pass. */
INLINE void dilate_words(uint64_t *parts, int64_t number, int reach) {
    int around = (reach + 63) / 64, offset = 64 * around - reach, window = 2 * reach + 1;
    int num_parts = (64 + 2 * reach + 63) / 64;
    if (offset) {
        for (int part = 0; part < num_parts; part++) {
            uint64_t *low = parts + part * number, *high = low + number;
            int has_high = part < 2 * around;
            NO_OVERLAP
            for (int64_t i = 0; i < number; i++)
                low[i] = low[i] >> offset | (has_high ? high[i] << (64 - offset) : 0);
        }
    }
    for (int done = 1; done < window;) {
        int step = (int)least(done, window - done), skip = step / 64;
        for (int part = 0; part + skip < num_parts; part++) {
            uint64_t *low = parts + (part + skip) * number;
            or_shifted(parts + part * number, low, part + skip + 1 < num_parts ? low + number : NULL, step % 64, number);
        }
        done += step;
    }
}

/* Whether `outline` has a pixel within the disk around (line, bit). Up to MAX_PROBE each row of the disk is a mask of
   one word in `rows`; for a larger radius row `away` covers 2 * half[away] + 1 bits. */
INLINE int has_pixel_in_disk(const Bits *outline, int64_t line, int64_t bit, int radius, const int *half, const uint64_t *rows) {
    if (radius <= MAX_PROBE) {
        int64_t from = bit + 32, shift = from & 63; /* of the window bit - 32 to bit + 31, from the word before 0 on */
        const uint64_t *low = column(outline, (from >> 6) - 1) + line - radius, *high = low + outline->stride;
        uint64_t any = 0;
        for (int i = 0; i <= 2 * radius; i++) any |= (low[i] >> shift | high[i] << 1 << (63 - shift)) & rows[i];
        return any != 0;
    }
    for (int away = -radius; away <= radius; away++) {
        int64_t first = bit - half[away < 0 ? -away : away], last = bit + half[away < 0 ? -away : away];
        for (int64_t word = first >> 6; word <= last >> 6; word++) {
            uint64_t found = column(outline, word)[line + away];
            if (word == first >> 6) found &= ~(uint64_t)0 << (first & 63);
            if (word == last >> 6) found &= ~(uint64_t)0 >> (63 - (last & 63));
            if (found) return 1;
        }
    }
    return 0;
}

typedef struct {
    int radius, inner;        /* inner: half side of the largest square (2 * inner + 1 pixels) inside the disk */
    int half[MAX_RADIUS + 1]; /* half the width of the disk x^2 + y^2 <= r^2 at each distance from its centre */
    uint64_t rows[2 * MAX_PROBE + 1]; /* rows of the disk, its centre at bit 32 */
} Disk;

/* Compute the rows and the inner square of a disk of `radius` pixels. */
static void make_disk(Disk *disk, int radius) {
    int width = radius;
    disk->radius = radius;
    for (int away = 0; away <= radius; away++) {
        while (width * width + away * away > radius * radius) width--;
        disk->half[away] = width;
    }
    disk->inner = 0;
    while (disk->inner < radius && disk->half[disk->inner + 1] > disk->inner) disk->inner++;
    for (int i = 0; i <= 2 * radius && radius <= MAX_PROBE; i++) {
        int half = disk->half[i < radius ? radius - i : i - radius];
        disk->rows[i] = (~(uint64_t)0 >> (63 - 2 * half)) << (32 - half);
    }
}

/* Number of the `doubtful` bits of a word without a pixel of `other` in the disk around them; each is tested alone. */
INLINE int64_t count_unmatched(const Bits *other, int64_t line, int64_t word, uint64_t doubtful, const Disk *disk) {
    int64_t count = 0;
    for (; doubtful; doubtful &= doubtful - 1)
        count += !has_pixel_in_disk(other, line, 64 * word + lowest_bit(doubtful), disk->radius, disk->half, disk->rows);
    return count;
}

/* Dilate the words `here` of BLOCK lines by `reach` (1 to MAX_PROBE) along the line; `before` and `after` are the words
   next to them. */
INLINE void dilate_block(uint64_t *low, const uint64_t *before, const uint64_t *here, const uint64_t *after, int reach) {
    uint64_t high[BLOCK];
    int window = 2 * reach + 1, far = 64 - reach;
    for (int k = 0; k < BLOCK; k++) {
        low[k] = here[k] << reach | before[k] >> far;
        high[k] = after[k] << reach | here[k] >> far;
    }
    for (int done = 1; done < window;) {
        int step = (int)least(done, window - done);
        for (int k = 0; k < BLOCK; k++) {
            low[k] |= low[k] >> step | high[k] << (64 - step);
            high[k] |= high[k] >> step;
        }
        done += step;
    }
}

/* Number of pixels of `outline` without a pixel of `other` in the disk around them. A pixel with one in the square
   inside the disk is matched, a pixel with none in the square around the disk is not; only the others are tested
   alone. Line i of `unions` is the union of the lines i - radius to i - radius + 2 * inner of `other`; three of them,
   `shift` lines apart, cover the square around the disk. */
FOR_EACH_PROCESSOR
static int64_t count_missed(
    const Field *field, const Bits *outline, const Bits *other, const Bits *unions, const Disk *disk) {
    int64_t missed = 0, shift = disk->radius - disk->inner, number = field->num_lines;
    for (int64_t word = 0; word < field->num_words; word++) {
        const uint64_t *edges = column(outline, word), *here = column(unions, word);
        const uint64_t *before = column(unions, word - 1), *after = column(unions, word + 1);
        for (int64_t i = 0; i < number; i += BLOCK) { /* BLOCK empty lines after the last one are readable */
            uint64_t left[BLOCK], met[BLOCK], around[3][BLOCK], any = 0;
            for (int k = 0; k < BLOCK; k++) any |= edges[i + k];
            if (!any) continue;
            dilate_block(met, before + i + shift, here + i + shift, after + i + shift, disk->inner);
            any = 0;
            for (int k = 0; k < BLOCK; k++) any |= left[k] = edges[i + k] & ~met[k];
            if (!any) continue;
            for (int k = 0; k < BLOCK; k++) {
                around[0][k] = before[i + k] | before[i + k + shift] | before[i + k + 2 * shift];
                around[1][k] = here[i + k] | here[i + k + shift] | here[i + k + 2 * shift];
                around[2][k] = after[i + k] | after[i + k + shift] | after[i + k + 2 * shift];
            }
            dilate_block(met, around[0], around[1], around[2], disk->radius);
            for (int k = 0; k < BLOCK; k++)
                if (left[k]) missed += count_bits(left[k] & ~met[k]) + count_unmatched(other, i + k, word, left[k] & met[k], disk);
        }
    }
    return missed;
}

/* As `count_missed`, for any radius. `parts` has room for MAX_PARTS + 1 words per line. */
FOR_EACH_PROCESSOR
static int64_t count_missed_any_radius(
    const Field *field, const Bits *outline, const Bits *other, const Bits *unions, const Disk *disk, uint64_t *parts) {
    int64_t missed = 0, number = field->num_lines, shift = disk->radius - disk->inner;
    uint64_t *left = parts + MAX_PARTS * number;
    for (int64_t word = 0; word < field->num_words; word++) {
        const uint64_t *edge = column(outline, word);
        uint64_t any = 0;
        int around = (disk->inner + 63) / 64;
        for (int64_t i = 0; i < number; i++) any |= edge[i];
        if (!any) continue;
        for (int part = 0; part <= 2 * around; part++)
            memcpy(parts + part * number, column(unions, word + part - around) + shift, (size_t)number * 8);
        dilate_words(parts, number, disk->inner);
        any = 0;
        for (int64_t i = 0; i < number; i++) any |= left[i] = edge[i] & ~parts[i];
        if (!any) continue;
        around = (disk->radius + 63) / 64;
        for (int part = 0; part <= 2 * around; part++) {
            const uint64_t *from = column(unions, word + part - around);
            uint64_t *to = parts + part * number;
            NO_OVERLAP
            for (int64_t i = 0; i < number; i++) to[i] = from[i] | from[i + shift] | from[i + 2 * shift];
        }
        dilate_words(parts, number, disk->radius);
        for (int64_t i = 0; i < number; i++) {
            if (!left[i]) continue;
            missed += count_bits(left[i] & ~parts[i]) + count_unmatched(other, i, word, left[i] & parts[i], disk);
        }
    }
    return missed;
}

/* One pair of masks */

/* Buffers of one comparison, freed together by `release`. */
typedef struct {
    Run *runs[2];
    uint64_t *packed; /* pixels as bits */
    uint64_t *bitmaps; /* masks in the field */
    uint64_t *outlines;
} Memory;

static uint64_t *new_words(int64_t number) { return malloc((size_t)number * 8); }

static void release(Memory *memory) {
    free(memory->runs[0]);
    free(memory->runs[1]);
    free(memory->packed);
    free(memory->bitmaps);
    free(memory->outlines);
}

/* Compute counts[3..6]: outline pixels of both masks, and the number of these that are matched. */
static int measure_outlines(const Field *field, const Bits masks[2], int radius, Memory *memory, int64_t counts[7]) {
    int64_t lines = field->num_lines + 2 * radius, stride = stride_for(lines + BLOCK), pads = (radius + 63) / 64;
    int64_t size = (field->num_words + 2 * pads) * stride;
    Bits outlines[2], unions, inner[2];
    Disk disk;
    make_disk(&disk, radius);
    memory->outlines = new_words(3 * size + (MAX_PARTS + 1) * field->num_lines);
    if (!memory->outlines) return NO_MEMORY;
    memset(memory->outlines, 0, (size_t)(3 * size) * 8);
    for (int side = 0; side < 2; side++) {
        outlines[side].stride = inner[side].stride = stride;
        outlines[side].words = memory->outlines + side * size + pads * stride;
        inner[side].words = outlines[side].words + radius; /* after the empty lines */
        repeat_last(field, &masks[side]);
        counts[3 + side] = draw_outline(field, &masks[side], &inner[side]);
    }
    if (!(counts[3] && counts[4])) return DONE;
    unions.stride = stride;
    unions.words = memory->outlines + 2 * size + pads * stride;
    for (int side = 0; side < 2; side++) {
        union_lines(&outlines[1 - side], field->num_words, lines, 2 * disk.inner + 1, &unions);
        int64_t missed = disk.inner && radius <= MAX_PROBE
            ? count_missed(field, &inner[side], &inner[1 - side], &unions, &disk)
            : count_missed_any_radius(field, &inner[side], &inner[1 - side], &unions, &disk, memory->outlines + 3 * size);
        counts[5 + side] = counts[3 + side] - missed;
    }
    return DONE;
}

/* Read a source as runs or as packed rows, and compute its bounding box (lines are columns for runs, rows for
   pixels). */
static int read_source(
    const Source *source, int64_t height, int64_t width, Run **runs, int64_t *num_runs, Bits *packed, Box *box) {
    Box empty = {INT64_MAX, -1, INT64_MAX, -1};
    *box = empty;
    if (source->form != RUNS) {
        uint64_t *seen = packed->words + (width / 64 + 2) * packed->stride;
        memset(column(packed, width / 64 + 1), 0, (size_t)packed->stride * 8);
        pack_rows(source, height, width, packed, seen, box);
        return DONE;
    }
    *runs = malloc((size_t)(source->size / 2 + 1) * sizeof(Run));
    if (!*runs) return NO_MEMORY;
    *num_runs = read_masks(source, height * width, *runs);
    if (*num_runs < 0) return BAD_FIRST;
    add_box_of_runs(*runs, *num_runs, height, box);
    return DONE;
}

/* Field around a box, with a margin of one pixel, in which outlines can lie. */
static Field field_of(const Box *box, int64_t num_lines, int64_t num_bits) {
    Field field;
    field.first_line = most(box->first_line - 1, 0);
    field.num_lines = box->last_line + 1 - field.first_line;
    field.first_word = most(box->first_bit - 1, 0) >> 6;
    field.num_words = ((box->last_bit + 1) >> 6) + 1 - field.first_word;
    field.frame_lines = num_lines;
    field.frame_bits = num_bits;
    return field;
}

/* Box with lines and bits exchanged. */
static Box transposed_box(Box box) {
    Box turned = {box.first_bit, box.last_bit, box.first_line, box.last_line};
    return turned;
}

/* Compare two sources in the steps stated at the top of this file; buffers are left in `memory`. */
static int compare(
    const Source sources[2], int64_t height, int64_t width, int radius, Memory *memory, int64_t counts[7]) {
    int num_packed = (sources[0].form != RUNS) + (sources[1].form != RUNS), in_rows = num_packed == 2;
    int64_t row_stride = stride_for(height + 1), num_runs[2] = {0, 0};
    int64_t packed_size = (width / 64 + 2) * row_stride + width / 64 + 1; /* a word more than the line, and `seen` */
    Bits packed[2], masks[2];
    Box boxes[2];
    if (packed_size > MAX_WORDS || (height / 64 + 2) * stride_for(width + 1) > MAX_WORDS) return NOT_COVERED;
    if (num_packed && !(memory->packed = new_words(num_packed * packed_size))) return NO_MEMORY;
    for (int side = 0; side < 2; side++) {
        packed[side].stride = row_stride;
        packed[side].words = memory->packed + (in_rows ? side * packed_size : 0);
        int state = read_source(
            &sources[side], height, width, &memory->runs[side], &num_runs[side], &packed[side], &boxes[side]);
        if (state != DONE) return state == BAD_FIRST && side ? BAD_SECOND : state;
        if (!in_rows && sources[side].form != RUNS) boxes[side] = transposed_box(boxes[side]);
    }

    Box both = boxes[0];
    widen(&both, boxes[1].first_line, boxes[1].last_line, boxes[1].first_bit, boxes[1].last_bit);
    if (both.last_line < 0) return DONE; /* both are empty */
    Field field = in_rows ? field_of(&both, height, width) : field_of(&both, width, height);
    int64_t stride = stride_for(field.num_lines + 1), size = (field.num_words + 1) * stride;
    if (!in_rows) {
        memory->bitmaps = new_words(2 * size);
        if (!memory->bitmaps) return NO_MEMORY;
        memset(memory->bitmaps, 0, (size_t)(2 * size) * 8);
    }
    for (int side = 0; side < 2; side++) {
        if (in_rows) {
            masks[side].stride = row_stride;
            masks[side].words = column(&packed[side], field.first_word) + field.first_line;
            continue;
        }
        masks[side].stride = stride;
        masks[side].words = memory->bitmaps + side * size;
        if (sources[side].form == RUNS) draw_runs(&field, &masks[side], memory->runs[side], num_runs[side]);
        else if (boxes[side].last_line >= 0) transpose_lines(&packed[side], height, &field, &masks[side], &boxes[side]);
    }
    count_pixels(&field, masks, counts);
    return counts[1] && counts[2] ? measure_outlines(&field, masks, radius, memory, counts) : DONE;
}

EXPORT int64_t evqa_version(void) { return VERSION; }

/* Counts of a pair of masks of one size, each given as the fields of a `Source`:
   counts[0] pixels in both, [1] in the first, [2] in the second, [3] outline pixels of the first, [4] of the second,
   [5] outline pixels of the first with an outline pixel of the second within `radius`, [6] the same of the second.
   Returns a status code. */
EXPORT int64_t evqa_compare(
    int64_t height, int64_t width, int64_t radius, int64_t first_form, const void *first, int64_t first_size,
    int64_t first_masks, int64_t second_form, const void *second, int64_t second_size, int64_t second_masks,
    int64_t counts[7]) {
    Source sources[2] = {{first_form, first, first_size, first_masks}, {second_form, second, second_size, second_masks}};
    Memory memory = {{NULL, NULL}, NULL, NULL, NULL};
    int state;
    memset(counts, 0, 7 * sizeof(int64_t));
    if (height < 1 || width < 1 || height > MAX_AREA || width > MAX_AREA || height * width > MAX_AREA)
        return NOT_COVERED;
    if (radius < 0 || radius > MAX_RADIUS) return NOT_COVERED;
    state = compare(sources, height, width, (int)radius, &memory, counts);
    release(&memory);
    return state;
}
