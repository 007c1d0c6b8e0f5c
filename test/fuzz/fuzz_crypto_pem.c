/* PEM and private keys, as an operator's files hold them (a chain's own target is fuzz_cert_chain).
 * Properties: a block lies in the text and written again reads as the same bytes; the reader always
 * comes forward; a key that is taken is written, read and known again by the same handle; the
 * outcome of a text does not depend on what stands before or behind its blocks. */
#include <string.h>

#include "crypto/crypto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TEXT_MAX = 20000 };
static char der[TEXT_MAX], again_der[TEXT_MAX], text[2 * TEXT_MAX];

static void check_block(const struct crypto_pem_block *block, struct span bytes)
{
	struct writer out = writer_of(text, sizeof(text)), der_out = writer_of(again_der, TEXT_MAX);
	struct crypto_pem_block again;
	char label[64];
	struct span rest;

	if (block->is_encrypted || block->label.len >= sizeof(label) ||
	    memchr(block->label.ptr, '\0', block->label.len))
		return;
	memcpy(label, block->label.ptr, block->label.len);
	label[block->label.len] = '\0';
	crypto_pem_write(&out, label, bytes);
	MUST(out.ok);
	rest = writer_done(&out);
	MUST(crypto_pem_next(&rest, &again, &der_out) == 0);
	MUST(span_equal(again.label, block->label) && !again.is_encrypted && rest.len == 0);
	MUST(span_equal(writer_done(&der_out), bytes));
}

static void check_blocks(struct span all)
{
	struct span rest = all;

	for (;;) {
		struct writer out = writer_of(der, sizeof(der));
		struct span before = rest;
		struct crypto_pem_block block;
		int outcome = crypto_pem_next(&rest, &block, &out);

		MUST(out.ok);
		if (outcome == CRYPTO_PEM_END) {
			MUST(rest.len == 0);
			return;
		}
		MUST(rest.len < before.len);
		MUST(block.label.ptr >= all.ptr &&
		     block.label.ptr + block.label.len <= all.ptr + all.len);
		if (outcome == 0)
			check_block(&block, writer_done(&out));
	}
}

static void check_key(const struct crypto_key *key)
{
	uint8_t hash[CRYPTO_SHA256_SIZE], again_hash[CRYPTO_SHA256_SIZE];
	char pem[CRYPTO_KEY_TEXT_MAX], spki[CRYPTO_KEY_TEXT_MAX];
	struct writer out = writer_of(pem, sizeof(pem)), spki_out = writer_of(spki, sizeof(spki));
	struct crypto_key *again = NULL;
	enum crypto_key_type type;
	unsigned bits;

	MUST(crypto_key_write_pem(key, &out) == 0 && crypto_key_write_spki(key, &spki_out) == 0);
	MUST(crypto_key_parse_pem(writer_done(&out), &again) == 0);
	MUST(crypto_key_spki_hash(key, hash) == 0 && crypto_key_spki_hash(again, again_hash) == 0);
	MUST(memcmp(hash, again_hash, sizeof(hash)) == 0);
	MUST(crypto_spki_inspect(writer_done(&spki_out), &type, &bits) == 0);
	MUST(type == crypto_key_kind(key) && bits == crypto_key_bits(key));
	crypto_key_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span bytes = span_of(data, size);
	struct crypto_key *key = NULL, *padded_key = NULL;
	struct writer padded = writer_of(text, sizeof(text));
	int outcome;

	if (size > TEXT_MAX)
		return -1;
	check_blocks(bytes);
	outcome = crypto_key_parse_pem(bytes, &key);
	MUST(outcome >= 0 && (outcome == 0) == (key != NULL));
	MUST(outcome == 0 || crypto_key_outcome_text(outcome)[0]);
	write_span(&padded, SPAN("# a comment\n\n"));
	write_span(&padded, bytes);
	write_span(&padded, SPAN("\n# another\n"));
	MUST(crypto_key_parse_pem(writer_done(&padded), &padded_key) == outcome);
	if (key)
		check_key(key);
	crypto_key_free(padded_key);
	crypto_key_free(TAKE(key));
	if (crypto_key_parse_der(bytes, &key) == 0) {
		check_key(key);
		crypto_key_free(key);
	}
	return 0;
}
