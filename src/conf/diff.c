/* diff: what two checked trees mean differently. Block by block: statements with the same words belong together wherever
 * they stand; of the rest those of one row are one that was changed. Words of a list are compared like statements. */
#include "conf/conf_internal.h"

struct item {
	struct span line; /* its words in the canonical way, without a block */
	uint64_t hash;
	struct conf_place place;
	const struct conf_statement *statement; /* NULL: a word of a list */
	size_t partner;                         /* index in the other list + 1; 0: none */
	bool is_moved;
};

struct items {
	struct item *list;
	size_t count;
};

struct diff {
	struct arena *arena;
	struct conf_difference **tail;
	bool is_out_of_memory;
};

static bool is_list(const struct conf_statement *block)
{
	return block->row && (block->row->block == CONF_BLOCK_LIST ||
			      block->row->block == CONF_BLOCK_LIST_OPTIONAL);
}

static bool has_order(const struct conf_statement *block)
{
	return block && !is_list(block) && !(block->row && block->row->block == CONF_BLOCK_PAIRS);
}

static void set_item(struct diff *diff, struct item *item, struct span line,
		     struct conf_place place)
{
	item->line = line;
	item->hash = hash_id(line);
	item->place = place;
	diff->is_out_of_memory |= !line.ptr;
}

static struct items gather(struct diff *diff, const struct conf_statement *first,
			   const struct conf_statement *block)
{
	bool of_words = block && is_list(block);
	struct items items = { .count = of_words ? block->list_count : 0 };

	for (const struct conf_statement *s = of_words ? NULL : first; s; s = s->next)
		items.count++;
	items.list = arena_array(diff->arena, struct item, items.count + 1);
	if (!items.list) {
		diff->is_out_of_memory = true;
		return (struct items){ 0 };
	}
	struct item *item = items.list;
	for (size_t i = 0; of_words && i < items.count; i++)
		set_item(diff, item++, block->list[i].word->text, block->list[i].word->place);
	for (const struct conf_statement *s = of_words ? NULL : first; s; s = s->next, item++) {
		set_item(diff, item, conf_canonical(s, false, diff->arena), s->place);
		item->statement = s;
	}
	return items;
}

static void pair(struct items *old, size_t i, struct items *new, size_t k)
{
	old->list[i].partner = k + 1;
	new->list[k].partner = i + 1;
}

/* The search goes on behind the last one that was found: most stand in the same order. */
static void pair_equal(struct items *old, struct items *new)
{
	size_t at = 0, furthest = 0;

	for (size_t k = 0; k < new->count; k++) {
		for (size_t tries = 0; tries < old->count; tries++, at++) {
			size_t i = at % old->count;

			if (old->list[i].partner || old->list[i].hash != new->list[k].hash)
				continue;
			pair(old, i, new, k);
			new->list[k].is_moved = i < furthest;
			furthest = i > furthest ? i : furthest;
			at = i + 1;
			break;
		}
	}
}

/* Two that are not equal and yet one thing: of a block its first name must be the same. */
static bool is_same_thing(const struct conf_statement *a, const struct conf_statement *b)
{
	if (!a || !b || a->row != b->row || !span_equal(a->words[0].text, b->words[0].text))
		return false;
	if (!a->has_block || !b->has_block)
		return true;
	return a->word_count > 1 && b->word_count > 1 &&
	       span_equal(a->words[1].text, b->words[1].text);
}

static void pair_changed(struct items *old, struct items *new)
{
	for (size_t k = 0; k < new->count; k++) {
		for (size_t i = 0; !new->list[k].partner &&i < old->count; i++) {
			if (!old->list[i].partner &&
			    is_same_thing(old->list[i].statement, new->list[k].statement))
				pair(old, i, new, k);
		}
	}
}

static void tell(struct diff *diff, enum conf_difference_kind kind, const struct item *item,
		 const struct conf_statement *block, struct span was)
{
	struct conf_difference *difference = arena_new(diff->arena, struct conf_difference);

	if (!difference) {
		diff->is_out_of_memory = true;
		return;
	}
	*difference = (struct conf_difference){
		.kind = kind, .place = item->place, .block = block, .line = item->line, .was = was
	};
	/* What is there or gone as a whole is told as a whole. */
	if (item->statement && kind != CONF_CHANGED)
		difference->line = conf_canonical(item->statement, kind != CONF_MOVED, diff->arena);
	diff->is_out_of_memory |= !difference->line.ptr;
	*diff->tail = difference;
	diff->tail = &difference->next;
}

static void compare(struct diff *diff, const struct conf_statement *old_first,
		    const struct conf_statement *old_block, const struct conf_statement *new_first,
		    const struct conf_statement *new_block)
{
	struct items old = gather(diff, old_first, old_block);
	struct items new = gather(diff, new_first, new_block);

	if (diff->is_out_of_memory)
		return;
	pair_equal(&old, &new);
	pair_changed(&old, &new);
	for (size_t i = 0; i < old.count; i++) {
		if (!old.list[i].partner)
			tell(diff, CONF_REMOVED, &old.list[i], old_block, SPAN_NONE);
	}
	for (size_t k = 0; k < new.count && !diff->is_out_of_memory; k++) {
		const struct item *item = &new.list[k];
		const struct item *was = item->partner ? &old.list[item->partner - 1] : NULL;

		if (!was)
			tell(diff, CONF_ADDED, item, new_block, SPAN_NONE);
		else if (was->hash != item->hash)
			tell(diff, CONF_CHANGED, item, new_block, was->line);
		else if (item->is_moved && has_order(new_block))
			tell(diff, CONF_MOVED, item, new_block, SPAN_NONE);
		if (was && item->statement)
			compare(diff, was->statement->first, was->statement, item->statement->first,
				item->statement);
	}
}

int conf_diff(const struct conf_tree *old_tree, const struct conf_tree *new_tree,
	      struct arena *arena, struct conf_difference **ret_first)
{
	struct conf_difference *first = NULL;
	struct diff diff = { .arena = arena, .tail = &first };

	compare(&diff, old_tree->first, NULL, new_tree->first, NULL);
	if (diff.is_out_of_memory)
		return -ENOMEM;
	*ret_first = first;
	return 0;
}
