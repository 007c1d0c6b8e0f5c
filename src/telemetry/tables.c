#include "telemetry/telemetry.h"

const struct telemetry_limit_row telemetry_limits[TELEMETRY_LIMIT_COUNT] = {
#define ROW(id, name_, unit_, number, suffix, status_, help_, settable) \
	[TELEMETRY_LIMIT_##id] = { .name = (name_), \
				   .text = #number #suffix, \
				   .help = (help_), \
				   .value = (number)*TELEMETRY_UNIT_##suffix, \
				   .unit = TELEMETRY_##unit_, \
				   .status = (status_), \
				   .is_settable = (settable) },
#define X(id, name, unit, number, suffix, status, help) \
	ROW(id, name, unit, number, suffix, status, help, true)
	TELEMETRY_LIMITS_SETTABLE(X)
#undef X
#define X(id, name, unit, number, suffix, status, help) \
	ROW(id, name, unit, number, suffix, status, help, false)
		TELEMETRY_LIMITS_FIXED(X)
#undef X
#undef ROW
};

const struct telemetry_end_row telemetry_ends[TELEMETRY_END_COUNT] = {
#define X(id, word_, status_, help_) \
	[TELEMETRY_END_##id] = { .word = (word_), .help = (help_), .status = (status_) },
	TELEMETRY_ENDS(X)
#undef X
};

struct span telemetry_limit_name(enum telemetry_limit limit)
{
	return span_str(telemetry_limits[limit].name);
}
