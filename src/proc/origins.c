/* Origins that nobody answers at: looked for by the dialer, told to the operator. It is a warning; the gateway
 * serves, and asks again for each request. */
#include "proc/supervisor_internal.h"

void origins_look(struct supervisor *supervisor)
{
	struct child *dialer = child_find(supervisor, IPC_DIALER, 0);

	if (dialer)
		child_send(dialer, IPC_MESSAGE_look, &(struct ipc_look){ { 0 } }, SPAN_NONE, NULL,
			   0);
}

/* The dialer reads strangers' bytes: what it says goes to a terminal as plain text only. */
static struct span next_text(struct span *tail, char *buf, size_t size)
{
	struct writer out = writer_of(buf, size);
	struct span text;

	if (!span_cut(tail, '\0', &text))
		return SPAN_NONE;
	text = span_first(text, size);
	for (size_t i = 0; i < text.len; i++)
		write_byte(&out, text.ptr[i] < ' ' || text.ptr[i] > '~' ? '?' : text.ptr[i]);
	return writer_done(&out);
}

void origins_on_unanswered(struct supervisor *supervisor, const struct ipc_unanswered *body,
			   struct span tail)
{
	char buffers[3][512];
	struct span origin = next_text(&tail, buffers[0], sizeof(buffers[0]));
	struct span why = next_text(&tail, buffers[1], sizeof(buffers[1]));
	struct span place = next_text(&tail, buffers[2], sizeof(buffers[2]));

	if (body->more) {
		supervisor_say(supervisor, "%u more origins do not answer", body->more);
		return;
	}
	/* What `proxy` wrote itself has no line that its caller could look at. */
	if (supervisor->options->config_path)
		supervisor_say(supervisor,
			       "%.*s: warning: nobody answers at %.*s (%.*s): until somebody does, "
			       "its requests are answered with an error",
			       SPAN_ARG(place), SPAN_ARG(origin), SPAN_ARG(why));
	else
		supervisor_say(supervisor,
			       "warning: nobody answers at %.*s yet (%.*s): start the application, "
			       "until then requests are answered with an error",
			       SPAN_ARG(origin), SPAN_ARG(why));
}
