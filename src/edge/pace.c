/* How fast an answer's body goes to its client: lines `limit bandwidth`. A pump is given what may leave now; where that
 * is less than a piece of time's worth, a timer wakes it when it is. What was sent is paid for afterwards, so that nothing
 * is lost where an answer ends early. */
#include "edge/edge_internal.h"

enum { PIECE_NS = 50 * 1000 * 1000 };

/* A line that concerns this answer: copied, since the snapshot goes before the body has left. */
struct pace_line {
	uint64_t rate; /* bytes a second */
	struct firewall_account account;
	bool is_per_ip;
};
struct exchange_pace {
	struct pace_line lines[SNAPSHOT_BANDWIDTH_LINES_MAX * 2];
	size_t count;
};

static int pace_add(struct exchange *exchange, const struct snapshot_bandwidth_limit *limit)
{
	struct exchange_pace *pace = exchange->pace;
	const struct os_address *client = &exchange->client;
	struct pace_line *line;

	if (!pace)
		pace = exchange->pace = arena_new(&exchange->arena, struct exchange_pace);
	if (!pace)
		return -ENOMEM;
	line = &pace->lines[pace->count];
	/* All that a connection sends moves one time on: of several such lines the slowest holds. */
	for (size_t i = 0; i < pace->count && !limit->is_per_ip; i++) {
		if (!pace->lines[i].is_per_ip)
			line = &pace->lines[i];
	}
	if (line != &pace->lines[pace->count] && line->rate <= limit->rate)
		return 0;
	pace->count += line == &pace->lines[pace->count];
	*line = (struct pace_line){
		.rate = limit->rate,
		.account = { .id = limit->id,
			     .client = firewall_client(client->family, client->ip),
			     .burst_ns = limit->burst_ns },
		.is_per_ip = limit->is_per_ip,
	};
	return 0;
}

int exchange_pace_set(struct exchange *exchange, const struct snapshot_bandwidth_limits *limits,
		      struct span path)
{
	struct conf_address address = edge_conf_address(&exchange->client);

	for (size_t i = 0; i < limits->count; i++) {
		const struct snapshot_bandwidth_limit *limit = &limits->items[i];

		if (snapshot_pattern_matches(&limit->pattern, path) &&
		    snapshot_from_has(&limit->from, &address) && pace_add(exchange, limit))
			return -ENOMEM;
	}
	return 0;
}

/* What was sent takes until so much later than now. */
static uint64_t ahead_ns(const struct exchange *exchange, const struct pace_line *line)
{
	const struct edge *edge = exchange->edge;
	uint64_t until_ns = exchange->connection->paced_until_ns;

	if (line->is_per_ip)
		return firewall_owed(edge->rates, edge->rates_key, &line->account, edge->now_ns);
	return until_ns > edge->now_ns ? until_ns - edge->now_ns : 0;
}

size_t exchange_pace_room(struct exchange *exchange, size_t budget)
{
	const struct exchange_pace *pace = exchange->pace;
	uint64_t wait_ns = 0;

	for (size_t i = 0; i < pace->count; i++) {
		const struct pace_line *line = &pace->lines[i];
		uint64_t piece_ns =
			line->account.burst_ns < PIECE_NS ? line->account.burst_ns : PIECE_NS;
		uint64_t used_ns = ahead_ns(exchange, line), left_ns, bytes;

		if (used_ns + piece_ns > line->account.burst_ns) {
			uint64_t until_ns = used_ns + piece_ns - line->account.burst_ns;

			wait_ns = until_ns > wait_ns ? until_ns : wait_ns;
			continue;
		}
		left_ns = line->account.burst_ns - used_ns;
		if (left_ns > OS_SECOND)
			left_ns = OS_SECOND;
		bytes = left_ns * line->rate / OS_SECOND;
		if (bytes < budget)
			budget = bytes ? (size_t)bytes : 1;
	}
	if (!wait_ns)
		return budget;
	telemetry_count_limit(exchange->edge->counters, TELEMETRY_LIMIT_BANDWIDTH);
	exchange_wake_at(exchange, exchange->edge->now_ns + wait_ns);
	return 0;
}

void exchange_pace_pay(struct exchange *exchange, size_t bytes)
{
	const struct exchange_pace *pace = exchange->pace;
	struct connection *connection = exchange->connection;
	struct edge *edge = exchange->edge;

	for (size_t i = 0; i < pace->count && bytes; i++) {
		const struct pace_line *line = &pace->lines[i];
		uint64_t cost_ns = (bytes * OS_SECOND + line->rate - 1) / line->rate;

		if (line->is_per_ip)
			firewall_pay(edge->rates, edge->rates_key, &line->account, cost_ns,
				     edge->now_ns);
		else if (connection->paced_until_ns > edge->now_ns)
			connection->paced_until_ns += cost_ns;
		else
			connection->paced_until_ns = edge->now_ns + cost_ns;
	}
}
