#include <ares.h>
#include <openssl/ec_key.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/mem.h>
#include <openssl/nid.h>
#include <openssl/rand.h>
#include <openssl/x509.h>

#include "play.h"

/* The library in a world of several processes: each may have hooks of its own for the library's memory (the
 * keyholder has), what is made once belongs to nobody, and the queue of errors is emptied between slices. */

typedef void *(*alloc_function)(size_t size, const char *file, int line);
typedef void *(*resize_function)(void *memory, size_t size, const char *file, int line);
typedef void (*free_function)(void *memory, const char *file, int line);

int __real_CRYPTO_set_mem_functions(alloc_function alloc, resize_function resize,
				    free_function release);
int __wrap_CRYPTO_set_mem_functions(alloc_function alloc, resize_function resize,
				    free_function release);

static struct {
	alloc_function alloc;
	resize_function resize;
	free_function release;
} hooks; /* the same functions in every process that has any */

int __wrap_CRYPTO_set_mem_functions(alloc_function alloc, resize_function resize,
				    free_function release)
{
	hooks.alloc = alloc;
	hooks.resize = resize;
	hooks.release = release;
	return 1;
}

/* AWS-LC does not live through every failed allocation (SSL_set_chain_and_key pushes onto a stack that it could
 * not make, and falls): the traps leave it alone. */
static void *library_alloc(size_t size, const char *file, int line)
{
	void *memory;

	if (os_hook_state())
		return hooks.alloc(size, file, line);
	sim_spare_allocations(true);
	memory = sim_malloc(size);
	sim_spare_allocations(false);
	return memory;
}

static void library_free(void *memory, const char *file, int line)
{
	if (os_hook_state() && memory && !sim_owns(memory))
		hooks.release(memory, file, line);
	else
		sim_free(memory);
}

static void *library_resize(void *memory, size_t size, const char *file, int line)
{
	if (os_hook_state() && (!memory || !sim_owns(memory)))
		return hooks.resize(memory, size, file, line);
	sim_spare_allocations(true);
	memory = sim_realloc(memory, size);
	sim_spare_allocations(false);
	return memory;
}

/* Names are resolved by a library too; its memory is its process's. */
int __wrap_ares_library_init(int flags);

int __wrap_ares_library_init(int flags)
{
	return ares_library_init_mem(flags, sim_malloc, sim_free, sim_realloc);
}

static X509 *certificate_new(EVP_PKEY *key)
{
	X509 *x509 = X509_new();

	X509_set_version(x509, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(x509), 1);
	ASN1_TIME_set_posix(X509_getm_notBefore(x509), 0);
	ASN1_TIME_set_posix(X509_getm_notAfter(x509), 4000000000);
	X509_set_pubkey(x509, key);
	MUST(X509_sign(x509, key, EVP_sha256()) > 0);
	return x509;
}

static EVP_PKEY *key_new(void)
{
	EVP_PKEY *key = EVP_PKEY_new();
	EC_KEY *ec = EC_KEY_new_by_curve_name(NID_X9_62_prime256v1);

	MUST(EC_KEY_generate_key(ec) && EVP_PKEY_assign_EC_KEY(key, ec));
	return key;
}

static void move(SSL *from, SSL *to)
{
	char bytes[32768];
	int len = BIO_read(SSL_get_wbio(from), bytes, sizeof(bytes));

	if (len > 0)
		MUST(BIO_write(SSL_get_rbio(to), bytes, len) == len);
}

static SSL *end_new(SSL_CTX *library)
{
	SSL *ssl = SSL_new(library);

	SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
	BIO_set_mem_eof_return(SSL_get_rbio(ssl), -1);
	return ssl;
}

static void handshake(void)
{
	SSL_CTX *library = SSL_CTX_new(TLS_method());
	EVP_PKEY *key = key_new();
	X509 *x509 = certificate_new(key);
	SSL *client, *server;
	char byte;

	MUST(SSL_CTX_use_certificate(library, x509) && SSL_CTX_use_PrivateKey(library, key));
	client = end_new(library);
	server = end_new(library);
	SSL_set_connect_state(client);
	SSL_set_accept_state(server);
	for (int i = 0; i < 6; i++) {
		(void)SSL_do_handshake(client);
		move(client, server);
		(void)SSL_do_handshake(server);
		move(server, client);
	}
	MUST(SSL_write(client, "a", 1) == 1);
	move(client, server);
	MUST(SSL_read(server, &byte, 1) == 1 && byte == 'a');
	SSL_free(client);
	SSL_free(server);
	X509_free(x509);
	EVP_PKEY_free(key);
	SSL_CTX_free(library);
}

void play_library_switched(void)
{
	ERR_clear_error();
}

void play_library_start(void)
{
	uint8_t byte;

	MUST(__real_CRYPTO_set_mem_functions(library_alloc, library_resize, library_free) == 1);
	CRYPTO_library_init();
	MUST(RAND_bytes(&byte, 1) == 1);
	OPENSSL_PUT_ERROR(SSL, ERR_R_INTERNAL_ERROR); /* its queue of this thread */
	ERR_clear_error();
	handshake();
}
