/* snapshot_internal: the compiler, shared by the files of snapshot. Only they include it. */
#pragma once

#include "snapshot/snapshot.h"

/* Where a name was first written, so that a second one can name both lines. In scratch. */
struct name_use {
	struct conf_place place;
	struct snapshot_name row;
	bool is_wildcard;
};

/* Arrays are made once, as large as they could get, because rows point into them. */
struct compiler {
	const struct conf_tree *tree;
	const struct snapshot_options *options;
	struct arena *arena;   /* the snapshot's */
	struct arena *scratch; /* the tree's */
	struct conf_errors *errors;
	struct snapshot *snapshot;
	struct snapshot_table *tables;
	struct snapshot_listener *listeners;
	struct snapshot_site *sites;
	struct snapshot_tls_policy *policies;
	struct snapshot_certificate *certificates;
	struct snapshot_root *roots;
	struct snapshot_origin *origins;
	struct snapshot_upstream *upstreams;
	struct snapshot_ca *cas;
	struct span *file_names; /* by index of tree->files; empty until a place needs it */
	struct map ids;   /* id → row of any of the arrays; ids of different kinds differ by their
			     text */
	struct map names; /* hash of the name → struct name_use */
	struct name_use **name_uses;
	size_t name_use_count;
	const struct conf_statement *default_site;
	size_t missing_certificates; /* errors of that kind */
	bool has_tls_listener;
	bool is_out_of_memory;
};

extern const struct conf_schema snapshot_rows[];
extern const size_t snapshot_row_count;

/* compile.c. Copies never point outside of the snapshot: an empty text is no pointer at all. */
struct span compiler_copy(struct compiler *compiler, struct span text);
struct span compiler_lower(struct compiler *compiler, struct span text);
void *compiler_alloc(struct compiler *compiler, size_t count, size_t size, size_t align);
#define compiler_array(compiler, type, count) \
	((type *)compiler_alloc((compiler), (count), sizeof(type), _Alignof(type)))
struct snapshot_place compiler_place(struct compiler *compiler, struct conf_place place);
/* `FILE:LINE: WORD` */
struct span compiler_rule(struct compiler *compiler, const struct snapshot_place *place,
			  const char *word);
void *compiler_find(struct compiler *compiler, uint64_t id);
void compiler_remember(struct compiler *compiler, uint64_t id, void *row);
void compiler_limits(struct compiler *compiler, const struct conf_statement *block,
		     struct snapshot_limits *limits);
void compiler_check_limits(struct compiler *compiler, const struct conf_statement *first,
			   const struct conf_statement *block);

/* table.c */
void compile_tables(struct compiler *compiler);
/* The table that <name> means; NULL after a fault. */
const struct snapshot_table *compiler_table(struct compiler *compiler,
					    const struct conf_value *value);
/* What options FROM_TABLE say. */
void compile_from(struct compiler *compiler, const struct conf_statement *statement,
		  struct snapshot_from *ret);
bool is_field_name(struct span text);
const struct snapshot_trust *compile_trust(struct compiler *compiler,
					   const struct conf_statement *statement);

/* site.c */
void compile_site(struct compiler *compiler, const struct conf_statement *statement);
/* route.c */
bool is_handler(const struct conf_statement *statement);
void compile_pattern(struct compiler *compiler, const struct conf_statement *statement,
		     struct snapshot_pattern *pattern);
void compile_pattern_text(struct compiler *compiler, struct span text,
			  struct snapshot_pattern *pattern);
/* `block`: what it stands in, or NULL. */
void compile_route(struct compiler *compiler, const struct conf_statement *statement,
		   const struct snapshot_site *site, const struct snapshot_block *block,
		   struct snapshot_route *route);
/* block.c: a `route` without its handlers; NULL without memory. */
const struct snapshot_block *compile_block(struct compiler *compiler,
					   const struct conf_statement *statement,
					   const struct snapshot_site *site);
/* limit.c: the `limit` lines of a block. `owner` is the id of its site. */
void compile_request_limits(struct compiler *compiler, const struct conf_statement *block,
			    uint64_t owner, const struct snapshot_request_limit **ret_limits,
			    size_t *ret_count);
void compile_connection_limits(struct compiler *compiler, const struct conf_statement *block,
			       uint64_t owner, struct snapshot_connection_limits *limits);
void compile_bandwidth_limits(struct compiler *compiler, const struct conf_statement *block,
			      uint64_t owner, struct snapshot_bandwidth_limits *limits);
void compile_firewall(struct compiler *compiler, const struct conf_statement *block);
/* error.c: the `error` lines of a block. */
void compile_error_pages(struct compiler *compiler, const struct conf_statement *block,
			 struct snapshot_error_pages *pages);
/* upstream.c: of a block; of a proxy line, by name or its own. NULL: reported, or no memory. */
void compile_upstream(struct compiler *compiler, const struct conf_statement *statement);
const struct snapshot_upstream *compile_proxy_upstream(struct compiler *compiler,
						       const struct conf_statement *statement);
/* resource.c: rows by id, made once. NULL without memory. */
const struct snapshot_root *compile_root(struct compiler *compiler, const struct conf_value *path);
const struct snapshot_ca *compile_ca(struct compiler *compiler, const struct conf_value *path);
/* What a line says of its origins beside where they are. */
struct origin_words {
	const struct snapshot_ca *ca;
	uint8_t send_proxy;
	bool allow_local;
};
const struct snapshot_origin *compile_origin(struct compiler *compiler,
					     const struct conf_value *value,
					     const struct origin_words *words);
const struct snapshot_tls_policy *compile_policy(struct compiler *compiler, uint16_t min_version);
const struct snapshot_certificate *compile_certificate_file(struct compiler *compiler,
							    const struct conf_statement *statement);
const struct snapshot_certificate *compile_certificate_internal(struct compiler *compiler,
								const struct snapshot_site *site,
								struct conf_place place);
/* name.c */
bool compile_name(struct compiler *compiler, const struct conf_value *value,
		  const struct snapshot_site *site, bool is_redirect, struct span *ret_name);
void compile_name_tables(struct compiler *compiler);
/* plan.c */
void compile_plan(struct compiler *compiler);
