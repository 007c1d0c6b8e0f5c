/* limit: how often somebody may ask. */
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
