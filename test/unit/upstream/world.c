#include "world.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static int host_dial(void *host, struct upstream_connection *connection, uint64_t origin_id,
		     uint32_t timeout_ms, uint64_t *ret_question)
{
	struct world *world = host;

	if (world->dial_fails)
		return -ENOMEM;
	assert_null(world->asked);
	assert_true(origin_id >= WORLD_ORIGIN && timeout_ms > 0);
	world->asked = connection;
	*ret_question = ++world->dials;
	return 0;
}

static void host_cancel_dial(void *host, uint64_t question)
{
	struct world *world = host;

	assert_int_equal(question, world->dials);
	world->asked = NULL;
	world->cancels++;
}

static void host_wake(void *host, void *owner_data)
{
	struct owner *owner = owner_data;

	(void)host;
	owner->wakes++;
	owner->is_awake = true;
}

static struct tls_policy *host_tls_policy(void *host, uint64_t ca_id)
{
	(void)ca_id;
	return ((struct world *)host)->policy;
}

static void host_displaced(void *host)
{
	(void)host;
}

static const struct upstream_host host = { host_dial, host_cancel_dial, host_wake, host_tls_policy,
					   host_displaced };

static struct owner *owners[16];

void world_init(struct world *world)
{
	struct upstream_config config = { .host = &host,
					  .host_data = world,
					  .receive_size = sizeof(world->buffer) };

	memset(world, 0, sizeof(*world));
	world->far = -1;
	assert_int_equal(os_start(), 0);
	assert_int_equal(os_loop_new(&world->loop), 0);
	config.loop = world->loop;
	config.receive_buffer = world->buffer;
	assert_int_equal(upstream_new(&config, &world->upstream), 0);
	world->limits =
		(struct upstream_limits){ 2000, 2000, 2000, 3000, 2000, 4000, 64 * 1024, 4, 8 };
	upstream_set_limits(world->upstream, &world->limits);
}

void world_fini(struct world *world)
{
	upstream_free(world->upstream);
	os_loop_free(world->loop);
	os_close(world->far);
}

void owner_read(struct owner *owner)
{
	struct span bytes;
	size_t room = owner->room ? owner->room : WORLD_BUFFER;

	while ((owner->outcome = upstream_fetch_read(&owner->fetch, room, &bytes)) == 0) {
		assert_true(bytes.len > 0 && bytes.len <= room);
		assert_true(owner->body_len + bytes.len <= sizeof(owner->body));
		memcpy(owner->body + owner->body_len, bytes.ptr, bytes.len);
		owner->body_len += bytes.len;
	}
}

static void owner_look(struct owner *owner)
{
	owner->is_awake = false;
	while (owner->fetch.state == UPSTREAM_INTERIM) {
		owner->interims++;
		owner->interim_status = owner->fetch.interim.status;
		upstream_fetch_interim_done(&owner->fetch);
	}
	if (!owner->is_lazy &&
	    (owner->fetch.state == UPSTREAM_HEAD || owner->fetch.state == UPSTREAM_DONE))
		owner_read(owner);
}

static void on_turn(void *world_data)
{
	struct world *world = world_data;

	for (size_t i = 0; i < ARRAY_LEN(owners); i++)
		if (owners[i] && owners[i]->is_awake)
			owner_look(owners[i]);
	upstream_turn_end(world->upstream);
}

void world_turns(struct world *world, int count)
{
	while (count--)
		assert_int_equal(os_loop_turn(world->loop, 0, on_turn, world), 0);
}

void world_wait_ms(struct world *world, int duration_ms)
{
	world_turns(world, 2); /* what has come already came before */
	os_clock_move(duration_ms * (int64_t)OS_MS, 0);
	world_turns(world, 3);
}

struct owner *owner_new(struct world *world, const char *method, const char *target)
{
	struct owner *owner = calloc(1, sizeof(*owner));

	owner->world = world;
	arena_init(&owner->arena, 0);
	http_fields_init(&owner->fields, &owner->arena);
	owner->request = (struct upstream_request){
		.origin_id = WORLD_ORIGIN,
		.method = http_method_of(span_str(method)),
		.method_text = span_str(method),
		.target = span_str(target),
		.host = SPAN("origin.example"),
		.fields = &owner->fields,
		.content_length = -1,
	};
	owner->request.may_retry = http_method_is_idempotent(owner->request.method);
	for (size_t i = 0; i < ARRAY_LEN(owners); i++) {
		if (owners[i])
			continue;
		owners[i] = owner;
		return owner;
	}
	fail();
	return NULL;
}

void owner_free(struct owner *owner)
{
	upstream_fetch_stop(&owner->fetch);
	for (size_t i = 0; i < ARRAY_LEN(owners); i++)
		if (owners[i] == owner)
			owners[i] = NULL;
	arena_fini(&owner->arena);
	free(owner);
}

int owner_start(struct owner *owner)
{
	owner->request.limits = owner->world->limits;
	return upstream_fetch_start(owner->world->upstream, &owner->fetch, &owner->request,
				    &owner->arena, owner);
}

int origin_accept(struct world *world)
{
	return origin_accept_and(world, NULL);
}

int origin_accept_and(struct world *world, const char *last_words)
{
	struct upstream_connection *connection = TAKE(world->asked);
	uint64_t origin;
	uint32_t timeout_ms;
	int fds[2];

	assert_non_null(connection);
	upstream_dial_wanted(connection, &origin, &timeout_ms);
	assert_true(timeout_ms > 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds),
			 0);
	os_close(world->far);
	world->far = fds[1];
	if (last_words) {
		origin_says(world->far, last_words);
		origin_closes(&world->far);
	}
	upstream_dialed(connection, fds[0], 17);
	world_turns(world, 2);
	return world->far;
}

const char *origin_heard(int fd)
{
	static char text[1 << 20];
	size_t len = 0;
	ssize_t n;

	while ((n = os_read(fd, text + len, sizeof(text) - 1 - len)) > 0)
		len += (size_t)n;
	text[len] = '\0';
	return text;
}

void origin_says(int fd, const char *text)
{
	assert_int_equal(os_write_all(fd, text, strlen(text)), 0);
}

void origin_closes(int *fd)
{
	os_close(*fd);
	*fd = -1;
}
