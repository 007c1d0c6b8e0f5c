/* route: handlers. */
#include "snapshot/snapshot_internal.h"

bool is_handler(const struct conf_statement *statement)
{
	return conf_is(statement, "files") || conf_is(statement, "proxy") ||
	       conf_is(statement, "redirect") || conf_is(statement, "respond") ||
	       conf_is(statement, "metrics") || conf_is(statement, "ready") ||
	       conf_is(statement, "live");
}

void compile_pattern(struct compiler *compiler, const struct conf_statement *statement,
		     struct snapshot_pattern *pattern)
{
	const struct conf_given *on = conf_option(statement, "on");

	pattern->is_prefix = true;
	if (on)
		compile_pattern_text(compiler, on->values[0].text, pattern);
}

void compile_pattern_text(struct compiler *compiler, struct span text,
			  struct snapshot_pattern *pattern)
{
	pattern->is_prefix = span_ends_with(text, SPAN("*"));
	if (pattern->is_prefix)
		text.len--;
	pattern->has_star = span_find_byte(text, '*') < text.len;
	pattern->text = compiler_copy(compiler, text);
}

static void compile_host(struct compiler *compiler, const struct conf_given *given,
			 struct snapshot_proxy *proxy)
{
	static const struct conf_argument host = { .type = CONF_HOST, .name = "NAME" };
	static const struct conf_argument host_port = { .type = CONF_ORIGIN, .name = "NAME" };
	struct conf_value value;
	const char *reason = "", *unused;

	if (!given)
		return;
	const struct conf_word *word = given->values[0].word;
	proxy->host_mode = SNAPSHOT_HOST_NAME;
	if (span_equal(word->text, SPAN("upstream"))) {
		proxy->host_mode = SNAPSHOT_HOST_UPSTREAM;
		return;
	}
	int result =
		conf_value_parse(compiler->scratch, &host, SPAN_NONE, word->text, &value, &reason);
	bool is_name = result == 0 && !span_starts_with(value.text, SPAN("*"));
	if (!is_name && result >= 0) {
		bool is_url = span_find_byte(word->text, '/') < word->text.len ||
			      span_starts_with(word->text, SPAN("unix:"));
		if (is_url || conf_value_parse(compiler->scratch, &host_port, SPAN_NONE, word->text,
					       &value, &unused))
			conf_error_add(compiler->errors, word->place, "`%.*s` is no host: %s",
				       SPAN_ARG(word->text), reason);
	}
	proxy->host_name = compiler_copy(compiler, word->text);
}

static void compile_upgrades(struct compiler *compiler, const struct conf_given *given,
			     struct snapshot_proxy *proxy)
{
	if (!given)
		return;
	struct span *tokens = compiler_array(compiler, struct span, given->value_count);
	for (size_t i = 0; tokens && i < given->value_count; i++) {
		const struct conf_value *value = &given->values[i];

		/* h2c would let a client speak past every check (ARCHITECTURE, one pipeline). */
		if (span_equal_nocase(value->text, SPAN("h2c")))
			conf_error_add(compiler->errors, value->word->place,
				       "h2c is never passed on: its requests would go unseen");
		tokens[i] = compiler_lower(compiler, value->text);
	}
	proxy->upgrades = tokens;
	proxy->upgrade_count = tokens ? given->value_count : 0;
}

static void compile_proxy(struct compiler *compiler, const struct conf_statement *statement,
			  struct snapshot_proxy *proxy)
{
	proxy->upstream = compile_proxy_upstream(compiler, statement);
	compile_host(compiler, conf_option(statement, "host"), proxy);
	compile_upgrades(compiler, conf_option(statement, "upgrade"), proxy);
}

static void compile_redirect(struct compiler *compiler, const struct conf_statement *statement,
			     struct snapshot_redirect *redirect)
{
	uint64_t code = 302;

	if (statement->argument_count > 1)
		code = statement->arguments[1].number;
	if (code > 303 && code < 307)
		conf_error_add(compiler->errors, statement->arguments[1].word->place,
			       "a redirect's code is 301, 302, 303, 307 or 308");
	redirect->url = compiler_copy(compiler, statement->arguments[0].text);
	redirect->code = (uint16_t)code;
}

static void compile_respond(struct compiler *compiler, const struct conf_statement *statement,
			    struct snapshot_respond *respond)
{
	const struct conf_given *retry_after = conf_option(statement, "retry-after");
	const struct conf_value *code = &statement->arguments[0];

	respond->code = (uint16_t)code->number;
	if (code->number == 304)
		conf_error_add(compiler->errors, code->word->place,
			       "304 answers a condition that only the document's keeper knows");
	if (statement->argument_count > 1) {
		respond->has_text = true;
		respond->text = compiler_copy(compiler, statement->arguments[1].text);
		/* RFC 9110, 15.3.5 and 15.3.6: no content. */
		if (respond->text.len && (code->number == 204 || code->number == 205))
			conf_error_add(compiler->errors, statement->arguments[1].word->place,
				       "an answer %u has no text", respond->code);
	}
	if (retry_after)
		respond->retry_after_s =
			(uint32_t)((retry_after->values[0].number + 999999999) / 1000000000);
}

/* Whether anybody but this machine may ask a site. */
static bool is_reachable(const struct compiler *compiler)
{
	for (size_t i = 0; i < compiler->snapshot->listener_count; i++) {
		const struct snapshot_listener *listener = &compiler->listeners[i];

		if ((!listener->is_plain || listener->is_serving) &&
		    !conf_address_is_loopback(&listener->address))
			return true;
	}
	return false;
}

/* With `from` it stands in a block of its own: for all others it is not there, and the next handlers are tried. */
static void compile_metrics(struct compiler *compiler, const struct conf_statement *statement,
			    struct snapshot_route *route)
{
	const struct conf_given *given = conf_option(statement, "from");
	struct snapshot_block *own;

	if (!given)
		given = conf_option(statement, "not");
	if (!given) {
		if ((!route->block || !route->block->from.table) && is_reachable(compiler))
			conf_warning_add(
				compiler->errors, statement->place,
				"whoever asks may read the metrics, which name every site and "
				"upstream: say who may, `metrics from <TABLE>`");
		return;
	}
	if (route->block) {
		conf_error_add(compiler->errors, given->word->place,
			       "here the `route` around it says `from`");
		return;
	}
	own = compiler_array(compiler, struct snapshot_block, 1);
	if (!own)
		return;
	own->id = route->id;
	own->pattern = route->pattern;
	own->place = route->place;
	own->rule = route->rule;
	compile_from(compiler, statement, &own->from);
	route->block = own;
}

void compile_route(struct compiler *compiler, const struct conf_statement *statement,
		   const struct snapshot_site *site, const struct snapshot_block *block,
		   struct snapshot_route *route)
{
	struct span line = conf_canonical(statement, true, compiler->scratch);
	struct span whole =
		arena_format(compiler->scratch, "%016llx %.*s",
			     (unsigned long long)(block ? block->id : site->id), SPAN_ARG(line));

	if (!line.ptr || !whole.ptr) {
		compiler->is_out_of_memory = true;
		return;
	}
	route->id = hash_id(whole);
	route->block = block;
	route->limits = block && block->limits ? block->limits : site->limits;
	route->place = compiler_place(compiler, statement->place);
	route->rule = compiler_rule(compiler, &route->place, statement->row->name);
	compile_pattern(compiler, statement, &route->pattern);
	if (conf_is(statement, "files")) {
		route->handler = SNAPSHOT_FILES;
		route->root = compile_root(compiler, &statement->arguments[0]);
	} else if (conf_is(statement, "proxy")) {
		route->handler = SNAPSHOT_PROXY;
		compile_proxy(compiler, statement, &route->proxy);
	} else if (conf_is(statement, "redirect")) {
		route->handler = SNAPSHOT_REDIRECT;
		compile_redirect(compiler, statement, &route->redirect);
	} else if (conf_is(statement, "metrics")) {
		route->handler = SNAPSHOT_METRICS;
		compile_metrics(compiler, statement, route);
	} else if (conf_is(statement, "ready")) {
		route->handler = SNAPSHOT_READY;
	} else if (conf_is(statement, "live")) {
		route->handler = SNAPSHOT_LIVE;
	} else {
		route->handler = SNAPSHOT_RESPOND;
		compile_respond(compiler, statement, &route->respond);
	}
}
