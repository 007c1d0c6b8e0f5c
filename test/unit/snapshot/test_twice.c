/* twice: the same text compiled at the same place gives the same bytes: in one process with other
 * things on the heap, and in two processes whose program and heap lie elsewhere. So a snapshot
 * points only into itself. It is large enough to show padding and stray pointers, and fast enough
 * for a reload. */
#include "snapshot/snapshot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { SITES = 500, ROUTES = 20 };

static void *const place = (void *)0x200000000000;
static const size_t place_size = 16 << 20;

static const char head[] =
	"portcullis 1\nstate /s; table t { 10.0.0.0/8 10.1.0.0/16 ::1 ::1 fd00::/8 }; table u { }\n"
	" log access /l/a.json format combined; log events off\n"
	"listen *:443; listen *:80 plain; "
	"listen 127.0.0.1:8080 plain serve { proxy-protocol from <t> }; limits { idle 9s }\n"
	"site www.example.com *.example.com default {\n"
	"trust forwarded from <u> field Forwarded; certificate file /c /k; tls min 1.3; limits { "
	"header 8KB }; alias example.com redirect\n"
	"proxy https://10.0.0.1 unix:/run/x [::1]:80 verify ca /ca host x.example.com upgrade Foo "
	"on /a/*/b*\n"
	"files /srv on /s/*; redirect https://x.test/ 308 on /r; respond 503 \"x\" retry-after "
	"1s\n}\n";

static struct span make_text(struct arena *arena)
{
	static const size_t size = 2 << 20;
	char *text = arena_array(arena, char, size);
	struct writer writer = writer_of(text, size);

	write_str(&writer, head);
	for (int i = 0; i < SITES; i++) {
		write_format(&writer, "site s%d.test {\n", i);
		for (int j = 0; j < ROUTES; j++)
			write_format(&writer, "proxy 10.0.%d.%d:8080 on /r%d/*\n", i / 100, i % 100,
				     j);
		write_str(&writer, "}\n");
	}
	assert_true(writer.ok);
	return writer_done(&writer);
}

static uint64_t hash_memory(size_t size)
{
	return hash_id(span_of(place, size));
}

/* Compiles at the fixed place; the mapping is made and left for the caller to compare. */
static size_t compile_there(size_t noise)
{
	struct snapshot_options options = { .serial = 7, .implied_tls_port = 443 };
	struct arena scratch, arena, other;
	struct conf_errors errors;
	struct conf_tree *tree;
	const struct snapshot *snapshot = NULL;

	void *memory = mmap(place, place_size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	assert_ptr_equal(memory, place);
	arena_init(&other, 0);
	assert_non_null(arena_alloc(&other, noise, 1));
	arena_init(&scratch, 0);
	conf_errors_init(&errors, &scratch);
	assert_int_equal(
		conf_parse(&scratch, SPAN("t.conf"), make_text(&scratch), NULL, &errors, &tree), 0);
	arena_init_fixed(&arena, place, place_size);
	assert_int_equal(snapshot_compile(tree, &options, &arena, &errors, &snapshot), 0);
	assert_ptr_equal(snapshot, place);
	assert_int_equal(snapshot->site_count, SITES + 1);
	size_t size = snapshot->size;
	arena_fini(&arena);
	arena_fini(&scratch);
	arena_fini(&other);
	return size;
}

static void test_same_process(void **state)
{
	(void)state;
	size_t size = compile_there(1);
	uint64_t first = hash_memory(size);
	assert_int_equal(munmap(place, place_size), 0);
	assert_int_equal(compile_there(12345), size);
	assert_int_equal(hash_memory(size), first);
	assert_int_equal(munmap(place, place_size), 0);
	print_message("snapshot of %d sites x %d routes: %zu bytes\n", SITES, ROUTES, size);
}

/* Runs this program again with `personality`; it prints the hash of what it compiled. */
static uint64_t hash_of_child(unsigned long persona)
{
	char text[64] = { 0 };
	int ends[2], status;
	uint64_t hash = 0;

	assert_int_equal(pipe(ends), 0);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		/* Without it where the kernel or a container refuses: then both runs are random. */
		(void)!personality((unsigned)personality(0xffffffff) | persona);
		dup2(ends[1], STDOUT_FILENO);
		execl("/proc/self/exe", "test_twice", "hash", (char *)NULL);
		_exit(9);
	}
	close(ends[1]);
	size_t len = 0;
	for (ssize_t n; (n = read(ends[0], text + len, sizeof(text) - 1 - len)) > 0;)
		len += (size_t)n;
	close(ends[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_true(parse_hex_u64(span_of(text, len), UINT64_MAX, &hash));
	return hash;
}

static void test_other_layout(void **state)
{
	(void)state;
	uint64_t first = hash_of_child(0);
	assert_int_equal(hash_of_child(0), first);
	assert_int_equal(hash_of_child(ADDR_NO_RANDOMIZE), first);
}

/* A snapshot that does not fit is no memory, at every size. */
static void test_no_room(void **state)
{
	static _Alignas(16) char memory[32768];
	static const char text[] = "portcullis 1\nsite a.test { files /x; proxy 80 on /a }\n";
	size_t needed = 0;

	(void)state;
	for (size_t size = 0; size <= sizeof(memory); size += 64) {
		struct snapshot_options options = { .implied_tls_port = 443,
						    .implied_plain_port = 80 };
		struct arena scratch, arena;
		struct conf_errors errors;
		struct conf_tree *tree;
		const struct snapshot *snapshot = NULL;

		arena_init(&scratch, 0);
		conf_errors_init(&errors, &scratch);
		assert_int_equal(
			conf_parse(&scratch, SPAN("t"), span_str(text), NULL, &errors, &tree), 0);
		arena_init_fixed(&arena, memory, size);
		int result = snapshot_compile(tree, &options, &arena, &errors, &snapshot);
		assert_true(result == 0 || result == -ENOMEM);
		if (result == 0 && !needed)
			needed = size;
		assert_true(!needed || result == 0);
		arena_fini(&arena);
		arena_fini(&scratch);
	}
	assert_true(needed > 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_process),
		cmocka_unit_test(test_other_layout),
		cmocka_unit_test(test_no_room),
	};

	if (argc == 2 && strcmp(argv[1], "hash") == 0) {
		size_t size = compile_there((size_t)getpid());
		printf("%llx", (unsigned long long)hash_memory(size));
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
