/* manual: rows as a reader sees them. */
#include "conf/conf_internal.h"

static void write_argument(const struct conf_argument *argument, struct writer *writer)
{
	bool is_choice = argument->type == CONF_CHOICE;

	write_str(writer, argument->is_optional ? " [" : " ");
	if (is_choice) {
		struct span rest = span_str(argument->choices), choice;
		bool is_first = true;
		while (conf_list_next(&rest, ' ', &choice)) {
			if (!is_first)
				write_byte(writer, '|');
			write_span(writer, choice);
			is_first = false;
		}
	} else {
		write_str(writer, argument->name);
	}
	if (argument->is_repeated)
		write_str(writer, "…");
	if (argument->is_optional)
		write_byte(writer, ']');
}

void conf_schema_write_form(const struct conf_schema *row, struct writer *writer)
{
	write_str(writer, row->name);
	for (size_t i = 0; i < CONF_ARGUMENTS_MAX && row->arguments[i].type != CONF_NO_TYPE; i++)
		write_argument(&row->arguments[i], writer);
	for (size_t i = 0; i < CONF_OPTIONS_MAX && row->options[i].name; i++) {
		const struct conf_option *option = &row->options[i];

		write_str(writer, " [");
		write_str(writer, option->name);
		for (size_t j = 0;
		     j < ARRAY_LEN(option->arguments) && option->arguments[j].type != CONF_NO_TYPE;
		     j++)
			write_argument(&option->arguments[j], writer);
		write_byte(writer, ']');
	}
	switch (row->block) {
	case CONF_BLOCK_NONE:
		break;
	case CONF_BLOCK_OPTIONAL:
		write_str(writer, " [{ … }]");
		break;
	case CONF_BLOCK_STATEMENTS:
		write_str(writer, " { … }");
		break;
	case CONF_BLOCK_LIST:
	case CONF_BLOCK_LIST_OPTIONAL:
		write_str(writer, row->block == CONF_BLOCK_LIST ? " { " : " [{ ");
		write_str(writer, row->list.name);
		write_str(writer, row->block == CONF_BLOCK_LIST ? "… }" : "… }]");
		break;
	case CONF_BLOCK_PAIRS:
		write_str(writer, " { NAME VALUE … }");
		break;
	}
}

static void write_fact(struct writer *writer, const char *name, const char *text)
{
	if (!text || !text[0])
		return;
	write_format(writer, "- %s: %s\n", name, text);
}

static void write_inside(const struct conf_schema *row, struct writer *writer)
{
	struct span rest = span_str(row->inside), name;
	const char *before = "- stands in: ";

	while (span_cut(&rest, ',', &name)) {
		write_str(writer, before);
		before = ", ";
		if (name.len)
			write_format(writer, "`%.*s`", SPAN_ARG(name));
		else
			write_str(writer, "the file itself");
	}
	write_byte(writer, '\n');
}

void conf_schema_write_manual(const struct conf_schema *row, struct writer *writer)
{
	write_format(writer, "### %s\n\n```\n", row->name);
	conf_schema_write_form(row, writer);
	write_format(writer, "\n```\n\n%s\n\n", row->help);
	write_inside(row, writer);
	if (row->is_single)
		write_str(writer, "- once\n");
	write_fact(writer, "unit", row->unit);
	write_fact(writer, "default", row->default_value);
	for (size_t i = 0; i < CONF_OPTIONS_MAX && row->options[i].name; i++)
		write_format(writer, "- `%s`: %s\n", row->options[i].name, row->options[i].help);
	write_format(writer, "\nExample: `%s`\n\n", row->example);
}
