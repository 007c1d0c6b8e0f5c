/* `portcullis ca`: what its files share. */
#pragma once

#include "command/command.h"
#include "ipc/ipc.h"
#include "os/os.h"
#include "proc/proc.h"

/* The vault, whoever runs it: the service, or this command. */
struct ca_vault {
	struct arena arena; /* for all that comes back */
	struct span state;  /* path of its folder */
	struct ipc_channel channel;
	bool is_own;             /* started by this command */
	struct proc_child child; /* then it, and the folder and lock that it works under */
	int state_fd, lock_fd;
};

/* With is_created the state folder is made where it is missing; without, -ENOENT is the only failure that is not
 * told. 0, COMMAND_FAULT (told), -ENOENT. */
int ca_vault_open(struct ca_vault *vault, const char *config_file, bool is_created) MUST_CHECK;
void ca_vault_close(struct ca_vault *vault);
/* Sends what was asked (a message of IPC_COMMAND) and gathers the answer's text. An exit code; what the vault has to
 * say is printed. */
int ca_vault_ask(struct ca_vault *vault, enum ipc_number number, const void *body, struct span tail,
		 struct span *ret_text) MUST_CHECK;

/* `ca trust`: gives the root, PEM, of the state folder to the system's store and the invoking user's. An exit
 * code. */
int ca_trust(struct arena *arena, struct span state, struct span root_pem) MUST_CHECK;
/* Who typed the command: behind sudo, the user before it. */
struct ca_user {
	const char *name; /* behind sudo; NULL: the caller itself */
	struct span home; /* empty where there is none */
};
int ca_user_find(struct arena *arena, struct ca_user *ret_user) MUST_CHECK;
