/* Clients that stay with their origin by a cookie: whose it is is found before an origin is chosen, and he is given one
 * with the answer where he has none, or another's. */
#include "edge/edge_internal.h"

enum {
	/* Several of one name may come, of parent domains too; nobody honest sends more. */
	COOKIES_MAX = 4,
	SET_COOKIE_MAX = 512,
};

/* NULL: its clients do not stay, or nobody has given us keys. */
static struct balance_sticky *sticky_of(const struct exchange *exchange)
{
	const struct snapshot *snapshot = exchange->snapshot->snapshot;
	const struct snapshot_upstream *upstream = exchange->route->proxy.upstream;
	struct balance_sticky *sticky;

	if (!upstream->sticky_cookie.len || !exchange->edge->cookies)
		return NULL;
	sticky = &exchange->snapshot->stickies[upstream - snapshot->upstreams];
	return balance_sticky_update(sticky, exchange->edge->cookies) ? sticky : NULL;
}

void exchange_sticky_find(struct exchange *exchange)
{
	const struct balance_sticky *sticky = sticky_of(exchange);
	struct http_cookies walk;
	struct span value;
	int count = 0;

	if (!sticky)
		return;
	http_cookies_init(&walk, &exchange->request->fields,
			  exchange->route->proxy.upstream->sticky_cookie);
	while (count < COOKIES_MAX && http_cookies_next(&walk, &value)) {
		uint32_t member = balance_sticky_find(sticky, value);

		count++;
		if (member == BALANCE_NONE)
			continue;
		exchange->choice.has_own = true;
		exchange->choice.own = member;
		exchange->sticky = value;
		return;
	}
	if (count)
		telemetry_count(exchange->edge->counters, TELEMETRY_COUNTER_STICKY_IGNORED);
}

static struct span set_cookie(struct exchange *exchange, struct span value)
{
	const struct snapshot_upstream *upstream = exchange->route->proxy.upstream;
	char *text = arena_array(&exchange->arena, char, SET_COOKIE_MAX);
	struct writer out = writer_of(text, text ? SET_COOKIE_MAX : 0);

	write_span(&out, upstream->sticky_cookie);
	write_byte(&out, '=');
	write_span(&out, value);
	write_str(&out, "; Path=/");
	if (upstream->sticky_age_s)
		write_format(&out, "; Max-Age=%u", upstream->sticky_age_s);
	if (exchange->hop ? exchange->hop->secure : exchange->connection->is_tls)
		write_str(&out, "; Secure");
	write_str(&out, "; HttpOnly; SameSite=Lax");
	return out.ok ? writer_done(&out) : SPAN_NONE;
}

void exchange_sticky_set(struct exchange *exchange)
{
	const struct balance_sticky *sticky = sticky_of(exchange);
	struct span value, text;

	if (!sticky)
		return;
	if (exchange->choice.has_own && exchange->choice.own != exchange->member)
		telemetry_count(exchange->edge->counters, TELEMETRY_COUNTER_STICKY_MOVED);
	value = balance_sticky_value(sticky, exchange->member);
	if (span_equal(value, exchange->sticky))
		return;
	/* Where there is no room for it the next answer brings it. */
	text = set_cookie(exchange, value);
	if (text.len &&
	    http_fields_add_id(&exchange->response.fields, HTTP_NAME_SET_COOKIE, text) == 0)
		telemetry_count(exchange->edge->counters, TELEMETRY_COUNTER_STICKY_GIVEN);
}
