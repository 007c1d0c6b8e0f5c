/* What the files of the HTTP/1.1 codec share. */
#pragma once

#include "codec/codec.h"

/* Steps of a server or client between calls. */
enum h1_step {
	H1_CLOSED,
	H1_READY, /* between messages: the next byte begins a head */
	H1_IN_HEAD,
	H1_IN_BODY,
	H1_AT_END, /* END is still to be told */
	H1_HELD,
};

void h1_head_init(struct codec_h1_head *head, bool is_response);
/* Takes lines off *input. CODEC_H1_HEAD when the head is whole, CODEC_H1_NEED_MORE,
 * CODEC_H1_ERROR with *ret_fault, -ENOMEM. The outcome does not depend on how the bytes were cut
 * into inputs. */
int h1_head_next(struct codec_h1_head *head, const struct codec_h1_limits *limits,
		 struct span *input, struct arena *arena,
		 enum codec_h1_fault *ret_fault) MUST_CHECK;

void h1_reader_init(struct codec_h1_reader *reader, enum codec_h1_framing framing, uint64_t length,
		    const struct codec_h1_limits *limits);
/* BODY, END, NEED_MORE, NEED_ROOM or ERROR. */
int h1_reader_next(struct codec_h1_reader *reader, struct span *input, size_t room,
		   struct codec_h1_event *ret) MUST_CHECK;
