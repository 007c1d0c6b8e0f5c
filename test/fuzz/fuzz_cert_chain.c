/* The file of `certificate file`: whatever stands in it, it is a chain whose facts agree, or a sentence that is one
 * printable line. The names of what passes are names. */
#include "cert/cert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_printable(struct span text)
{
	for (size_t i = 0; i < text.len; i++)
		MUST(text.ptr[i] >= 0x20 && text.ptr[i] < 0x7f);
}

static void check_chain(struct arena *arena, const struct cert_chain *chain)
{
	char buf[4 * CERT_PEM_MAX];
	struct writer out = writer_of(buf, sizeof(buf));

	MUST(chain->count > 0 && chain->count <= CERT_CHAIN_MAX);
	MUST(chain->chain_not_after_s <= chain->not_after_s);
	check_printable(chain->subject);
	check_printable(chain->issuer);
	check_printable(chain->serial);
	for (size_t i = 0; i < chain->name_count; i++) {
		char name_buf[CERT_HOST_MAX + 1];
		struct writer name = writer_of(name_buf, sizeof(name_buf));
		cert_name_write(&chain->names[i], &name);
		MUST(name.ok && cert_chain_covers(chain, writer_done(&name)));
		check_printable(writer_done(&name));
	}
	/* Written again it is the same chain. */
	for (size_t i = 0; i < chain->count; i++)
		cert_write_pem(chain->certificates[i], &out);
	struct cert_chain again;
	struct span why;
	if (out.ok) {
		MUST(cert_chain_parse(arena, writer_done(&out), &again, &why) == 0);
		MUST(again.count == chain->count && span_equal(again.serial, chain->serial));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cert_chain chain;
	struct span why = SPAN_NONE;
	struct arena arena;

	arena_init(&arena, 0);
	int result = cert_chain_parse(&arena, span_of(data, size), &chain, &why);
	MUST(result >= 0);
	if (result == 0) {
		check_chain(&arena, &chain);
	} else {
		MUST(why.len > 0);
		check_printable(why);
	}
	/* The DER alone, where mutations are not stopped by base64. */
	if (cert_parse(&arena, span_of(data, size), &chain, &why) == 0)
		MUST(cert_chain_validity(&chain, chain.not_before_s) != CERT_NOT_YET_VALID);
	arena_fini(&arena);
	return 0;
}
