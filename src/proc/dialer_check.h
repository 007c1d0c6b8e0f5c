/* The dialer's checks: each origin of an upstream with `check` is asked for its path, once for the whole machine, and
 * every worker is told what came of it. An origin that several upstreams check is down while one of the checks says so.
 *
 * What is known survives changes of the configuration for as long as the check stays the same (origin and all of its
 * words). A new one decides with its first answer; later ones need `rise` or `fall` in a row. */
#pragma once

#include "dial/dial.h"
#include "proc/proc.h"
#include "upstream/upstream.h"

struct dialer_checks;

int dialer_checks_new(struct proc_self *self, struct dial *dial,
		      struct dialer_checks **ret_checks) MUST_CHECK;
/* With a commit: this snapshot's checks, and the roots for https origins. -ENOMEM. */
int dialer_checks_commit(struct dialer_checks *checks, const struct snapshot *snapshot) MUST_CHECK;
/* A worker's channel is there (again): it is told all that is known. */
void dialer_checks_tell(struct dialer_checks *checks, struct ipc_channel *worker);
/* All members of all upstreams to a command that asks, and that this was all. */
void dialer_checks_list(struct dialer_checks *checks, struct ipc_channel *command);
/* At each turn's end. */
void dialer_checks_turn(struct dialer_checks *checks);
