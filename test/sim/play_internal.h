/* What the files of a play share. */
#pragma once

#include "play.h"

#define PLAY_CONF "/etc/portcullis.conf"

/* play.c */
struct span play_text(struct play *play, struct span name); /* of `conf NAME` */
bool play_run_until(struct play *play, bool (*is_so)(struct play *play, void *owner), void *owner,
		    double seconds);
/* commands.c. Of the process that runs: is it the command, and its main(). */
bool play_is_command(void);
int play_command_main(void);
void play_apply(struct play *play, struct span rest);
void play_command(struct play *play, const char *name);

struct os_address play_address(uint16_t port); /* of this machine */
/* peers.c */
void play_poll_client(struct play_client *client);
void play_poll_origin(struct play *play);
/* names.c */
void play_poll_resolver(struct play *play);
void play_drop_resolver(struct play *play);
/* peers.c */
void play_origin_drop(struct play_origin_connection *connection);
