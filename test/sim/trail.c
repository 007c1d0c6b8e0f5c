#include "trail.h"

#include <string.h>

#include "edge/edge_internal.h"
#include "os/sim/sim.h"

/* Exchanges that were begun and not recorded: those of a process that died never are. */
enum { TRAILS_MAX = 256, TRAIL_SIZE = 512 };

static struct trail {
	const struct exchange *exchange; /* NULL: free */
	int pid;
	uint32_t stage;
	struct writer out;
	char text[TRAIL_SIZE];
} trails[TRAILS_MAX];
static char last[TRAIL_SIZE];

void trail_begin(void)
{
	memset(trails, 0, sizeof(trails));
	last[0] = 0;
}

const char *trail_last(void)
{
	return last;
}

static void begin(struct trail *trail, const struct exchange *exchange)
{
	*trail = (struct trail){ .exchange = exchange,
				 .pid = sim_current(),
				 .stage = EXCHANGE_STAGE_COUNT };
	trail->out = writer_of(trail->text, sizeof(trail->text) - 1);
}

static struct trail *trail_of(const struct exchange *exchange)
{
	struct trail *unused = NULL;

	for (size_t i = 0; i < TRAILS_MAX; i++) {
		struct trail *trail = &trails[i];

		if (trail->exchange == exchange && trail->pid == sim_current())
			return trail;
		if (!trail->exchange || !sim_is_alive(trail->pid))
			unused = trail;
	}
	MUST(unused);
	begin(unused, exchange);
	return unused;
}

static void mark(struct trail *trail, char sign)
{
	if (trail->out.at > trail->out.start && trail->out.at[-1] != sign)
		write_byte(&trail->out, sign);
}

static void note(struct exchange *exchange, uint32_t stage, enum exchange_verdict verdict)
{
	static const char signs[] = { [EXCHANGE_WAIT] = '~',
				      [EXCHANGE_YIELD] = '~',
				      [EXCHANGE_ANSWER] = '!',
				      [EXCHANGE_ABORT] = 'x' };
	struct trail *trail = trail_of(exchange);

	if (stage == EXCHANGE_STAGE_HEAD && trail->stage != stage)
		begin(trail, exchange); /* one of before that was never recorded lay here */
	/* Forward only; an answer in the response half replaces the one before it. */
	MUST(trail->stage == EXCHANGE_STAGE_COUNT || trail->stage <= stage ||
	     stage == EXCHANGE_STAGE_RULES_RESPONSE);
	if (trail->stage != stage) {
		if (trail->stage != EXCHANGE_STAGE_COUNT)
			write_byte(&trail->out, ' ');
		write_str(&trail->out, exchange_stages[stage].name);
		trail->stage = stage;
	}
	if (verdict != EXCHANGE_NEXT)
		mark(trail, signs[verdict]);
	if (stage != EXCHANGE_STAGE_RECORD || verdict != EXCHANGE_NEXT)
		return;
	memcpy(last, trail->text, sizeof(last));
	trail->exchange = NULL;
}

/* The link sends the runner's calls of each stage, and of an interrupt, here first (--wrap). */
#define X(upper, lower) \
	enum exchange_verdict __real_stage_##lower##_run(struct exchange *exchange); \
	enum exchange_verdict __wrap_stage_##lower##_run(struct exchange *exchange); \
	enum exchange_verdict __wrap_stage_##lower##_run(struct exchange *exchange) \
	{ \
		enum exchange_verdict verdict = __real_stage_##lower##_run(exchange); \
\
		note(exchange, EXCHANGE_STAGE_##upper, verdict); \
		return verdict; \
	}
EXCHANGE_STAGES(X)
#undef X

void __real_exchange_interrupt(struct exchange *exchange, uint16_t status, enum telemetry_end end);
void __wrap_exchange_interrupt(struct exchange *exchange, uint16_t status, enum telemetry_end end);

void __wrap_exchange_interrupt(struct exchange *exchange, uint16_t status, enum telemetry_end end)
{
	mark(trail_of(exchange), '^');
	__real_exchange_interrupt(exchange, status, end);
}
