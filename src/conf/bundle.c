/* bundle: a configuration with everything that was asked while it was read.
 *
 * `PCB1`, then rows {kind u8, result be32 (negated errno), identity be64, name, value, count be32,
 * names} where a text is be32 length and bytes. The first row is the first file itself. */
#include "conf/conf_internal.h"

static const struct span magic = { "PCB1", 4 };

static size_t row_size(const struct conf_answer *answer)
{
	size_t size = 1 + 4 + 8 + 4 + answer->name.len + 4 + answer->value.len + 4;

	for (size_t i = 0; i < answer->name_count; i++)
		size += 4 + answer->names[i].len;
	return size;
}

static void write_text(struct writer *writer, struct span text)
{
	write_be32(writer, (uint32_t)text.len);
	write_span(writer, text);
}

static void write_row(struct writer *writer, const struct conf_answer *answer)
{
	write_byte(writer, (char)answer->kind);
	write_be32(writer, (uint32_t)-answer->result);
	write_be64(writer, answer->identity);
	write_text(writer, answer->name);
	write_text(writer, answer->value);
	write_be32(writer, (uint32_t)answer->name_count);
	for (size_t i = 0; i < answer->name_count; i++)
		write_text(writer, answer->names[i]);
}

/* Reading takes one byte order mark away: before one that belongs to the text there stands another. */
static struct span text_to_read(struct span text, struct arena *arena)
{
	static const struct span mark = { "\xef\xbb\xbf", 3 };

	if (!span_starts_with(text, mark))
		return text;
	return arena_join(arena, (struct span[]){ mark, text }, 2);
}

struct span conf_bundle(const struct conf_tree *tree, struct arena *arena)
{
	struct conf_answer first = {
		.next = tree->answers,
		.kind = CONF_ANSWER_FILE,
		.name = tree->files[0].name,
		.value = text_to_read(tree->files[0].text, arena),
	};
	size_t size = magic.len;

	if (tree->files[0].text.len && !first.value.ptr)
		return SPAN_NONE;

	for (const struct conf_answer *answer = &first; answer; answer = answer->next)
		size += row_size(answer);
	char *bytes = arena_array(arena, char, size);
	if (!bytes)
		return SPAN_NONE;
	struct writer writer = writer_of(bytes, size);
	write_span(&writer, magic);
	for (const struct conf_answer *answer = &first; answer; answer = answer->next)
		write_row(&writer, answer);
	MUST(writer.ok);
	return writer_done(&writer);
}

/* ---- Reading it back ------------------------------------------------------------------------- */

static struct span read_text(struct reader *reader)
{
	return read_span(reader, read_be32(reader));
}

static int read_row(struct arena *arena, struct reader *reader, struct conf_answer *answer)
{
	uint8_t kind = read_u8(reader);
	uint32_t result = read_be32(reader);

	answer->identity = read_be64(reader);
	answer->name = read_text(reader);
	answer->value = read_text(reader);
	answer->name_count = read_be32(reader);
	if (!reader->ok || kind < CONF_ANSWER_FILE || kind > CONF_ANSWER_ENVIRONMENT ||
	    result > 4095)
		return -EBADMSG;
	answer->kind = (enum conf_answer_kind)kind;
	answer->result = -(int)result;
	/* Each name takes at least its length: a count beyond that is a lie, and no reason to
	 * allocate. */
	if (answer->name_count > reader_left(reader) / 4)
		return -EBADMSG;
	if (!answer->name_count)
		return 0;
	struct span *names = arena_array(arena, struct span, answer->name_count);
	if (!names)
		return -ENOMEM;
	for (size_t i = 0; i < answer->name_count; i++)
		names[i] = read_text(reader);
	answer->names = names;
	return reader->ok ? 0 : -EBADMSG;
}

static const struct conf_answer *find_answer(const struct conf_answer *answers,
					     enum conf_answer_kind kind, struct span name)
{
	for (; answers; answers = answers->next) {
		if (answers->kind == kind && span_equal(answers->name, name))
			return answers;
	}
	return NULL;
}

static int bundle_read(void *owner, struct span path, struct span *ret_text, uint64_t *ret_identity)
{
	const struct conf_answer *answer = find_answer(owner, CONF_ANSWER_FILE, path);

	if (!answer)
		return -ENOENT;
	*ret_text = answer->value;
	*ret_identity = answer->identity;
	return answer->result;
}

static int bundle_list(void *owner, struct span pattern, const struct span **ret_names,
		       size_t *ret_count)
{
	const struct conf_answer *answer = find_answer(owner, CONF_ANSWER_LIST, pattern);

	if (!answer)
		return -ENOENT;
	*ret_names = answer->names;
	*ret_count = answer->name_count;
	return answer->result;
}

static bool find_variable(const struct conf_answer *answers, struct span name,
			  struct span *ret_value)
{
	const struct conf_answer *answer = find_answer(answers, CONF_ANSWER_ENVIRONMENT, name);

	if (!answer || answer->result)
		return false;
	*ret_value = answer->value;
	return true;
}

static bool bundle_environment(void *owner, struct span name, struct span *ret_value)
{
	return find_variable(owner, name, ret_value);
}

bool conf_variable(const struct conf_tree *tree, struct span name, struct span *ret_value)
{
	return find_variable(tree->answers, name, ret_value);
}

int conf_parse_bundle(struct arena *arena, struct span bundle, struct conf_errors *errors,
		      struct conf_tree **ret_tree)
{
	struct reader reader = reader_of(bundle);
	struct conf_answer *answers = NULL, **tail = &answers;

	if (!span_equal(read_span(&reader, magic.len), magic))
		return -EBADMSG;
	while (reader_left(&reader)) {
		struct conf_answer *answer = arena_new(arena, struct conf_answer);
		int result = answer ? read_row(arena, &reader, answer) : -ENOMEM;

		if (result)
			return result;
		*tail = answer;
		tail = &answer->next;
	}
	if (!answers || answers->kind != CONF_ANSWER_FILE)
		return -EBADMSG;
	struct conf_functions functions = {
		.owner = answers->next,
		.read = bundle_read,
		.list = bundle_list,
		.environment = bundle_environment,
	};
	return conf_parse(arena, answers->name, answers->value, &functions, errors, ret_tree);
}
