/* The way of an exchange through the rows of `exchange_stages`, for scripts: names in the order in which they were
 * entered, each marked with what happened there beside NEXT: `~` it waited or gave its turn away, `!` it answered in
 * the others' stead, `^` it was interrupted from outside, `x` it ended the connection. */
#pragma once

#include "base/base.h"

void trail_begin(void);       /* in a new world */
const char *trail_last(void); /* of the exchange that was recorded last; "": none */
