/* c-ares in the loop. It is set up once, before the sandbox, and never reads a file: servers are told to it,
 * search domains are tried here, hosts are not its business. Its callbacks only note; what follows from them
 * happens when it has returned. */
#include "dial/dial.h"

#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <ares.h>

#include "dial/dial_internal.h"
#include "telemetry/telemetry.h"

enum {
	V6,
	V4,
	FAMILY_COUNT,
	/* A silent server costs this much of the connect timeout before the next one is asked. */
	SERVER_TIMEOUT_MS = 400,
	TRIES = 3,
	/* How long one family's addresses wait for the other's (RFC 8305, 3). */
	OTHER_FAMILY_MS = 50,
	READS_MAX = 32, /* of one socket in one turn */
	QUERY_NAME_MAX = 2 * DIAL_NAME_MAX + 2,
};

struct resolver_socket {
	struct list link;
	struct os_watch watch;
	struct dial_resolver *resolver;
	int fd;
};

struct dial_resolver {
	struct os_loop *loop;
	ares_channel channel;
	struct list sockets, lookups;
	size_t lookup_count; /* forgotten ones too */
	struct os_timer timer;
	char *text; /* of resolv.conf; config points into it */
	size_t text_len;
	struct dial_resolver_config config;
	bool is_noted; /* a callback came */
};

struct dial_lookup {
	struct list link;
	struct dial_resolver *resolver;
	struct span name;
	enum dial_reach reach;
	void (*on_reply)(void *owner, const struct dial_reply *reply);
	void *owner; /* on_reply NULL: forgotten, ends with its queries */
	struct lookup_query {
		struct dial_lookup *lookup;
		bool is_pending, is_noted;
		int status;
	} queries[FAMILY_COUNT];
	size_t candidate; /* which of the names with and without search domains */
	struct os_timer patience;
	struct dial_ips found;
	struct dial_ip refused;
	uint32_t ttl_s;
	bool is_partial_told, is_forbidden, is_impatient;
};

static void resolver_settle(struct dial_resolver *resolver);

/* ---- Sockets and time ---------------------------------------------------------------------------------- */

static struct resolver_socket *socket_find(struct dial_resolver *resolver, int fd)
{
	LIST_EACH(&resolver->sockets, node) {
		if (LIST_ITEM(node, struct resolver_socket, link)->fd == fd)
			return LIST_ITEM(node, struct resolver_socket, link);
	}
	return NULL;
}

/* Told by edges, while c-ares may leave bytes in a TCP socket: it is called until nothing is left. The
 * socket (and this watch) may be gone after any call. */
static void on_socket_ready(struct os_watch *watch, unsigned now)
{
	struct resolver_socket *own = CONTAINER_OF(watch, struct resolver_socket, watch);
	struct dial_resolver *resolver = own->resolver;
	int fd = own->fd;

	if (now & (OS_WRITABLE | OS_ERROR | OS_HANGUP))
		ares_process_fd(resolver->channel, ARES_SOCKET_BAD, fd);
	for (int i = 0; i < READS_MAX && socket_find(resolver, fd); i++) {
		if (os_wait(fd, OS_READABLE, 0))
			break;
		ares_process_fd(resolver->channel, fd, ARES_SOCKET_BAD);
	}
	resolver_settle(resolver);
}

static void on_socket_state(void *data, ares_socket_t fd, int readable, int writable)
{
	struct dial_resolver *resolver = data;
	struct resolver_socket *own = socket_find(resolver, fd);

	if (!readable && !writable) {
		if (!own)
			return;
		os_watch_remove(&own->watch);
		list_remove(&own->link);
		heap_free(own);
		return;
	}
	if (!own) {
		own = heap_alloc(sizeof(*own));
		if (!own)
			return; /* the query ends by its timeout */
		own->resolver = resolver;
		own->fd = fd;
		own->watch.on_ready = on_socket_ready;
		if (os_watch_add(resolver->loop, &own->watch, fd, OS_WATCH_EDGE_READ)) {
			heap_free(own);
			return;
		}
		list_push_back(&resolver->sockets, &own->link);
	}
	/* A further query for a TCP connection that stands is only queued by c-ares: there is room already, and no
	 * edge would tell of it. */
	os_watch_want_room(&own->watch, writable);
}

static void arm_timer(struct dial_resolver *resolver)
{
	struct timeval wait;

	if (!ares_timeout(resolver->channel, NULL, &wait)) {
		os_timer_stop(&resolver->timer);
		return;
	}
	os_timer_set(resolver->loop, &resolver->timer,
		     os_now_ns() + (uint64_t)wait.tv_sec * OS_SECOND +
			     (uint64_t)wait.tv_usec * 1000 + OS_MS);
}

static void on_timer(struct os_timer *timer)
{
	struct dial_resolver *resolver = CONTAINER_OF(timer, struct dial_resolver, timer);

	ares_process_fd(resolver->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	resolver_settle(resolver);
}

/* ---- Answers ------------------------------------------------------------------------------------------- */

/* The last four bytes of the forms in which an IPv6 address is an IPv4 one (RFC 4291, 2.5.5.1; RFC 6052, 2.1); what is
 * mapped became one before. */
static bool holds_v4(const uint8_t ip[16])
{
	static const uint8_t prefixes[][12] = { { 0 }, { 0x00, 0x64, 0xff, 0x9b } };

	return memcmp(ip, prefixes[0], 12) == 0 || memcmp(ip, prefixes[1], 12) == 0;
}

static bool is_loopback(const struct dial_ip *ip)
{
	static const uint8_t v6[16] = { [15] = 1 };

	if (ip->family == OS_FAMILY_V4)
		return ip->ip[0] == 127;
	return memcmp(ip->ip, v6, sizeof(v6)) == 0 || (holds_v4(ip->ip) && ip->ip[12] == 127);
}

/* None, or link-local: a cloud's metadata service above all. */
static bool is_link_local(const struct dial_ip *ip)
{
	static const uint8_t metadata[16] = { 0xfd, 0, 0x0e, 0xc2, [14] = 0x02, [15] = 0x54 };
	const uint8_t *b = ip->ip, *v4 = ip->family == OS_FAMILY_V4 ? b : b + 12;

	if (ip->family == OS_FAMILY_V4 || (holds_v4(b) && !is_loopback(ip)))
		return v4[0] == 0 || (v4[0] == 169 && v4[1] == 254);
	return (b[0] == 0xfe && (b[1] & 0xc0) == 0x80) ||
	       memcmp(b, metadata, sizeof(metadata)) == 0;
}

static bool is_forbidden(const struct dial_ip *ip, enum dial_reach reach)
{
	/* Many at once are nobody's origin. */
	if (ip->ip[0] >= (ip->family == OS_FAMILY_V4 ? 224 : 0xff))
		return true;
	return (is_loopback(ip) && reach == DIAL_REACH_PUBLIC) ||
	       (is_link_local(ip) && reach != DIAL_REACH_ALL);
}

static bool take_node(const struct ares_addrinfo_node *node, struct dial_ip *ret_ip)
{
	struct os_address address = { 0 };
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;

	/* Through os, which makes ::ffff:a.b.c.d what it is. */
	if (node->ai_family == AF_INET && node->ai_addrlen >= sizeof(v4)) {
		memcpy(&v4, node->ai_addr, sizeof(v4));
		memcpy(address.ip, &v4.sin_addr, 4);
		address = os_address_of(OS_FAMILY_V4, address.ip, 0);
	} else if (node->ai_family == AF_INET6 && node->ai_addrlen >= sizeof(v6)) {
		memcpy(&v6, node->ai_addr, sizeof(v6));
		memcpy(address.ip, &v6.sin6_addr, 16);
		address = os_address_of(OS_FAMILY_V6, address.ip, 0);
	} else {
		return false;
	}
	*ret_ip = (struct dial_ip){ .family = address.family };
	memcpy(ret_ip->ip, address.ip, sizeof(ret_ip->ip));
	return true;
}

static void shorten_ttl(struct dial_lookup *lookup, int ttl)
{
	uint32_t ttl_s = ttl < 0 ? 0 : (uint32_t)ttl; /* RFC 2181, 8 */

	if (ttl_s < lookup->ttl_s)
		lookup->ttl_s = ttl_s;
}

static void on_addresses(void *data, int status, int timeouts, struct ares_addrinfo *result)
{
	struct lookup_query *query = data;
	struct dial_lookup *lookup = query->lookup;

	(void)timeouts;
	query->is_pending = false;
	query->is_noted = true;
	query->status = status;
	lookup->resolver->is_noted = true;
	if (!result)
		return;
	for (const struct ares_addrinfo_node *node = result->nodes; node && status == ARES_SUCCESS;
	     node = node->ai_next) {
		struct dial_ip ip;

		if (!take_node(node, &ip))
			continue;
		shorten_ttl(lookup, node->ai_ttl);
		if (is_forbidden(&ip, lookup->reach)) {
			lookup->is_forbidden = true;
			lookup->refused = ip;
			continue;
		}
		dial_ips_add(&lookup->found, &ip);
	}
	for (const struct ares_addrinfo_cname *alias = result->cnames; alias; alias = alias->next)
		shorten_ttl(lookup, alias->ttl);
	ares_freeaddrinfo(result);
}

/* ---- Lookups ------------------------------------------------------------------------------------------- */

/* The n-th name to ask for: with enough dots as it stands and then below the search domains, else the other
 * way round. False: that was all. */
static bool candidate_write(const struct dial_lookup *lookup, char ret_name[QUERY_NAME_MAX])
{
	const struct dial_resolver_config *config = &lookup->resolver->config;
	struct writer writer = writer_of(ret_name, QUERY_NAME_MAX - 1);
	uint32_t dots = 0;
	size_t plain, domain;

	for (size_t i = 0; i < lookup->name.len; i++)
		dots += lookup->name.ptr[i] == '.';
	plain = dots >= config->ndots ? 0 : config->domain_count;
	if (lookup->candidate > config->domain_count)
		return false;
	domain = lookup->candidate - (lookup->candidate > plain);
	write_span(&writer, lookup->name);
	if (lookup->candidate != plain) {
		write_byte(&writer, '.');
		write_span(&writer, config->domains[domain]);
	}
	ret_name[writer_done(&writer).len] = '\0';
	return true;
}

static bool lookup_ask(struct dial_lookup *lookup)
{
	char name[QUERY_NAME_MAX];
	/* NOSORT: else c-ares would connect to each address to see what route there is. */
	struct ares_addrinfo_hints hints = { .ai_flags = ARES_AI_NOSORT,
					     .ai_socktype = SOCK_STREAM };

	if (!candidate_write(lookup, name))
		return false;
	lookup->found.count = 0;
	lookup->found.is_cut = false;
	lookup->ttl_s = (uint32_t)(telemetry_limits[TELEMETRY_LIMIT_DNS_TTL].value / OS_SECOND);
	lookup->is_forbidden = false;
	for (size_t i = 0; i < FAMILY_COUNT; i++) {
		lookup->queries[i].is_pending = true;
		hints.ai_family = i == V6 ? AF_INET6 : AF_INET;
		ares_getaddrinfo(lookup->resolver->channel, name, NULL, &hints, on_addresses,
				 &lookup->queries[i]);
	}
	return true;
}

static void lookup_free(struct dial_lookup *lookup)
{
	os_timer_stop(&lookup->patience);
	lookup->resolver->lookup_count--;
	list_remove(&lookup->link);
	heap_free(lookup);
}

static bool is_absent(int status)
{
	return status == ARES_ENOTFOUND || status == ARES_ENODATA || status == ARES_SUCCESS;
}

static uint8_t failed_family(const struct dial_lookup *lookup)
{
	if (!is_absent(lookup->queries[V6].status))
		return OS_FAMILY_V6;
	return is_absent(lookup->queries[V4].status) ? 0 : OS_FAMILY_V4;
}

static void lookup_tell(struct dial_lookup *lookup, bool is_last, const char *why)
{
	struct dial_reply reply = {
		.ips = why ? NULL : &lookup->found,
		.ttl_s = lookup->ttl_s,
		.is_last = is_last,
		.failed_family = failed_family(lookup),
		.is_forbidden = lookup->is_forbidden,
		.refused = lookup->is_forbidden ? &lookup->refused : NULL,
		.why = why,
	};
	void (*on_reply)(void *, const struct dial_reply *) = lookup->on_reply;

	if (is_last)
		lookup->on_reply = NULL;
	if (on_reply)
		on_reply(lookup->owner, &reply);
}

static const char *why_of(const struct dial_lookup *lookup)
{
	int v6 = lookup->queries[V6].status, v4 = lookup->queries[V4].status;
	int status = is_absent(v4) && !is_absent(v6) ? v6 : v4;

	if (lookup->is_forbidden)
		return "its addresses may not be connected to";
	switch (status) {
	case ARES_ENOTFOUND:
		return "no such name";
	case ARES_SUCCESS:
	case ARES_ENODATA:
		return "the name has no address";
	case ARES_ETIMEOUT:
		return "no name server answered";
	case ARES_ECONNREFUSED: /* c-ares 1.18 says this of a SERVFAIL too */
	case ARES_ESERVFAIL:
	case ARES_EREFUSED:
	case ARES_ENOTIMP:
		return "no name server could say";
	case ARES_EBADRESP:
	case ARES_EFORMERR:
		return "the name server's answer makes no sense";
	case ARES_EBADNAME:
		return "this is no name";
	default:
		return "resolving failed";
	}
}

/* After a note: tells, asks for the next candidate, waits, or ends. */
static void lookup_settle(struct dial_lookup *lookup)
{
	bool is_pending = lookup->queries[V6].is_pending || lookup->queries[V4].is_pending;

	if (is_pending && lookup->found.count) {
		if (lookup->is_impatient && !lookup->is_partial_told) {
			lookup->is_partial_told = true;
			lookup_tell(lookup, false, NULL);
		} else if (!os_timer_is_set(&lookup->patience) && !lookup->is_impatient) {
			os_timer_set(lookup->resolver->loop, &lookup->patience,
				     os_now_ns() + OTHER_FAMILY_MS * OS_MS);
		}
	}
	if (is_pending)
		return;
	if (!lookup->on_reply) {
		lookup_free(lookup);
		return;
	}
	if (!lookup->found.count && !lookup->is_forbidden &&
	    is_absent(lookup->queries[V6].status) && is_absent(lookup->queries[V4].status)) {
		int was[FAMILY_COUNT] = { lookup->queries[V6].status, lookup->queries[V4].status };

		lookup->candidate++;
		if (lookup_ask(lookup))
			return;
		lookup->queries[V6].status = was[V6];
		lookup->queries[V4].status = was[V4];
	}
	lookup_tell(lookup, true, lookup->found.count ? NULL : why_of(lookup));
	lookup_free(lookup);
}

/* Until nothing is noted any more: what a reply brings about may ask again, and c-ares may answer at once. */
static void resolver_settle(struct dial_resolver *resolver)
{
	while (resolver->is_noted) {
		resolver->is_noted = false;
		LIST_EACH(&resolver->lookups, node) {
			struct dial_lookup *lookup = LIST_ITEM(node, struct dial_lookup, link);

			if (!lookup->queries[V6].is_noted && !lookup->queries[V4].is_noted)
				continue;
			lookup->queries[V6].is_noted = lookup->queries[V4].is_noted = false;
			lookup_settle(lookup);
		}
	}
	arm_timer(resolver);
}

static void on_patience(struct os_timer *timer)
{
	struct dial_lookup *lookup = CONTAINER_OF(timer, struct dial_lookup, patience);

	lookup->is_impatient = true;
	lookup_settle(lookup);
}

struct dial_lookup *dial_lookup_start(struct dial_resolver *resolver, struct span name,
				      enum dial_reach reach,
				      void (*on_reply)(void *owner, const struct dial_reply *reply),
				      void *owner)
{
	struct dial_lookup *lookup;

	if (dial_resolver_is_full(resolver))
		return NULL;
	lookup = heap_alloc(sizeof(*lookup));
	if (!lookup)
		return NULL;
	resolver->lookup_count++;
	lookup->resolver = resolver;
	lookup->name = name;
	lookup->reach = reach;
	lookup->on_reply = on_reply;
	lookup->owner = owner;
	lookup->patience.on_due = on_patience;
	lookup->queries[V6].lookup = lookup->queries[V4].lookup = lookup;
	list_push_back(&resolver->lookups, &lookup->link);
	MUST(lookup_ask(lookup)); /* there is always the name itself */
	/* It may have failed at once; that is told from the timer. */
	if (resolver->is_noted)
		os_timer_set(resolver->loop, &resolver->timer, os_loop_now_ns(resolver->loop));
	else
		arm_timer(resolver);
	return lookup;
}

bool dial_resolver_is_full(const struct dial_resolver *resolver)
{
	return resolver->lookup_count >= DIAL_LOOKUPS_MAX;
}

void dial_lookup_forget(struct dial_lookup *lookup)
{
	if (lookup)
		lookup->on_reply = NULL;
}

/* ---- Set up -------------------------------------------------------------------------------------------- */

/* Every value that c-ares would otherwise look for in files or ask the host name for is given here. */
static int channel_new(struct dial_resolver *resolver)
{
	struct in_addr loopback = { .s_addr = htonl(INADDR_LOOPBACK) };
	char lookups[] = "b";
	struct ares_options options = {
		.flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES,
		.timeout = SERVER_TIMEOUT_MS,
		.tries = TRIES,
		.ndots = 1,
		.servers = &loopback,
		.nservers = 1,
		.lookups = lookups,
		.sock_state_cb = on_socket_state,
		.sock_state_cb_data = resolver,
	};
	int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_NDOTS |
		   ARES_OPT_SERVERS | ARES_OPT_DOMAINS | ARES_OPT_LOOKUPS | ARES_OPT_SORTLIST |
		   ARES_OPT_SOCK_STATE_CB | ARES_OPT_NOROTATE;

#ifdef ARES_OPT_QUERY_CACHE
	mask |= ARES_OPT_QUERY_CACHE; /* of no seconds: answers are kept by name.c alone */
#endif
	if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS)
		return -ENOMEM;
	return ares_init_options(&resolver->channel, &options, mask) == ARES_SUCCESS ? 0 : -ENOMEM;
}

int dial_resolver_new(struct os_loop *loop, struct dial_resolver **ret_resolver)
{
	struct dial_resolver *resolver = heap_alloc(sizeof(*resolver));

	if (!resolver)
		return -ENOMEM;
	resolver->loop = loop;
	list_init(&resolver->sockets);
	list_init(&resolver->lookups);
	resolver->timer.on_due = on_timer;
	resolver->config.ndots = 1;
	if (channel_new(resolver)) {
		heap_free(resolver);
		return -ENOMEM;
	}
	*ret_resolver = resolver;
	return 0;
}

void dial_resolver_free(struct dial_resolver *resolver)
{
	if (!resolver)
		return;
	ares_destroy(resolver->channel);
	LIST_EACH(&resolver->lookups, node)
		lookup_free(LIST_ITEM(node, struct dial_lookup, link));
	os_timer_stop(&resolver->timer);
	heap_free(resolver->text);
	heap_free(resolver);
	ares_library_cleanup();
}

/* Their queries were cancelled; the names stay wanted. */
static void lookups_begin_anew(struct dial_resolver *resolver)
{
	LIST_EACH(&resolver->lookups, node) {
		struct dial_lookup *lookup = LIST_ITEM(node, struct dial_lookup, link);

		lookup->queries[V6].is_noted = lookup->queries[V4].is_noted = false;
		lookup->candidate = 0;
		if (!lookup->on_reply)
			lookup_free(lookup);
		else
			MUST(lookup_ask(lookup));
	}
	if (resolver->is_noted)
		os_timer_set(resolver->loop, &resolver->timer, os_loop_now_ns(resolver->loop));
	else
		arm_timer(resolver);
}

static int set_servers(struct dial_resolver *resolver, const struct dial_resolver_config *config)
{
	char text[DIAL_SERVERS_MAX * OS_ADDRESS_TEXT_MAX];
	struct writer writer = writer_of(text, sizeof(text) - 1);

	for (size_t i = 0; i < config->server_count; i++) {
		struct os_address server = config->servers[i];

		if (!server.port)
			server.port = 53;
		if (i)
			write_byte(&writer, ',');
		os_address_write(&server, &writer);
	}
	text[writer_done(&writer).len] = '\0';
	return ares_set_servers_ports_csv(resolver->channel, text) == ARES_SUCCESS ? 0 : -ENOMEM;
}

int dial_resolver_set(struct dial_resolver *resolver, struct span resolv_conf)
{
	struct dial_resolver_config config;
	char *text;
	int failed;

	/* The same again must not disturb lookups under way. */
	if (resolver->text && span_equal(resolv_conf, span_of(resolver->text, resolver->text_len)))
		return 0;
	text = heap_alloc(resolv_conf.len + 1);
	if (!text)
		return -ENOMEM;
	if (resolv_conf.len)
		memcpy(text, resolv_conf.ptr, resolv_conf.len);
	dial_resolver_parse(span_of(text, resolv_conf.len), &config);
	/* Servers may not change below queries. What they say to that is no answer. */
	ares_cancel(resolver->channel);
	resolver->is_noted = false;
	failed = set_servers(resolver, &config);
	if (failed) {
		heap_free(text);
	} else {
		heap_free(resolver->text);
		resolver->text = text;
		resolver->text_len = resolv_conf.len;
		resolver->config = config;
	}
	lookups_begin_anew(resolver);
	return failed;
}
