/* Declarations shared by native.c (comparison of masks) and native_png.c (masks from PNG files). */

#ifndef EVQA_NATIVE_H
#define EVQA_NATIVE_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { VERSION = 2 }; /* of the exported functions; evqa/masks/native.py loads no other version */

/* FOR_EACH_PROCESSOR: compile a function twice, for processors with and without AVX2; the loader selects one.
   NO_OVERLAP: the iterations of the next loop are independent, so that it may be vectorized. */
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__GLIBC__) && !defined(EVQA_PLAIN)
#define FOR_EACH_PROCESSOR __attribute__((target_clones("avx2", "default")))
#else
#define FOR_EACH_PROCESSOR
#endif
#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#define NO_OVERLAP _Pragma("GCC ivdep")
#else
#define INLINE static inline
#define NO_OVERLAP
#endif
#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#elif defined(__GNUC__)
#define EXPORT __attribute__((visibility("default")))
#else
#define EXPORT
#endif

INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

/* The 64 bits that start at bit `at`, lowest bit first. Reads one word beyond that of the first bit. */
INLINE uint64_t bits_at(const uint64_t *words, int64_t at) {
    const uint64_t *word = words + (at >> 6);
    return word[0] >> (at & 63) | word[1] << 1 << (63 - (at & 63));
}

#endif
