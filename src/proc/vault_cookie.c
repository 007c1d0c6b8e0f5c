/* The keys of sticky cookies: from the folder into the table that all workers read. Only where the configuration keeps
 * somebody: else no file is made. */
#include "proc/vault_internal.h"

enum { LOOK_S = 3600 };

/* The first one's line; NULL: nobody is kept. */
static const struct snapshot_upstream *find_sticky(const struct snapshot *snapshot)
{
	for (size_t i = 0; snapshot && i < snapshot->upstream_count; i++) {
		if (snapshot->upstreams[i].sticky_cookie.len)
			return &snapshot->upstreams[i];
	}
	return NULL;
}

static void publish(struct vault *vault, const struct keys_cookies *cookies)
{
	uint8_t secrets[KEYS_COOKIES_MAX][BALANCE_STICKY_SECRET];

	_Static_assert((int)KEYS_COOKIE_SECRET == (int)BALANCE_STICKY_SECRET, "the same bytes");
	_Static_assert((int)KEYS_COOKIES_MAX <= (int)BALANCE_STICKY_KEYS, "all have room");
	for (size_t i = 0; i < cookies->count; i++)
		memcpy(secrets[i], cookies->keys[i].secret, sizeof(secrets[i]));
	balance_sticky_publish(&vault->shared->cookies,
			       (const uint8_t(*)[BALANCE_STICKY_SECRET])secrets, cookies->count);
	crypto_wipe(secrets, sizeof(secrets));
}

/* 0, or an outcome with task->why. */
static int look(struct vault *vault, struct keys_task *task)
{
	struct keys_cookies cookies;
	int outcome = keys_cookies_ready(task, &cookies);

	vault->cookies_look_s = task->now_s + LOOK_S;
	if (outcome)
		return outcome;
	publish(vault, &cookies);
	crypto_wipe(&cookies, sizeof(cookies));
	return 0;
}

bool vault_cookie_prepare(struct vault *vault, struct proc_self *self,
			  const struct snapshot *snapshot)
{
	const struct snapshot_upstream *sticky = find_sticky(snapshot);
	struct keys_task task;
	struct arena arena;
	int outcome;

	if (!sticky || !vault->shared || vault->is_frozen)
		return true;
	vault_task_begin(vault, &task, &arena);
	outcome = look(vault, &task);
	if (outcome)
		proc_refuse(self, sticky->place.line,
			    task.why.len ? task.why : SPAN("out of memory"));
	else
		vault_notice(self, task.notice);
	vault_task_end(&task);
	return outcome == 0;
}

void vault_cookie_second(struct vault *vault, struct proc_self *self)
{
	const struct snapshot *snapshot = proc_snapshot(self);
	struct keys_task task;
	struct arena arena;

	if (!vault->cookies_look_s || vault->is_frozen)
		return;
	vault_task_begin(vault, &task, &arena);
	/* Far ahead: the clock was moved back. What cannot be renewed now serves on, and is tried in an hour. */
	if ((task.now_s >= vault->cookies_look_s || vault->cookies_look_s - task.now_s > LOOK_S) &&
	    find_sticky(snapshot) && look(vault, &task) == 0)
		vault_notice(self, task.notice);
	vault_task_end(&task);
}
