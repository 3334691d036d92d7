/* Encodings of bytes as text: base64 (RFC 4648, both alphabets), hex, LEB128 varints. Refuses invalid input. */
#ifndef SLUICE_BASE_ENC_H
#define SLUICE_BASE_ENC_H

#include <stdint.h>

#include "lib/base/buf.h"
#include "lib/base/err.h"
#include "lib/base/str.h"

enum enc_result { ENC_OK = 0, ENC_MALFORMED = 1 };

void enc_base64(struct buf *out, struct str bytes);    /* with padding */
void enc_base64url(struct buf *out, struct str bytes); /* without padding */
/* Accepts either alphabet, padding optional. On ENC_MALFORMED @out may hold a part. */
must_check enum enc_result enc_base64_decode(struct buf *out, struct str text);
void enc_hex(struct buf *out, struct str bytes);
must_check enum enc_result enc_hex_decode(struct buf *out, struct str text);
void enc_varint(struct buf *out, uint64_t value);
/* Takes one varint off @rest. */
must_check enum enc_result enc_varint_decode(struct str *rest, uint64_t *ret_value);

#endif
