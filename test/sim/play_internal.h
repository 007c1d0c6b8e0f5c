/* What the files of a play share. */
#pragma once

#include "play.h"

struct os_address play_address(uint16_t port); /* of this machine */
/* peers.c */
void play_poll_client(struct play_client *client);
void play_poll_origin(struct play *play);
/* names.c */
void play_poll_resolver(struct play *play);
void play_drop_resolver(struct play *play);
/* peers.c */
void play_origin_drop(struct play_origin_connection *connection);
