/* The table of modes. */
#include <stdio.h>
#include <stdlib.h>

#include "origin.h"

size_t modes_read(const char *path, struct mode_row rows[static MODES_MAX])
{
	FILE *file = fopen(path, "re");
	char line[512];
	size_t count = 0;

	if (!file) {
		perror(path);
		exit(2);
	}
	while (fgets(line, sizeof(line), file)) {
		struct mode_row *row = &rows[count];

		if (line[0] == '#' || line[0] == '\n')
			continue;
		if (count == MODES_MAX ||
		    sscanf(line, "%31s %15s %15s %lf %15s %63s %7s %7s %7s", row->name,
			   row->methods, row->pool, &row->weight, row->status, row->end,
			   row->origin, row->client, row->body) != 9) {
			fprintf(stderr, "%s: no row: %s", path, line);
			exit(2);
		}
		count++;
	}
	fclose(file);
	return count;
}
