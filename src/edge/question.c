/* Questions to keyholder, files and dialer: one table for all kinds (law 3). A question is named by
 * {index, serial}; cancelling or answering raises the serial, so a late answer finds nobody. */
#include "edge/edge_internal.h"

#include <string.h>

enum { QUESTION_NONE = UINT32_MAX };

static struct ipc_channel **question_channel(struct edge *edge, enum ipc_kind peer, uint32_t slot)
{
	switch (peer) {
	case IPC_KEYHOLDER:
		return &edge->keyholder;
	case IPC_FILES:
		return &edge->files[slot < IPC_FILES_MAX ? slot : 0];
	case IPC_DIALER:
		return &edge->dialer;
	case IPC_SUPERVISOR:
	case IPC_WORKER:
	case IPC_VAULT:
	case IPC_LOG:
	case IPC_CHECK:
	case IPC_COMMAND:
	case IPC_KIND_COUNT:
		break;
	}
	base_fail(__FILE__, __LINE__, "a kind that is asked");
}

static struct edge_question *question_find(struct edge *edge, struct ipc_question wanted)
{
	struct edge_question *question;

	if (wanted.index >= edge->question_capacity)
		return NULL;
	question = &edge->questions[wanted.index];
	return question->kind && question->serial == wanted.serial ? question : NULL;
}

static struct ipc_question question_name(uint64_t handle)
{
	return (struct ipc_question){ .index = (uint32_t)handle - 1,
				      .serial = (uint32_t)(handle >> 32) };
}

static void question_release(struct edge *edge, struct edge_question *question)
{
	question->kind = NULL;
	question->owner = NULL;
	question->serial++;
	question->next_free = edge->question_free;
	edge->question_free = question->index;
	edge->question_open--;
}

static struct edge_question *question_take(struct edge *edge)
{
	void *table = edge->questions;
	size_t capacity = edge->question_capacity;
	struct edge_question *question;

	if (edge->question_open >= telemetry_limits[TELEMETRY_LIMIT_QUESTIONS].value) {
		telemetry_count_limit(edge->counters, TELEMETRY_LIMIT_QUESTIONS);
		return NULL;
	}
	if (edge->question_free == QUESTION_NONE || !edge->questions) {
		uint32_t first = edge->question_capacity;

		if (!heap_grow(&table, &capacity, (size_t)first + 64, sizeof(*edge->questions)))
			return NULL;
		edge->questions = table;
		edge->question_capacity = (uint32_t)capacity;
		edge->question_free = QUESTION_NONE;
		for (uint32_t i = (uint32_t)capacity; i-- > first;) {
			edge->questions[i] =
				(struct edge_question){ .index = i,
							.next_free = edge->question_free };
			edge->question_free = i;
		}
	}
	question = &edge->questions[edge->question_free];
	edge->question_free = question->next_free;
	edge->question_open++;
	return question;
}

/* Without a channel the question waits for one: its process is being started again. */
static int question_send(struct edge *edge, struct edge_question *question)
{
	struct ipc_channel *channel = *question_channel(edge, question->kind->peer, question->slot);

	if (!channel || !ipc_channel_is_open(channel))
		return 0;
	question->asked++;
	return question->kind->ask(edge, question);
}

int question_ask(struct edge *edge, const struct edge_question_kind *kind, void *owner,
		 uint64_t *ret_question)
{
	struct edge_question *question = question_take(edge);
	int failed;

	if (!question)
		return -ENOMEM;
	question->kind = kind;
	question->owner = owner;
	question->asked = 0;
	question->slot = kind->slot ? kind->slot(edge, owner) : 0;
	*ret_question = (uint64_t)question->serial << 32 | ((uint64_t)question->index + 1);
	failed = question_send(edge, question);
	if (failed) {
		if (failed == IPC_FULL)
			telemetry_count_limit(edge->counters, TELEMETRY_LIMIT_CHANNEL_QUEUE);
		*ret_question = 0;
		question_release(edge, question);
		return -EAGAIN;
	}
	return 0;
}

void question_cancel(struct edge *edge, uint64_t handle)
{
	struct edge_question *question = handle ? question_find(edge, question_name(handle)) : NULL;
	struct ipc_channel *channel;

	if (!question)
		return;
	channel = *question_channel(edge, question->kind->peer, question->slot);
	if (question->asked && question->kind->peer != IPC_KEYHOLDER && channel &&
	    ipc_channel_is_open(channel)) {
		struct ipc_cancel cancel = { .question = question_name(handle) };

		/* Only a courtesy: an answer that comes all the same finds no question. */
		if (ipc_send(channel, IPC_MESSAGE_cancel, &cancel, SPAN_NONE, NULL, 0) < 0)
			channel->broken = true;
	}
	question_release(edge, question);
}

static void question_finish(struct edge *edge, struct edge_question *question,
			    struct ipc_message *message)
{
	const struct edge_question_kind *kind = question->kind;
	void *owner = question->owner;

	question_release(edge, question);
	kind->answer(edge, owner, message);
}

/* Every answer begins with the question it answers. */
void edge_message(struct edge *edge, struct ipc_channel *channel, struct ipc_message *message)
{
	struct ipc_question name = *(const struct ipc_question *)message->body;
	struct edge_question *question;

	if (message->number == IPC_MESSAGE_health) {
		edge_health(edge, message);
		return;
	}
	if (message->number == IPC_MESSAGE_address_refused) {
		edge_address_refused(edge, message);
		return;
	}
	if (message->number == IPC_MESSAGE_addresses_cut) {
		edge_addresses_cut(edge, message);
		return;
	}
	if (message->number == IPC_MESSAGE_origin_addresses) {
		edge_origin_addresses(edge, message);
		return;
	}
	question = question_find(edge, name);

	/* The keyholder's slot is the worker's own. */
	if (question && question->kind->peer == channel->peer &&
	    (channel->peer != IPC_FILES || question->slot == channel->peer_slot))
		question_finish(edge, question, message);
}

void edge_unlink(struct edge *edge, enum ipc_kind kind, uint32_t slot)
{
	*question_channel(edge, kind, slot) = NULL;
}

void edge_link(struct edge *edge, enum ipc_kind kind, struct ipc_channel *channel)
{
	uint32_t slot = kind == IPC_FILES ? channel->peer_slot : 0;

	*question_channel(edge, kind, slot) = channel;
	for (uint32_t i = 0; i < edge->question_capacity; i++) {
		struct edge_question *question = &edge->questions[i];

		if (!question->kind || question->kind->peer != kind || question->slot != slot)
			continue;
		/* Asked again once: a question that ends its helper twice is answered `failed`. */
		if (question->asked)
			telemetry_count(edge->counters, TELEMETRY_COUNTER_QUESTIONS_ASKED_AGAIN);
		if (question->asked >= 2 || question_send(edge, question))
			question_finish(edge, question, NULL);
	}
}

/* ---- Which of `files` has which root ------------------------------------------------------------------------ */

/* Who is not named is in slot 0. */
int root_slots_stage(struct edge *edge, struct span bytes)
{
	size_t count = bytes.len / sizeof(*edge->root_slots);
	struct ipc_root_slot *slots = heap_alloc((count + 1) * sizeof(*slots));

	if (!slots)
		return -ENOMEM;
	if (count)
		memcpy(slots, bytes.ptr, count * sizeof(*slots));
	heap_free(edge->staged_root_slots);
	edge->staged_root_slots = slots;
	edge->staged_root_slot_count = count;
	return 0;
}

uint32_t edge_root_slot(const struct edge *edge, uint64_t root)
{
	for (size_t i = 0; i < edge->root_slot_count; i++) {
		if (edge->root_slots[i].root == root)
			return edge->root_slots[i].slot % IPC_FILES_MAX;
	}
	return 0;
}

void root_slots_take(struct edge *edge)
{
	if (!edge->staged_root_slots)
		return;
	heap_free(edge->root_slots);
	edge->root_slots = TAKE(edge->staged_root_slots);
	edge->root_slot_count = edge->staged_root_slot_count;
}

void question_fini(struct edge *edge)
{
	heap_free(edge->questions);
}
