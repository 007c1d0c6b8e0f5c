#include "tls/tls_internal.h"

#include <string.h>
#include <sys/time.h>

/* Mozilla's intermediate profile 6.0. Inside [|] the client's order counts: it prefers ChaCha20
 * where it has no AES instructions. TLS 1.3 has its three suites without being told. */
static const char suites12[] = "[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305|"
			       "ECDHE-RSA-AES128-GCM-SHA256|ECDHE-RSA-CHACHA20-POLY1305]:"
			       "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384";
static const char groups[] = "X25519MLKEM768:X25519:P-256:P-384";

/* The library asks for the time without saying for whom, so there is nowhere to take ours from. It
 * needs it for nothing but the age of sessions, which tickets carry themselves (ticket.c): for it
 * time stands still. Certificates' dates are verified at wire.now_s. */
static void still_clock(const SSL *ssl, struct timeval *ret_time)
{
	(void)ssl;
	*ret_time = (struct timeval){ .tv_sec = 1 };
}

static int select_alpn(SSL *ssl, const uint8_t **out, uint8_t *out_len, const uint8_t *in,
		       unsigned in_len, void *owner)
{
	const struct tls_policy *policy = owner;
	uint8_t *chosen;

	(void)ssl;
	if (policy->alpn_len == 0)
		return SSL_TLSEXT_ERR_NOACK;
	if (SSL_select_next_proto(&chosen, out_len, policy->alpn, (unsigned)policy->alpn_len, in,
				  in_len) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

static void copy_alpn(struct tls_policy *policy, const struct span *protocols, size_t count)
{
	struct writer out = writer_of(policy->alpn, sizeof(policy->alpn));

	MUST(count <= TLS_ALPN_MAX);
	for (size_t i = 0; i < count; i++) {
		MUST(protocols[i].len > 0 && protocols[i].len < 256);
		write_byte(&out, (char)protocols[i].len);
		write_span(&out, protocols[i]);
	}
	policy->alpn_len = writer_done(&out).len;
}

static bool set_common(SSL_CTX *library, bool tls13_only)
{
	SSL_CTX_set_current_time_cb(library, still_clock);
	SSL_CTX_set_session_cache_mode(library, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_options(library, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
					     SSL_OP_CIPHER_SERVER_PREFERENCE);
	SSL_CTX_set_mode(library,
			 SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_early_data_enabled(library, 0);
	SSL_CTX_set_max_cert_list(library, 64 * 1024);
	SSL_CTX_set_msg_callback(library, session_on_message);
	SSL_CTX_set_info_callback(library, session_on_info);
	return SSL_CTX_set_min_proto_version(library,
					     tls13_only ? TLS1_3_VERSION : TLS1_2_VERSION) &&
	       SSL_CTX_set_max_proto_version(library, TLS1_3_VERSION) &&
	       SSL_CTX_set_strict_cipher_list(library, suites12) &&
	       SSL_CTX_set1_groups_list(library, groups);
}

/* Takes what is refused, too: nothing of a half-made policy is left. */
static int finish(struct tls_policy *policy, int outcome, struct tls_policy **ret_policy)
{
	ERR_clear_error();
	if (outcome != 0)
		tls_policy_free(policy);
	else
		*ret_policy = policy;
	return outcome;
}

int tls_policy_new(const struct tls_policy_config *config, struct tls_policy **ret_policy)
{
	struct tls_policy *policy = heap_alloc(sizeof(*policy));

	if (!policy)
		return -ENOMEM;
	policy->references = 1;
	policy->id = config->id;
	policy->tickets = config->tickets;
	policy->ticket_accept_s =
		config->ticket_accept_s > 0 ? config->ticket_accept_s : TICKET_ACCEPT_DEFAULT_S;
	if (policy->ticket_accept_s > TICKET_ACCEPT_MAX_S)
		policy->ticket_accept_s = TICKET_ACCEPT_MAX_S;
	copy_alpn(policy, config->alpn, config->alpn_count);
	/* Without X.509 objects: our own chain is bytes, and is not parsed for each connection. */
	policy->library = SSL_CTX_new(TLS_with_buffers_method());
	if (!policy->library || !set_common(policy->library, config->tls13_only))
		return finish(policy, -ENOMEM, ret_policy);
	SSL_CTX_set_alpn_select_cb(policy->library, select_alpn, policy);
	SSL_CTX_set_num_tickets(policy->library, 1);
	SSL_CTX_set_ticket_aead_method(policy->library, &ticket_method);
	SSL_CTX_set_session_psk_dhe_timeout(policy->library, (uint32_t)policy->ticket_accept_s);
	if (!SSL_CTX_set_session_id_context(policy->library, (const uint8_t *)&policy->id,
					    sizeof(policy->id)))
		return finish(policy, -ENOMEM, ret_policy);
	return finish(policy, 0, ret_policy);
}

/* How many certificates of the text became anchors, or -ENOMEM. */
static int add_roots(X509_STORE *store, struct span pem)
{
	BIO *text = BIO_new_mem_buf(pem.ptr, (ossl_ssize_t)pem.len);
	int count = 0;

	if (!text)
		return -ENOMEM;
	for (;;) {
		X509 *root = PEM_read_bio_X509(text, NULL, NULL, NULL);

		if (root) {
			count += X509_STORE_add_cert(store, root);
			X509_free(root);
			continue;
		}
		if (ERR_GET_LIB(ERR_peek_last_error()) == ERR_LIB_PEM &&
		    ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE)
			break; /* the end; any other fault is one certificate that is left out */
		ERR_clear_error();
		if (BIO_eof(text))
			break;
	}
	BIO_free(text);
	ERR_clear_error();
	return count;
}

static int set_roots(SSL_CTX *library, const struct span *roots, size_t root_count)
{
	int total = 0;

	for (size_t i = 0; i < root_count; i++) {
		int count = add_roots(SSL_CTX_get_cert_store(library), roots[i]);

		if (count < 0)
			return count;
		total += count;
	}
	return root_count > 0 && total == 0 ? TLS_POLICY_NO_ROOTS : 0;
}

int tls_client_policy_new(const struct tls_client_policy_config *config,
			  struct tls_policy **ret_policy)
{
	struct tls_policy *policy = heap_alloc(sizeof(*policy));
	X509_VERIFY_PARAM *param;
	int outcome;

	if (!policy)
		return -ENOMEM;
	policy->references = 1;
	policy->is_client = true;
	copy_alpn(policy, config->alpn, config->alpn_count);
	policy->library = SSL_CTX_new(TLS_method());
	if (!policy->library || !set_common(policy->library, config->tls13_only))
		return finish(policy, -ENOMEM, ret_policy);
	SSL_CTX_set_verify(policy->library, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_cert_verify_callback(policy->library, session_on_verify, NULL);
	SSL_CTX_set_options(policy->library, SSL_OP_NO_TICKET);
	param = SSL_CTX_get0_param(policy->library);
	X509_VERIFY_PARAM_set_depth(param, ORIGIN_CHAIN_MAX);
	/* What an operator calls `ca` is an anchor, self-signed or not. */
	X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_PARTIAL_CHAIN);
	/* 0 is this function's success. */
	if (policy->alpn_len &&
	    SSL_CTX_set_alpn_protos(policy->library, policy->alpn, policy->alpn_len) != 0)
		return finish(policy, -ENOMEM, ret_policy);
	outcome = set_roots(policy->library, config->roots, config->root_count);
	return finish(policy, outcome, ret_policy);
}

struct tls_policy *policy_ref(struct tls_policy *policy)
{
	policy->references++;
	return policy;
}

void tls_policy_free(struct tls_policy *policy)
{
	if (!policy || --policy->references > 0)
		return;
	SSL_CTX_free(policy->library);
	heap_free(policy);
}

uint64_t tls_policy_id(const struct tls_policy *policy)
{
	return policy->id;
}
