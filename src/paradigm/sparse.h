/*
 * A vector of which only the places that matter travel, and the rule for which those are.
 *
 * Bytes, little-endian: a header of 16 (form, zero, number of places), then
 *     DENSE  n floats
 *     MASK   n bits in words of 64, lowest first, then a float for each bit that is set
 *     LIST   the places as uint32, ascending, then a float for each
 * whichever is shortest.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DML_SPARSE_N_MAX (1u << 30)

/* Words of 64 bits of a mask over n places. */
static inline size_t dml_sparse_words(size_t n)
{
    return (n + 63) / 64;
}

/* Bytes that the longest form of n floats takes. */
size_t dml_sparse_room(size_t n);

/*
 * Which of n changes are significant: |factor × change[i]| > threshold × |value[i]|. A threshold of
 * 0 lets every change but 0 pass. mask [dml_sparse_words(n)]. Returns how many.
 * Source: the significance filter of Gaia, Hsieh et al., NSDI 2017.
 */
size_t dml_sparse_choose(const float *change, const float *value, size_t n, double factor,
                         double threshold, uint64_t *mask);

/* x [n] at the places of io_mask as bytes. Where it would not be longer to send all, all are sent,
 * and io_mask says so. out [dml_sparse_room(n)], aligned to 8. Returns the number of bytes. */
size_t dml_sparse_pack(const float *x, uint64_t *io_mask, size_t n, unsigned char *out);

/* Whether these bytes, aligned to 8, are a sound vector of n floats: nothing of them is believed
 * before. Returns 0 or -EPROTO. */
int dml_sparse_check(const unsigned char *bytes, size_t len, size_t n);

/* Of bytes that dml_sparse_check() has found sound: how many places they hold; io_x [n] at these
 * places set to, respectively increased by, what they say. */
size_t dml_sparse_count(const unsigned char *bytes);
void dml_sparse_set(const unsigned char *bytes, size_t n, float *io_x);
void dml_sparse_add(const unsigned char *bytes, size_t n, float *io_x);

/* x [n] at the places of mask becomes 0. */
void dml_sparse_clear(float *io_x, const uint64_t *mask, size_t n);
