/* table: addresses under a name, as sorted ranges, and who is trusted by them. */
#include "snapshot/snapshot_internal.h"

#include <stdlib.h>
#include <string.h>

/* ---- Compiling ------------------------------------------------------------------------------- */

static uint32_t be32(const uint8_t *bytes)
{
	return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 |
	       bytes[3];
}

static struct snapshot_range4 range4_of(const struct conf_value *network)
{
	uint32_t first = be32(network->address.bytes);
	uint64_t behind = (UINT64_C(1) << (32 - network->number)) - 1;

	return (struct snapshot_range4){ first, first | (uint32_t)behind };
}

static struct snapshot_range6 range6_of(const struct conf_value *network)
{
	struct snapshot_range6 range;

	memcpy(range.first, network->address.bytes, sizeof(range.first));
	for (size_t i = 0; i < sizeof(range.last); i++) {
		uint64_t bits = network->number > i * 8 ? network->number - i * 8 : 0;

		range.last[i] = (uint8_t)(range.first[i] | (bits >= 8 ? 0u : 0xffu >> bits));
	}
	return range;
}

static int compare_ranges4(const void *a, const void *b)
{
	const struct snapshot_range4 *x = a, *y = b;

	return x->first < y->first ? -1 : x->first > y->first;
}

static int compare_ranges6(const void *a, const void *b)
{
	const struct snapshot_range6 *x = a, *y = b;

	return memcmp(x->first, y->first, sizeof(x->first));
}

/* Networks are either nested or apart: what begins within the one before ends within it too. */
static size_t merge4(struct snapshot_range4 *ranges, size_t count)
{
	size_t kept = 0;

	if (count)
		qsort(ranges, count, sizeof(*ranges), compare_ranges4);
	for (size_t i = 0; i < count; i++) {
		if (kept && ranges[i].first <= ranges[kept - 1].last) {
			if (ranges[i].last > ranges[kept - 1].last)
				ranges[kept - 1].last = ranges[i].last;
			continue;
		}
		ranges[kept++] = ranges[i];
	}
	/* What is left over would be bytes without a meaning. */
	if (kept < count)
		memset(ranges + kept, 0, (count - kept) * sizeof(*ranges));
	return kept;
}

static size_t merge6(struct snapshot_range6 *ranges, size_t count)
{
	size_t kept = 0;

	if (count)
		qsort(ranges, count, sizeof(*ranges), compare_ranges6);
	for (size_t i = 0; i < count; i++) {
		if (kept && memcmp(ranges[i].first, ranges[kept - 1].last, 16) <= 0) {
			if (memcmp(ranges[i].last, ranges[kept - 1].last, 16) > 0)
				memcpy(ranges[kept - 1].last, ranges[i].last, 16);
			continue;
		}
		ranges[kept++] = ranges[i];
	}
	if (kept < count)
		memset(ranges + kept, 0, (count - kept) * sizeof(*ranges));
	return kept;
}

/* Which of the two was meant, the address or the network, only its writer knows. */
static void warn_of_rounded(struct compiler *compiler, const struct conf_value *network)
{
	char text[64];
	struct writer writer = writer_of(text, sizeof(text));

	if (!network->is_rounded)
		return;
	conf_address_write(&network->address, &writer);
	conf_warning_add(compiler->errors, network->word->place, "`%.*s` means %.*s/%u",
			 SPAN_ARG(network->word->text), SPAN_ARG(writer_done(&writer)),
			 (unsigned)network->number);
}

static void compile_ranges(struct compiler *compiler, const struct conf_statement *statement,
			   struct snapshot_table *table)
{
	size_t count4 = 0, count6 = 0;
	struct snapshot_range4 *ranges4;
	struct snapshot_range6 *ranges6;

	for (size_t i = 0; i < statement->list_count; i++) {
		count4 += statement->list[i].address.family == 4;
		warn_of_rounded(compiler, &statement->list[i]);
	}
	ranges4 = compiler_array(compiler, struct snapshot_range4, count4);
	ranges6 = compiler_array(compiler, struct snapshot_range6, statement->list_count - count4);
	if (compiler->is_out_of_memory)
		return;
	count4 = 0;
	for (size_t i = 0; i < statement->list_count; i++) {
		if (statement->list[i].address.family == 4)
			ranges4[count4++] = range4_of(&statement->list[i]);
		else
			ranges6[count6++] = range6_of(&statement->list[i]);
	}
	table->ranges4 = ranges4;
	table->ranges6 = ranges6;
	table->range4_count = merge4(ranges4, count4);
	table->range6_count = merge6(ranges6, count6);
}

static uint64_t table_id(struct compiler *compiler, struct span name)
{
	struct span line = arena_format(compiler->scratch, "table %.*s", SPAN_ARG(name));

	if (!line.ptr)
		compiler->is_out_of_memory = true;
	return hash_id(line);
}

static void compile_table(struct compiler *compiler, const struct conf_statement *statement)
{
	const struct conf_value *name = &statement->arguments[0];
	const struct conf_given *file = conf_option(statement, "file");
	struct snapshot_table *table;

	for (const struct conf_statement *s = compiler->tree->first; s != statement; s = s->next) {
		if (!conf_is(s, "table") || !span_equal(s->arguments[0].text, name->text))
			continue;
		conf_error_add(compiler->errors, name->word->place,
			       "there is a table `%.*s` already", SPAN_ARG(name->text))
			->other = s->arguments[0].word->place;
		return;
	}
	if (!file == !statement->has_block)
		conf_error_add(
			compiler->errors, file ? file->word->place : statement->place,
			"a table has its networks in a block or in a file: `table %.*s { … }` "
			"or `table %.*s file PATH`",
			SPAN_ARG(name->text), SPAN_ARG(name->text));
	table = &compiler->tables[compiler->snapshot->table_count++];
	table->id = table_id(compiler, name->text);
	table->name = compiler_copy(compiler, name->text);
	table->place = compiler_place(compiler, statement->place);
	compile_ranges(compiler, statement, table);
}

void compile_tables(struct compiler *compiler)
{
	for (const struct conf_statement *s = compiler->tree->first; s; s = s->next) {
		if (conf_is(s, "table") && !compiler->is_out_of_memory)
			compile_table(compiler, s);
	}
}

/* One that stands there with a fault of its own, which is reported where it stands. */
static bool is_faulty_table(const struct compiler *compiler, struct span name)
{
	for (const struct conf_statement *s = compiler->tree->first; s; s = s->next) {
		if (!s->row && s->word_count > 1 && span_equal(s->words[0].text, SPAN("table")) &&
		    span_equal(s->words[1].text, name))
			return true;
	}
	return false;
}

static const struct snapshot_table *named(struct compiler *compiler, const struct conf_value *value,
					  const struct snapshot_table *table)
{
	if (!table->range4_count && !table->range6_count)
		conf_warning_add(compiler->errors, value->word->place,
				 "the table `%.*s` is empty: nobody is in it",
				 SPAN_ARG(table->name));
	return table;
}

const struct snapshot_table *compiler_table(struct compiler *compiler,
					    const struct conf_value *value)
{
	struct conf_nearest nearest;
	struct conf_error *error;

	conf_nearest_init(&nearest, value->text);
	for (size_t i = 0; i < compiler->snapshot->table_count; i++) {
		if (span_equal(compiler->tables[i].name, value->text))
			return named(compiler, value, &compiler->tables[i]);
		conf_nearest_offer(&nearest, compiler->tables[i].name);
	}
	if (is_faulty_table(compiler, value->text))
		return NULL;
	error = conf_error_add(compiler->errors, value->word->place,
			       "there is no table `%.*s`: write `table %.*s { CIDR… }`",
			       SPAN_ARG(value->text), SPAN_ARG(value->text));
	if (nearest.best.len)
		error->nearest = arena_format(compiler->scratch, "<%.*s>", SPAN_ARG(nearest.best));
	return NULL;
}

void compile_from(struct compiler *compiler, const struct conf_statement *statement,
		  struct snapshot_from *ret)
{
	const struct conf_given *from = conf_option(statement, "from");
	const struct conf_given *not_from = conf_option(statement, "not");

	if (from && not_from)
		conf_error_add(compiler->errors, not_from->word->place,
			       "one of `from` and `not from`")
			->other = from->word->place;
	if (from)
		ret->table = compiler_table(compiler, &from->values[0]);
	else if (not_from)
		ret->table = compiler_table(compiler, &not_from->values[1]);
	ret->is_not = !from && not_from;
}

/* RFC 9110, 5.1: a field's name is a token. */
bool is_field_name(struct span text)
{
	for (size_t i = 0; i < text.len; i++) {
		char c = text.ptr[i];

		if (!ascii_is_alpha(c) && !ascii_is_digit(c) &&
		    !(c && strchr("!#$%&'*+-.^_`|~", c)))
			return false;
	}
	return text.len > 0;
}

/* Fields that mean something else already: an address is in none of them. */
static bool is_taken(struct span name)
{
	static const char *const taken[] = {
		"Host",   "Connection", "Content-Length",    "Transfer-Encoding", "Upgrade",
		"Expect", "TE",         "X-Forwarded-Proto", "X-Forwarded-Host",  "Via",
		"Cookie", "Trailer",    "Keep-Alive",        "Proxy-Connection",
	};

	for (size_t i = 0; i < ARRAY_LEN(taken); i++) {
		if (span_equal_nocase(name, span_str(taken[i])))
			return true;
	}
	return false;
}

const struct snapshot_trust *compile_trust(struct compiler *compiler,
					   const struct conf_statement *statement)
{
	const struct conf_given *field = conf_option(statement, "field");
	struct span name = field ? field->values[0].text : SPAN("X-Forwarded-For");
	struct snapshot_trust *trust = compiler_array(compiler, struct snapshot_trust, 1);

	if (!trust)
		return NULL;
	trust->table = compiler_table(compiler, &statement->arguments[1]);
	if (field && (!is_field_name(name) || is_taken(name)))
		conf_error_add(
			compiler->errors, field->values[0].word->place,
			"`%.*s` is no field with addresses: X-Forwarded-For, Forwarded, or one "
			"like CF-Connecting-IP",
			SPAN_ARG(span_first(name, 64)));
	trust->field = compiler_copy(compiler, name);
	if (span_equal_nocase(name, SPAN("Forwarded")))
		trust->form = SNAPSHOT_TRUST_FORWARDED;
	return trust;
}

/* ---- The hot path ---------------------------------------------------------------------------- */

static bool has4(const struct snapshot_table *table, uint32_t address)
{
	size_t low = 0, high = table->range4_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct snapshot_range4 *range = &table->ranges4[middle];

		if (address < range->first)
			high = middle;
		else if (address > range->last)
			low = middle + 1;
		else
			return true;
	}
	return false;
}

static bool has6(const struct snapshot_table *table, const uint8_t address[16])
{
	size_t low = 0, high = table->range6_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct snapshot_range6 *range = &table->ranges6[middle];

		if (memcmp(address, range->first, 16) < 0)
			high = middle;
		else if (memcmp(address, range->last, 16) > 0)
			low = middle + 1;
		else
			return true;
	}
	return false;
}

bool snapshot_table_has(const struct snapshot_table *table, const struct conf_address *address)
{
	const uint8_t *v4 = conf_address_v4(address);

	if (v4)
		return has4(table, be32(v4));
	return address->family == 6 && has6(table, address->bytes);
}

bool snapshot_from_has(const struct snapshot_from *from, const struct conf_address *address)
{
	return !from->table || snapshot_table_has(from->table, address) != from->is_not;
}
