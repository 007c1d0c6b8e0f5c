/* site: names, certificates, policy, limits and the order of its routes. */
#include "snapshot/snapshot_internal.h"

#include <string.h>

static void compile_names(struct compiler *compiler, const struct conf_statement *statement,
			  struct snapshot_site *site)
{
	size_t max = statement->argument_count;

	for (const struct conf_statement *inner = statement->first; inner; inner = inner->next)
		max += conf_is(inner, "alias");
	struct span *names = compiler_array(compiler, struct span, max);
	if (!names)
		return;
	site->names = names;
	for (size_t i = 0; i < statement->argument_count; i++) {
		if (compile_name(compiler, &statement->arguments[i], site, false,
				 &names[site->name_count]))
			site->name_count++;
	}
	for (const struct conf_statement *inner = statement->first; inner; inner = inner->next) {
		if (!conf_is(inner, "alias"))
			continue;
		bool is_redirect = conf_option(inner, "redirect");
		if (is_redirect && site->name_count && span_starts_with(names[0], SPAN("*")))
			conf_error_add(compiler->errors, inner->place,
				       "`redirect` needs a site whose first name is no wildcard");
		if (compile_name(compiler, &inner->arguments[0], site, is_redirect,
				 &names[site->name_count]))
			site->name_count++;
	}
}

static const struct conf_word *first_public_name(const struct conf_statement *statement)
{
	for (size_t i = 0; i < statement->argument_count; i++) {
		if (!snapshot_name_is_internal(statement->arguments[i].text))
			return statement->arguments[i].word;
	}
	for (const struct conf_statement *inner = statement->first; inner; inner = inner->next) {
		if (conf_is(inner, "alias") && !snapshot_name_is_internal(inner->arguments[0].text))
			return inner->arguments[0].word;
	}
	return NULL;
}

static bool is_faulty_certificate(const struct conf_statement *statement)
{
	return !statement->row && span_equal(statement->words[0].text, SPAN("certificate"));
}

static void require_certificate(struct compiler *compiler, const struct conf_statement *statement,
				const struct conf_word *name)
{
	for (const struct conf_statement *inner = statement->first; inner; inner = inner->next) {
		if (is_faulty_certificate(inner))
			return; /* reported where it stands */
	}
	conf_error_add(compiler->errors, name->place,
		       "`%.*s` needs certificate file CERT KEY (or certificate internal): this "
		       "version orders "
		       "none from a public CA",
		       SPAN_ARG(name->text));
	compiler->missing_certificates++;
}

static void compile_certificates(struct compiler *compiler, const struct conf_statement *statement,
				 struct snapshot_site *site)
{
	size_t max = 1;

	for (const struct conf_statement *inner = statement->first; inner; inner = inner->next)
		max += conf_is(inner, "certificate file");
	const struct snapshot_certificate **certificates =
		compiler_array(compiler, const struct snapshot_certificate *, max);
	if (!certificates)
		return;
	site->certificates = certificates;
	for (const struct conf_statement *inner = statement->first; inner; inner = inner->next) {
		const struct snapshot_certificate *certificate = NULL;

		if (conf_is(inner, "certificate file"))
			certificate = compile_certificate_file(compiler, inner);
		else if (conf_is(inner, "certificate internal"))
			certificate = compile_certificate_internal(compiler, site, inner->place);
		else
			continue;
		for (size_t i = 0; i < site->certificate_count; i++) {
			if (certificates[i] == certificate)
				conf_error_add(compiler->errors, inner->place,
					       "this certificate stands twice in this site");
		}
		if (site->certificate_count < max)
			certificates[site->certificate_count++] = certificate;
	}
	if (site->certificate_count || !compiler->has_tls_listener)
		return;
	const struct conf_word *public_name = first_public_name(statement);
	if (public_name)
		require_certificate(compiler, statement, public_name);
	else
		certificates[site->certificate_count++] =
			compile_certificate_internal(compiler, site, statement->place);
}

static void compile_limits(struct compiler *compiler, const struct conf_statement *statement,
			   struct snapshot_site *site)
{
	size_t max = 0;

	site->limits = &compiler->snapshot->limits;
	for (const struct conf_statement *inner = statement->first; inner; inner = inner->next) {
		if (!conf_is(inner, "limits"))
			continue;
		compiler_check_limits(compiler, statement->first, inner);
		max += conf_option(inner, "on") != NULL;
		struct snapshot_limits *limits =
			conf_option(inner, "on")
				? NULL
				: compiler_array(compiler, struct snapshot_limits, 1);
		if (!limits)
			continue;
		*limits = compiler->snapshot->limits;
		compiler_limits(compiler, inner, limits);
		site->limits = limits;
	}
	/* Now that the site's own are known, wherever they stand. */
	struct snapshot_path_limits *rows =
		compiler_array(compiler, struct snapshot_path_limits, max);
	site->path_limits = rows;
	for (const struct conf_statement *inner = statement->first; rows && inner;
	     inner = inner->next) {
		if (!conf_is(inner, "limits") || !conf_option(inner, "on"))
			continue;
		struct snapshot_path_limits *row = &rows[site->path_limit_count++];
		row->limits = *site->limits;
		compile_pattern(compiler, inner, &row->pattern);
		compiler_limits(compiler, inner, &row->limits);
	}
}

static enum snapshot_trace trace_of(struct span word)
{
	if (span_equal(word, SPAN("off")))
		return SNAPSHOT_TRACE_OFF;
	return span_equal(word, SPAN("pass")) ? SNAPSHOT_TRACE_PASS : SNAPSHOT_TRACE_BEGIN;
}

static void compile_settings(struct compiler *compiler, const struct conf_statement *statement,
			     struct snapshot_site *site)
{
	uint16_t min_version = 0x0303;

	compile_limits(compiler, statement, site);
	for (const struct conf_statement *inner = statement->first; inner; inner = inner->next) {
		if (conf_is(inner, "trust forwarded"))
			site->trust = compile_trust(compiler, inner);
		if (conf_is(inner, "traceparent"))
			site->trace = trace_of(inner->arguments[0].text);
		if (conf_is(inner, "tls min") && inner->arguments[0].number == 1)
			min_version = 0x0304;
	}
	site->policy = compile_policy(compiler, min_version);
	compile_error_pages(compiler, statement, &site->error_pages);
	compile_request_limits(compiler, statement, site->id, &site->request_limits,
			       &site->request_limit_count);
	compile_connection_limits(compiler, statement, site->id, &site->connection_limits);
	compile_bandwidth_limits(compiler, statement, site->id, &site->bandwidth_limits);
}

/* True where every path of `later` is one of `earlier` too. */
static bool covers(const struct snapshot_pattern *earlier, const struct snapshot_pattern *later)
{
	if (earlier->has_star)
		return false;
	if (earlier->is_prefix)
		return span_starts_with(later->text, earlier->text);
	return !later->is_prefix && !later->has_star && span_equal(earlier->text, later->text);
}

static const struct snapshot_upstream *sticky_of(const struct snapshot_route *route)
{
	const struct snapshot_upstream *upstream =
		route->handler == SNAPSHOT_PROXY ? route->proxy.upstream : NULL;

	return upstream && upstream->sticky_cookie.len ? upstream : NULL;
}

/* Two upstreams of one site with one cookie would take their clients from each other, answer by answer. */
static void check_sticky(struct compiler *compiler, const struct conf_statement *statement,
			 const struct snapshot_site *site, const struct snapshot_route *route)
{
	const struct snapshot_upstream *mine = sticky_of(route);

	for (size_t i = 0; mine && i < site->route_count; i++) {
		const struct snapshot_upstream *other = sticky_of(&site->routes[i]);

		if (!other || other == mine ||
		    !span_equal(other->sticky_cookie, mine->sticky_cookie))
			continue;
		conf_error_add(
			compiler->errors, statement->place,
			"line %u of this site has a cookie `%.*s` for another upstream: in its "
			"block write `sticky cookie NAME`",
			site->routes[i].place.line, SPAN_ARG(mine->sticky_cookie));
		return;
	}
}

static bool is_conditional(const struct snapshot_block *block)
{
	return block && (block->method_count || block->header_name.len || block->query_name.len ||
			 block->from.table);
}

/* Between blocks and what stands in none; within a block its handlers alone. */
static void warn_of_unreached(struct compiler *compiler, struct conf_place place,
			      const struct snapshot_site *site,
			      const struct snapshot_pattern *pattern,
			      const struct snapshot_block *within)
{
	for (size_t i = 0; i < site->route_count; i++) {
		const struct snapshot_route *other = &site->routes[i];
		bool is_block = !within && other->block;

		if ((within && other->block != within) ||
		    (is_block && is_conditional(other->block)) ||
		    !covers(is_block ? &other->block->pattern : &other->pattern, pattern))
			continue;
		conf_warning_add(compiler->errors, place,
				 "never reached: line %u takes all of its requests",
				 is_block ? other->block->place.line : other->place.line);
		return;
	}
}

static size_t count_handlers(const struct conf_statement *block)
{
	size_t count = 0;

	for (const struct conf_statement *inner = block->first; inner; inner = inner->next) {
		if (conf_is(inner, "route"))
			count += count_handlers(inner);
		count += is_handler(inner);
	}
	return count;
}

static void compile_handlers(struct compiler *compiler, const struct conf_statement *statement,
			     struct snapshot_site *site, const struct snapshot_block *block,
			     struct snapshot_route *routes);

static void compile_inside(struct compiler *compiler, const struct conf_statement *statement,
			   struct snapshot_site *site, struct snapshot_route *routes)
{
	const struct snapshot_block *block = compile_block(compiler, statement, site);

	if (!block)
		return;
	warn_of_unreached(compiler, statement->place, site, &block->pattern, NULL);
	if (!count_handlers(statement) && !compiler->errors->error_count)
		conf_error_add(compiler->errors, statement->place,
			       "this route has no handler: files, proxy, redirect or respond");
	compile_handlers(compiler, statement, site, block, routes);
}

static void compile_handlers(struct compiler *compiler, const struct conf_statement *statement,
			     struct snapshot_site *site, const struct snapshot_block *block,
			     struct snapshot_route *routes)
{
	for (const struct conf_statement *inner = statement->first; inner; inner = inner->next) {
		if (conf_is(inner, "route"))
			compile_inside(compiler, inner, site, routes);
		if (!is_handler(inner))
			continue;
		struct snapshot_route *route = &routes[site->route_count];
		compile_route(compiler, inner, site, block, route);
		check_sticky(compiler, inner, site, route);
		warn_of_unreached(compiler, inner->place, site, &route->pattern, block);
		site->route_count++;
	}
}

static void compile_routes(struct compiler *compiler, const struct conf_statement *statement,
			   struct snapshot_site *site)
{
	size_t max = count_handlers(statement);
	struct snapshot_route *routes = compiler_array(compiler, struct snapshot_route, max);

	site->routes = routes;
	if (!compiler->is_out_of_memory)
		compile_handlers(compiler, statement, site, NULL, routes);
	/* A handler that was misspelt is reported where it stands. */
	if (!max && !compiler->errors->error_count)
		conf_warning_add(compiler->errors, statement->place,
				 "this site serves nothing: every request gets 404");
}

void compile_site(struct compiler *compiler, const struct conf_statement *statement)
{
	struct snapshot_site *site = &compiler->sites[compiler->snapshot->site_count++];

	site->place = compiler_place(compiler, statement->place);
	site->rule = compiler_rule(compiler, &site->place, "site");
	compile_names(compiler, statement, site);
	if (site->name_count) {
		struct span line =
			arena_format(compiler->scratch, "site %.*s", SPAN_ARG(site->names[0]));
		if (!line.ptr)
			compiler->is_out_of_memory = true;
		site->id = hash_id(line);
	}
	site->is_default = conf_option(statement, "default");
	if (site->is_default && compiler->default_site) {
		conf_error_add(compiler->errors, conf_option(statement, "default")->word->place,
			       "one site is the default")
			->other = conf_option(compiler->default_site, "default")->word->place;
	} else if (site->is_default) {
		compiler->default_site = statement;
		compiler->snapshot->default_site = site;
	}
	compile_settings(compiler, statement, site);
	compile_certificates(compiler, statement, site);
	compile_routes(compiler, statement, site);
}
