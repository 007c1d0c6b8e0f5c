#include "base/base.h"

/* SipHash-2-4 as in Aumasson and Bernstein, "SipHash: a fast short-input PRF" (2012). */

struct sip {
	uint64_t v0, v1, v2, v3;
};

static uint64_t rotate(uint64_t value, int bits)
{
	return value << bits | value >> (64 - bits);
}

static uint64_t load_le(const uint8_t *bytes, size_t len)
{
	uint64_t value = 0;

	for (size_t i = 0; i < len; i++)
		value |= (uint64_t)bytes[i] << (8 * i);
	return value;
}

static inline void sip_round(struct sip *sip)
{
	sip->v0 += sip->v1;
	sip->v1 = rotate(sip->v1, 13) ^ sip->v0;
	sip->v0 = rotate(sip->v0, 32);
	sip->v2 += sip->v3;
	sip->v3 = rotate(sip->v3, 16) ^ sip->v2;
	sip->v0 += sip->v3;
	sip->v3 = rotate(sip->v3, 21) ^ sip->v0;
	sip->v2 += sip->v1;
	sip->v1 = rotate(sip->v1, 17) ^ sip->v2;
	sip->v2 = rotate(sip->v2, 32);
}

static inline void sip_word(struct sip *sip, uint64_t word)
{
	sip->v3 ^= word;
	sip_round(sip);
	sip_round(sip);
	sip->v0 ^= word;
}

uint64_t hash_siphash(const uint8_t key[16], struct span bytes)
{
	uint64_t k0 = load_le(key, 8), k1 = load_le(key + 8, 8);
	struct sip sip = {
		.v0 = k0 ^ 0x736f6d6570736575u,
		.v1 = k1 ^ 0x646f72616e646f6du,
		.v2 = k0 ^ 0x6c7967656e657261u,
		.v3 = k1 ^ 0x7465646279746573u,
	};
	const uint8_t *at = (const uint8_t *)bytes.ptr;
	size_t left = bytes.len;

	for (; left >= 8; left -= 8, at += 8)
		sip_word(&sip, load_le(at, 8));
	sip_word(&sip, (uint64_t)bytes.len << 56 | load_le(at, left));
	sip.v2 ^= 0xff;
	for (int i = 0; i < 4; i++)
		sip_round(&sip);
	return sip.v0 ^ sip.v1 ^ sip.v2 ^ sip.v3;
}

/* Not keyed by chance: an id must be the same after a restart. What is hashed is the operator's
 * text, never a peer's. */
uint64_t hash_id(struct span canonical)
{
	static const uint8_t key[16] = "portcullis ids 1";
	uint64_t id = hash_siphash(key, canonical);

	return id ? id : 1;
}
