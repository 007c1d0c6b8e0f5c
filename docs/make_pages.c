/* Makes the manual pages and what shells complete, from the tables of commands and of statements.
 *
 *     make-pages portcullis.1|portcullis.conf.5 DATE
 *     make-pages bash|zsh|fish
 *
 * Pages are for man(7) as groff and mandoc read it: text in ASCII, what is beyond it as \[uXXXX]. */
#include <stdio.h>
#include <string.h>

#include "command/command.h"
#include "snapshot/snapshot.h"

enum { PAGE_MAX = 512 * 1024, LINE_MIN = 55 };

/* ---- Text as roff ----------------------------------------------------------------------------------- */

/* One character that is not ASCII, from UTF-8. How many bytes it has. */
static size_t write_wide(struct writer *out, struct span text)
{
	unsigned char first = (unsigned char)text.ptr[0];
	size_t len = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
	unsigned code = first & (0x7fu >> len);

	if (len > text.len)
		len = text.len;
	for (size_t i = 1; i < len; i++)
		code = code << 6 | ((unsigned char)text.ptr[i] & 0x3fu);
	write_format(out, "\\[u%04X]", code);
	return len;
}

static void write_byte_as_roff(struct writer *out, char byte)
{
	switch (byte) {
	case '\\':
		write_str(out, "\\e");
		break;
	case '-':
		write_str(out, "\\-");
		break;
	case '\'':
		write_str(out, "\\(aq");
		break;
	case '`':
		write_str(out, "\\(ga");
		break;
	case '^':
		write_str(out, "\\(ha");
		break;
	case '~':
		write_str(out, "\\(ti");
		break;
	default:
		write_byte(out, byte);
	}
}

/* As it is: forms and examples. No line begins with what would be a request. */
static void write_plain(struct writer *out, struct span text)
{
	bool is_start = true;

	while (text.len) {
		size_t len = 1;

		if (is_start && (text.ptr[0] == '.' || text.ptr[0] == '\''))
			write_str(out, "\\&");
		if ((unsigned char)text.ptr[0] >= 0x80)
			len = write_wide(out, text);
		else
			write_byte_as_roff(out, text.ptr[0]);
		is_start = text.ptr[0] == '\n';
		text = span_skip(text, len);
	}
}

/* Sentences of the tables: `code` is bold, [a link](PAGE) is its text. */
static void write_sentence(struct writer *out, struct span text)
{
	while (text.len) {
		size_t code = span_find_byte(text, '`'), link = span_find_byte(text, '[');
		size_t next = code < link ? code : link;
		struct span inside;

		write_plain(out, span_first(text, next));
		text = span_skip(text, next);
		if (!text.len)
			return;
		if (text.ptr[0] == '`') {
			text = span_skip(text, 1);
			inside = span_first(text, span_find_byte(text, '`'));
			write_str(out, "\\fB");
			write_plain(out, inside);
			write_str(out, "\\fR");
			text = span_skip(text,
					 inside.len + 1 > text.len ? text.len : inside.len + 1);
			continue;
		}
		next = span_find(text, SPAN("]("));
		if (next == text.len || span_find_byte(text, ']') != next) {
			write_byte(out, '[');
			text = span_skip(text, 1);
			continue;
		}
		write_plain(out, span_skip(span_first(text, next), 1));
		text = span_skip(text, next);
		text = span_skip(text, span_find_byte(text, ')') + 1);
	}
}

/* A paragraph, in lines as roff likes them. */
static void sentence(struct writer *out, const char *before, const char *text)
{
	char roff[4096];
	struct writer whole = writer_of(roff, sizeof(roff));
	size_t column = 0;

	write_sentence(&whole, span_str(text));
	if (!whole.ok)
		out->ok = false;
	write_str(out, before);
	for (const char *at = roff; at < whole.at; at++, column++) {
		bool is_request = at + 1 < whole.at && (at[1] == '.' || at[1] == '\'');

		if (*at == ' ' && column > LINE_MIN && !is_request) {
			write_byte(out, '\n');
			column = 0;
		} else {
			write_byte(out, *at);
		}
	}
	write_byte(out, '\n');
}

static void head(struct writer *out, const char *title, const char *section, const char *date,
		 const char *name)
{
	write_format(out,
		     ".TH %s %s \"%s\" \"Portcullis " PORTCULLIS_VERSION "\" \"Portcullis\"\n"
		     ".SH NAME\n",
		     title, section, date);
	write_sentence(out, span_str(name));
	write_byte(out, '\n');
}

static void literal(struct writer *out, struct span text)
{
	write_str(out, ".nf\n\\fB");
	write_plain(out, text);
	write_str(out, "\\fR\n.fi\n");
}

/* ---- portcullis(1) ---------------------------------------------------------------------------------- */

static void option_row(struct writer *out, const struct command_option *option)
{
	write_str(out, ".TP\n\\fB");
	write_plain(out, span_str(option->name));
	write_str(out, "\\fR");
	if (option->value) {
		write_str(out, " \\fI");
		write_plain(out, span_str(option->value));
		write_str(out, "\\fR");
	}
	write_byte(out, '\n');
	sentence(out, "", option->help);
}

static void command_section(struct writer *out, const struct command *command)
{
	char text[1024];
	struct writer form = writer_of(text, sizeof(text));

	write_format(&form, "portcullis %s %s", command->name, command->form);
	write_format(out, ".SS %s\n", command->name);
	literal(out, span_trim(writer_done(&form)));
	write_str(out, ".PP\n");
	sentence(out, "", command->help);
	if (command->details) {
		write_str(out, ".PP\n.nf\n");
		struct span rest = span_str(command->details), line;

		while (span_cut(&rest, '\n', &line)) {
			write_sentence(out, line);
			write_byte(out, '\n');
		}
		write_sentence(out, rest);
		write_str(out, "\n.fi\n");
	}
	for (const struct command_option *option = command->options; option->name; option++)
		option_row(out, option);
}

static void fact(struct writer *out, const char *name, const char *text)
{
	write_str(out, ".TP\n\\fB");
	write_plain(out, span_str(name));
	write_str(out, "\\fR\n");
	sentence(out, "", text);
}

static void commands_page(struct writer *out, const char *date)
{
	const struct command *command;

	head(out, "PORTCULLIS", "1", date,
	     "portcullis - HTTPS on port 443 in front of applications");
	write_str(out, ".SH SYNOPSIS\n\\fBportcullis\\fR \\fICOMMAND\\fR [\\fIoption\\fR ...] "
		       "[\\fIoperand\\fR ...]\n.SH DESCRIPTION\n");
	sentence(out, "",
		 "A gateway for HTTPS: it ends TLS, serves folders and passes requests on to "
		 "applications. Options may stand before, between and after operands; `--` ends "
		 "them. Every command takes `--help`.");
	write_str(out, ".SH COMMANDS\n");
	for (size_t i = 0; (command = command_at(i)); i++)
		command_section(out, command);
	write_str(out, ".SH EXIT STATUS\n");
	fact(out, "0", "done");
	fact(out, "1", "a fault was found or met; for `reload`: the configuration was refused");
	fact(out, "2", "used wrongly");
	write_str(out, ".SH ENVIRONMENT\n");
	fact(out, "PORTCULLIS_STATE", "the state folder, where the configuration names none");
	fact(out, "XDG_STATE_HOME", "where the state folder of others than root lies");
	fact(out, "NOTIFY_SOCKET, WATCHDOG_USEC, LISTEN_FDS",
	     "of the service manager: what `run` tells it, and what it kept");
	write_str(out, ".SH FILES\n");
	fact(out, "/etc/portcullis/portcullis.conf",
	     "the configuration, unless `-c` names another");
	fact(out, "/var/lib/portcullis", "the state folder of root");
	write_str(out, ".SH SEE ALSO\n.BR portcullis.conf (5)\n");
}

/* ---- portcullis.conf(5) -------------------------------------------------------------------------------- */

static void statement_section(struct writer *out, const struct conf_schema *row)
{
	char text[2048], inside[512];
	struct writer form = writer_of(text, sizeof(text)), places = writer_of(inside, 511);
	struct span rest = span_str(row->inside), place;
	const char *before = "";

	conf_schema_write_form(row, &form);
	write_format(out, ".SS %s\n", row->name);
	literal(out, writer_done(&form));
	write_str(out, ".PP\n");
	sentence(out, "", row->help);
	while (span_cut(&rest, ',', &place)) {
		write_format(&places, place.len ? "%s`%.*s`" : "%sthe file itself", before,
			     SPAN_ARG(place));
		before = ", ";
	}
	write_format(&places, "%s", row->is_single ? "; once" : "");
	*places.at = '\0';
	fact(out, "stands in", inside);
	if (row->unit && row->unit[0])
		fact(out, "unit", row->unit);
	if (row->default_value && row->default_value[0])
		fact(out, "without it", row->default_value);
	for (size_t i = 0; i < CONF_OPTIONS_MAX && row->options[i].name; i++)
		fact(out, row->options[i].name, row->options[i].help);
	write_str(out, ".PP\nExample:\n.PP\n");
	literal(out, span_str(row->example));
}

static void rows(struct writer *out, bool are_limits)
{
	for (size_t table = 0; table < snapshot_language.table_count; table++) {
		for (size_t i = 0; i < snapshot_language.counts[table]; i++) {
			const struct conf_schema *row = &snapshot_language.tables[table][i];
			bool is_limit = strcmp(row->inside, "limits") == 0;

			if (is_limit && are_limits) {
				write_format(out, ".TP\n\\fB%s\\fR (%s, without it ", row->name,
					     row->unit);
				write_sentence(out, span_str(row->default_value));
				write_str(out, ")\n");
				sentence(out, "", row->help);
			} else if (!is_limit && !are_limits) {
				statement_section(out, row);
			}
		}
	}
}

static void configuration_page(struct writer *out, const char *date)
{
	static const char *const rules[] = {
		"The first line names the language's version: `portcullis 1`.",
		"A newline or `;` ends a statement. `{ }` holds a block of statements; the `{` "
		"stands on its statement's line.",
		"Words end at blanks and at `{ } ; \"`. A `#` at a word's start begins a comment.",
		"`\"...\"` is one word on one line, with `\\\"`, `\\\\`, `\\n` and `\\$`.",
		"`$NAME` is the environment's value; one that is not set is a fault.",
		"`include FILE` reads another file, or those of a glob, in its place.",
		"Times are written `250ms` `10s` `5m` `1h` `30d`; sizes `512B` `32KB` `1MB` `2GB`.",
	};

	head(out, "PORTCULLIS.CONF", "5", date, "portcullis.conf - configuration of portcullis");
	write_str(out, ".SH DESCRIPTION\n");
	sentence(out, "",
		 "One text file says all that the gateway serves. `portcullis check FILE` says "
		 "whether it is right, and where it is not; `portcullis reload` makes the running "
		 "service read it again.");
	for (size_t i = 0; i < ARRAY_LEN(rules); i++)
		sentence(out, ".IP \\(bu 2\n", rules[i]);
	write_str(out, ".SH EXAMPLE\n");
	literal(out, SPAN("portcullis 1\n\nsite www.example.com {\n"
			  "    certificate file /etc/portcullis/www.crt /etc/portcullis/www.key\n"
			  "    files /srv/www on /assets/*\n"
			  "    proxy 127.0.0.1:3000\n}"));
	write_str(out, ".SH STATEMENTS\n");
	rows(out, false);
	write_str(out, ".SH LIMITS\n");
	sentence(out, "", "What may stand in `limits { NAME VALUE ... }`.");
	rows(out, true);
	write_str(out, ".SH SEE ALSO\n.BR portcullis (1)\n");
}

/* ---- What shells complete ------------------------------------------------------------------------------ */

/* Words of a form that are alternatives in place of an operand: `init | root | issue NAME...`. */
static bool next_alternative(struct span *form, struct span *ret_word)
{
	struct span part;

	while (form->len) {
		size_t end = span_find(*form, SPAN(" | "));

		part = span_trim(span_first(*form, end));
		*form = span_skip(*form, end < form->len ? end + 3 : form->len);
		*ret_word = span_first(part, span_find_byte(part, ' '));
		if (ret_word->len && ret_word->ptr[0] >= 'a' && ret_word->ptr[0] <= 'z')
			return true;
	}
	return false;
}

static struct span alternatives(const struct command *command)
{
	struct span form = span_str(command->form);

	return span_find(form, SPAN(" | ")) < form.len ? form : SPAN_NONE;
}

static bool takes_file(const struct command_option *option)
{
	return option->value &&
	       (strcmp(option->value, "FILE") == 0 || strcmp(option->value, "PREFIX") == 0);
}

/* `check FILE`, `files DIR`: operands that are paths. */
static bool takes_path(const struct command *command)
{
	return strstr(command->form, "FILE]") == command->form + 1 ||
	       strncmp(command->form, "DIR", 3) == 0 || strncmp(command->form, "FILE", 4) == 0;
}

static void names_of(struct writer *out)
{
	const struct command *command;

	for (size_t i = 0; (command = command_at(i)); i++)
		write_format(out, "%s%s", i ? " " : "", command->name);
}

static void bash_command(struct writer *out, const struct command *command)
{
	struct span rest = alternatives(command), word;

	write_format(out, "\t%s) words='--help", command->name);
	for (const struct command_option *option = command->options; option->name; option++)
		write_format(out, " %s", option->name);
	while (next_alternative(&rest, &word))
		write_format(out, " %.*s", SPAN_ARG(word));
	if (command == &command_help) {
		write_byte(out, ' ');
		names_of(out);
	}
	write_format(out, "' values='");
	for (const struct command_option *option = command->options; option->name; option++) {
		if (option->value)
			write_format(out, " %s=%s", option->name,
				     takes_file(option) ? "path" : "word");
	}
	write_format(out, " ' paths=%s ;;\n", takes_path(command) ? "1" : "");
}

static void bash(struct writer *out)
{
	const struct command *command;

	write_str(out, "# Completion of portcullis for bash.\n_portcullis() {\n"
		       "\tlocal word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n"
		       "\tlocal words= values= paths=\n\tCOMPREPLY=()\n"
		       "\tif ((COMP_CWORD == 1)); then\n"
		       "\t\tCOMPREPLY=($(compgen -W '--help --version ");
	names_of(out);
	write_str(out, "' -- \"$word\"))\n\t\treturn\n\tfi\n\tcase ${COMP_WORDS[1]} in\n");
	for (size_t i = 0; (command = command_at(i)); i++)
		bash_command(out, command);
	write_str(out,
		  "\tesac\n"
		  "\tcase $values in\n"
		  "\t*\" $before=path \"*) COMPREPLY=($(compgen -f -- \"$word\")) ;;\n"
		  "\t*\" $before=word \"*) ;;\n"
		  "\t*)\n"
		  "\t\tCOMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
		  "\t\t[[ $paths && $word != -* ]] && COMPREPLY+=($(compgen -f -- \"$word\"))\n"
		  "\t\t;;\n"
		  "\tesac\n\treturn 0\n}\n"
		  "complete -o filenames -F _portcullis portcullis\n");
}

/* In single quotes of a shell; zsh reads brackets and colons in descriptions, so they go. */
static void quoted(struct writer *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '\'' || *text == '`' || *text == '[' || *text == ']')
			continue;
		write_byte(out, *text == ':' ? ',' : *text);
	}
}

static void zsh_command(struct writer *out, const struct command *command)
{
	struct span rest = alternatives(command), word;

	write_format(out, "\t%s)\n\t\t_arguments '--help[explain]'", command->name);
	for (const struct command_option *option = command->options; option->name; option++) {
		write_format(out, " \\\n\t\t\t'*%s[", option->name);
		quoted(out, option->help);
		write_byte(out, ']');
		if (option->value)
			write_format(out, ":%s:%s", takes_file(option) ? "file" : "value",
				     takes_file(option) ? "_files" : "");
		write_byte(out, '\'');
	}
	if (rest.len || command == &command_help) {
		write_str(out, " \\\n\t\t\t'1:what:(");
		if (command == &command_help)
			names_of(out);
		while (next_alternative(&rest, &word))
			write_format(out, "%.*s ", SPAN_ARG(word));
		write_str(out, ")'");
	}
	if (takes_path(command))
		write_str(out, " \\\n\t\t\t'1:file:_files'");
	write_str(out, "\n\t\t;;\n");
}

static void zsh(struct writer *out)
{
	const struct command *command;

	write_str(out, "#compdef portcullis\n# Completion of portcullis for zsh.\n"
		       "local -a commands\ncommands=(\n");
	for (size_t i = 0; (command = command_at(i)); i++) {
		write_format(out, "\t'%s:", command->name);
		quoted(out, command->help);
		write_str(out, "'\n");
	}
	write_str(out, ")\nif ((CURRENT == 2)); then\n\t_describe command commands\n\treturn\nfi\n"
		       "shift words\n((CURRENT--))\ncase $words[1] in\n");
	for (size_t i = 0; (command = command_at(i)); i++)
		zsh_command(out, command);
	write_str(out, "esac\n");
}

static void fish_option(struct writer *out, const struct command *command,
			const struct command_option *option)
{
	bool is_long = strncmp(option->name, "--", 2) == 0;

	write_format(out,
		     "complete -c portcullis -n '__fish_seen_subcommand_from %s' -%c %s %s-d '",
		     command->name, is_long ? 'l' : 's', option->name + (is_long ? 2 : 1),
		     takes_file(option) ? "-r -F "
		     : option->value    ? "-x "
					: "");
	quoted(out, option->help);
	write_str(out, "'\n");
}

static void fish(struct writer *out)
{
	const struct command *command;

	write_str(out, "# Completion of portcullis for fish.\ncomplete -c portcullis -f\n");
	for (size_t i = 0; (command = command_at(i)); i++) {
		struct span rest = alternatives(command), word;

		write_format(out, "complete -c portcullis -n __fish_use_subcommand -a %s -d '",
			     command->name);
		quoted(out, command->help);
		write_str(out, "'\n");
		for (const struct command_option *option = command->options; option->name; option++)
			fish_option(out, command, option);
		while (next_alternative(&rest, &word))
			write_format(out,
				     "complete -c portcullis -n '__fish_seen_subcommand_from %s' "
				     "-a %.*s\n",
				     command->name, SPAN_ARG(word));
		if (takes_path(command))
			write_format(out,
				     "complete -c portcullis -n '__fish_seen_subcommand_from %s' "
				     "-F\n",
				     command->name);
	}
	write_str(out, "complete -c portcullis -n '__fish_seen_subcommand_from help' -a '");
	names_of(out);
	write_str(out, "'\n");
}

int main(int argc, char **argv)
{
	char *text = heap_alloc(PAGE_MAX);
	struct writer out = writer_of(text, PAGE_MAX);
	const char *what = argc > 1 ? argv[1] : "";
	bool ok = true;

	if (!text)
		return 1;
	if (argc == 3 && strcmp(what, "portcullis.1") == 0)
		commands_page(&out, argv[2]);
	else if (argc == 3 && strcmp(what, "portcullis.conf.5") == 0)
		configuration_page(&out, argv[2]);
	else if (argc == 2 && strcmp(what, "bash") == 0)
		bash(&out);
	else if (argc == 2 && strcmp(what, "zsh") == 0)
		zsh(&out);
	else if (argc == 2 && strcmp(what, "fish") == 0)
		fish(&out);
	else
		ok = false;
	if (ok && out.ok) {
		struct span page = writer_done(&out);

		ok = fwrite(page.ptr, 1, page.len, stdout) == page.len && fflush(stdout) == 0;
	}
	heap_free(text);
	return ok ? 0 : 2;
}
