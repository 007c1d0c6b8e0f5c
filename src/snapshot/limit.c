/* limit: how often somebody may ask, and how much he may have at a time. */
#include "snapshot/snapshot_internal.h"

/* draft-ietf-httpapi-ratelimit-headers-09: what is at once is the quota, the time in which all of it comes back the
 * window. */
static void write_policy(struct compiler *compiler, const struct conf_value *value, uint64_t burst,
			 struct snapshot_request_limit *limit)
{
	uint64_t window_ns = limit->rate.depth * FIREWALL_TICK_NS, second = 1000000000;
	struct span text = arena_format(compiler->scratch, "\"%.*s\";q=%llu;w=%llu",
					SPAN_ARG(value->word->text), (unsigned long long)burst,
					(unsigned long long)((window_ns + second / 2) / second));

	if (!text.ptr)
		compiler->is_out_of_memory = true;
	limit->policy = compiler_copy(compiler, text);
	limit->policy_name_len = span_find_byte(text, ';');
	/* Rounded to nothing: the draft wants a positive number. */
	if (span_ends_with(text, SPAN("w=0")))
		limit->policy.len -= sizeof(";w=0") - 1;
}

static void set_rate(struct compiler *compiler, const struct conf_statement *statement, uint64_t id,
		     struct snapshot_request_limit *limit)
{
	const struct conf_value *value = &statement->arguments[0];
	const struct conf_given *given = conf_option(statement, "burst");
	const struct conf_word *word = given ? given->values[0].word : value->word;
	uint64_t burst = given ? given->values[0].number : value->number;
	uint64_t most = firewall_rate_burst_max(value->number, value->period_ns);

	if (firewall_rate_init(&limit->rate, id, value->number, value->period_ns, burst)) {
		write_policy(compiler, value, burst, limit);
		return;
	}
	if (given && most && burst > most)
		conf_error_add(compiler->errors, word->place,
			       "a burst is what comes back within a day: at %.*s at most %llu",
			       SPAN_ARG(value->word->text), (unsigned long long)most);
	else
		conf_error_add(compiler->errors, value->word->place,
			       "a rate is 100000/s at most: `%.*s`", SPAN_ARG(value->word->text));
}

static void compile_request_limit(struct compiler *compiler, const struct conf_statement *statement,
				  uint64_t owner, struct snapshot_request_limit *limit)
{
	struct snapshot_place place = compiler_place(compiler, statement->place);
	struct span line = conf_canonical(statement, false, compiler->scratch);
	struct span whole = arena_format(compiler->scratch, "%016llx %.*s",
					 (unsigned long long)owner, SPAN_ARG(line));

	if (!line.ptr || !whole.ptr) {
		compiler->is_out_of_memory = true;
		return;
	}
	limit->rule = compiler_rule(compiler, &place, line.ptr);
	limit->is_per_ip = conf_option(statement, "per");
	compile_pattern(compiler, statement, &limit->pattern);
	compile_from(compiler, statement, &limit->from);
	set_rate(compiler, statement, hash_id(whole), limit);
}

void compile_request_limits(struct compiler *compiler, const struct conf_statement *block,
			    uint64_t owner, const struct snapshot_request_limit **ret_limits,
			    size_t *ret_count)
{
	struct snapshot_request_limit *limits;
	size_t count = 0;

	for (const struct conf_statement *s = block->first; s; s = s->next)
		count += conf_is(s, "limit requests");
	limits = compiler_array(compiler, struct snapshot_request_limit, count);
	if (!limits)
		return;
	*ret_limits = limits;
	*ret_count = count;
	for (const struct conf_statement *s = block->first; s; s = s->next) {
		if (!conf_is(s, "limit requests"))
			continue;
		for (const struct conf_statement *e = block->first; e != s; e = e->next) {
			struct span a = conf_canonical(s, false, compiler->scratch), b = SPAN_NONE;

			if (conf_is(e, "limit requests"))
				b = conf_canonical(e, false, compiler->scratch);
			if (b.len && span_equal(a, b))
				conf_error_add(compiler->errors, s->place,
					       "this limit stands twice here")
					->other = e->place;
		}
		compile_request_limit(compiler, s, owner, limits++);
	}
}

/* ---- Bandwidth ----------------------------------------------------------------------------------------- */

static void compile_bandwidth_limit(struct compiler *compiler,
				    const struct conf_statement *statement, struct span id,
				    struct snapshot_bandwidth_limit *limit)
{
	const uint64_t second = 1000000000, day_s = 86400;
	const struct conf_given *given = conf_option(statement, "burst");
	const struct conf_given *per = conf_option(statement, "per");
	const struct conf_value *value = &statement->arguments[0];
	uint64_t burst = given ? given->values[0].number : value->number / 5;

	limit->id = hash_id(id);
	limit->rate = value->number;
	compile_pattern(compiler, statement, &limit->pattern);
	compile_from(compiler, statement, &limit->from);
	if (!per)
		conf_error_add(compiler->errors, statement->place,
			       "say whose bandwidth: `per connection` or `per ip`");
	else
		limit->is_per_ip = per->values[0].number == 1;
	if (burst / value->number >= day_s) {
		conf_error_add(compiler->errors, given->values[0].word->place,
			       "a burst is what comes back within a day: at %.*s less than %lluGB",
			       SPAN_ARG(value->word->text),
			       (unsigned long long)((value->number * day_s >> 30) + 1));
		return;
	}
	limit->burst_ns =
		burst / value->number * second + burst % value->number * second / value->number;
	if (!limit->burst_ns)
		limit->burst_ns = 1;
}

void compile_bandwidth_limits(struct compiler *compiler, const struct conf_statement *block,
			      uint64_t owner, struct snapshot_bandwidth_limits *ret_limits)
{
	struct snapshot_bandwidth_limit *limits;
	size_t count = 0, done = 0;

	for (const struct conf_statement *s = block->first; s; s = s->next) {
		if (conf_is(s, "limit bandwidth") && ++count == SNAPSHOT_BANDWIDTH_LINES_MAX + 1)
			conf_error_add(compiler->errors, s->place,
				       "at most %d such lines stand in one block",
				       SNAPSHOT_BANDWIDTH_LINES_MAX);
	}
	limits = compiler_array(compiler, struct snapshot_bandwidth_limit, count);
	if (!limits || count > SNAPSHOT_BANDWIDTH_LINES_MAX)
		return;
	for (const struct conf_statement *s = block->first; s; s = s->next) {
		struct span line, whole;

		if (!conf_is(s, "limit bandwidth"))
			continue;
		line = conf_canonical(s, false, compiler->scratch);
		whole = arena_format(compiler->scratch, "%016llx %.*s", (unsigned long long)owner,
				     SPAN_ARG(line));
		if (!line.ptr || !whole.ptr) {
			compiler->is_out_of_memory = true;
			return;
		}
		compile_bandwidth_limit(compiler, s, whole, &limits[done]);
		for (size_t i = 0; i < done; i++) {
			if (limits[i].id == limits[done].id)
				conf_error_add(compiler->errors, s->place,
					       "this limit stands twice here");
		}
		done++;
	}
	*ret_limits = (struct snapshot_bandwidth_limits){ limits, count };
}

/* ---- Connections --------------------------------------------------------------------------------------- */

/* Without the number: a line that lets more or fewer pass goes on from what is there. */
static uint64_t connection_limit_id(struct compiler *compiler,
				    const struct conf_statement *statement, uint64_t owner,
				    const struct snapshot_connection_limit *limit)
{
	const struct conf_given *on = conf_option(statement, "on");
	const struct snapshot_table *table = limit->from.table;
	struct span whole = arena_format(
		compiler->scratch, "connections %016llx %d %d %.*s %.*s", (unsigned long long)owner,
		limit->is_per_ip, limit->from.is_not, SPAN_ARG(on ? on->values[0].text : SPAN("*")),
		SPAN_ARG(table ? table->name : SPAN("*")));

	if (whole.ptr)
		return hash_id(whole);
	compiler->is_out_of_memory = true;
	return 0;
}

static void compile_connection_limit(struct compiler *compiler,
				     const struct conf_statement *statement, uint64_t owner,
				     struct snapshot_connection_limit *limit)
{
	struct snapshot_place place = compiler_place(compiler, statement->place);
	struct span line = conf_canonical(statement, false, compiler->scratch);

	if (!line.ptr) {
		compiler->is_out_of_memory = true;
		return;
	}
	limit->most = statement->arguments[0].number;
	limit->rule = compiler_rule(compiler, &place, line.ptr);
	limit->is_per_ip = conf_option(statement, "per");
	compile_pattern(compiler, statement, &limit->pattern);
	compile_from(compiler, statement, &limit->from);
	limit->id = connection_limit_id(compiler, statement, owner, limit);
}

void compile_connection_limits(struct compiler *compiler, const struct conf_statement *block,
			       uint64_t owner, struct snapshot_connection_limits *ret_limits)
{
	const struct conf_statement **lines;
	struct snapshot_connection_limit *limits;
	size_t count = 0, done = 0;

	for (const struct conf_statement *s = block->first; s; s = s->next)
		count += conf_is(s, "limit connections");
	limits = compiler_array(compiler, struct snapshot_connection_limit, count);
	lines = arena_array(compiler->scratch, const struct conf_statement *, count + 1);
	if (!count || !limits || !lines)
		return;
	for (const struct conf_statement *s = block->first; s; s = s->next) {
		if (!conf_is(s, "limit connections"))
			continue;
		compile_connection_limit(compiler, s, owner, &limits[done]);
		for (size_t i = 0; i < done; i++) {
			if (limits[i].id == limits[done].id)
				conf_error_add(compiler->errors, s->place,
					       "this limit stands twice here")
					->other = lines[i]->place;
		}
		lines[done++] = s;
	}
	*ret_limits = (struct snapshot_connection_limits){ limits, count };
	compiler->snapshot->counts_connections = true;
}

void compile_firewall(struct compiler *compiler, const struct conf_statement *block)
{
	size_t count = 0;

	for (const struct conf_statement *s = block->first; s; s = s->next) {
		const struct conf_given *on = conf_option(s, "on");

		if (on)
			conf_error_add(compiler->errors, on->word->place,
				       "a connection has no path yet: limits of a path stand in "
				       "their site");
		if (conf_is(s, "limit connections") && ++count == SNAPSHOT_GATE_LIMITS_MAX + 1)
			conf_error_add(compiler->errors, s->place,
				       "at most %d such lines stand in `firewall`",
				       SNAPSHOT_GATE_LIMITS_MAX);
	}
	if (count <= SNAPSHOT_GATE_LIMITS_MAX)
		compile_connection_limits(compiler, block, 0, &compiler->snapshot->gate);
}
