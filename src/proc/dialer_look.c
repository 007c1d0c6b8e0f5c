#include "proc/dialer_internal.h"

#include <string.h>

enum {
	LOOK_TIMEOUT_MS = 2000,
	LOOK_TEXT_MAX = 1024,
	TOLD_MAX = 16, /* of one look; a machine that is off shall not fill the screen */
};

/* One origin. Its texts are copies: the snapshot may be gone before the answer comes. */
struct look {
	struct dialer_looks *looks;
	struct proc_self *self;
	struct dial_attempt *attempt;
	uint64_t origin;
	char text[LOOK_TEXT_MAX], place[LOOK_TEXT_MAX];
};

static const char *words_of(enum dial_status status)
{
	switch (status) {
	case DIAL_REFUSED:
		return "the connection is refused";
	case DIAL_UNREACHABLE:
		return "there is no way to its address";
	case DIAL_NO_ADDRESS:
		return "its name has no address";
	case DIAL_TIMEOUT:
		return "the connection is not taken in time";
	case DIAL_FORBIDDEN:
		return "its name has an address that may not be connected to";
	case DIAL_QUESTIONS:
	case DIAL_FAILED:
		break;
	}
	return "it could not be tried";
}

static void tell_supervisor(struct proc_self *self, const struct ipc_unanswered *body,
			    struct span tail)
{
	/* A supervisor that does not read has other worries. */
	if (!proc_is_orphan(self) &&
	    ipc_send(proc_supervisor(self), IPC_MESSAGE_unanswered, body, tail, NULL, 0) < 0)
		return;
}

static void tell(const struct look *look, enum dial_status status)
{
	struct ipc_unanswered body = { .origin = look->origin, .status = status };
	char text[2 * LOOK_TEXT_MAX + 128];
	struct writer tail = writer_of(text, sizeof(text));

	write_span(&tail, span_of(look->text, strlen(look->text) + 1));
	write_span(&tail, span_of(words_of(status), strlen(words_of(status)) + 1));
	write_span(&tail, span_of(look->place, strlen(look->place) + 1));
	tell_supervisor(look->self, &body, writer_done(&tail));
}

/* The last of a look says how many were left out. */
static void look_over(struct dialer_looks *looks, struct proc_self *self)
{
	struct ipc_unanswered body = { .more = looks->untold };

	if (--looks->open)
		return;
	if (looks->untold)
		tell_supervisor(self, &body, SPAN_NONE);
	looks->told = looks->untold = 0;
}

static void on_done(void *owner, struct dial_attempt *attempt, const struct dial_result *result)
{
	struct look *look = owner;
	struct dialer_looks *looks = look->looks;

	(void)attempt;
	if (!result->status) {
		os_close(result->fd);
	} else if (looks->told < TOLD_MAX) {
		looks->told++;
		tell(look, result->status);
	} else {
		looks->untold++;
	}
	look_over(looks, look->self);
	heap_free(look);
}

static void look_at(struct dialer_looks *looks, struct proc_self *self, struct dial *dial,
		    const struct snapshot_origin *origin)
{
	struct look *look = heap_alloc(sizeof(*look));
	struct writer text, place;

	if (!look)
		return;
	*look = (struct look){ .looks = looks, .self = self, .origin = origin->id };
	text = writer_of(look->text, sizeof(look->text) - 1);
	write_span(&text, span_first(origin->text, sizeof(look->text) - 1));
	place = writer_of(look->place, sizeof(look->place) - 1);
	write_format(&place, "%.*s:%u:%u", SPAN_ARG(origin->place.file), origin->place.line,
		     origin->place.column);
	looks->open++;
	if (dial_start(dial, origin->id, LOOK_TIMEOUT_MS, on_done, look, &look->attempt) == 0)
		return;
	looks->open--;
	heap_free(look);
}

static bool is_seen(const uint64_t *seen, size_t count, uint64_t id)
{
	for (size_t i = 0; i < count; i++) {
		if (seen[i] == id)
			return true;
	}
	return false;
}

void dialer_look(struct dialer_looks *looks, struct proc_self *self, struct dial *dial)
{
	const struct snapshot *snapshot = proc_snapshot(self);
	uint64_t before[DIALER_LOOKS_MAX];
	size_t before_count = looks->seen_count;

	memcpy(before, looks->seen, sizeof(before));
	looks->seen_count = 0;
	for (size_t i = 0; snapshot && i < snapshot->origin_count; i++) {
		const struct snapshot_origin *origin = &snapshot->origins[i];

		if (looks->seen_count == DIALER_LOOKS_MAX)
			return;
		if (is_seen(looks->seen, looks->seen_count, origin->id))
			continue;
		looks->seen[looks->seen_count++] = origin->id;
		if (!is_seen(before, before_count, origin->id))
			look_at(looks, self, dial, origin);
	}
}
