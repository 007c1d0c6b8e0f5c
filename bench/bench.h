/* What floor.c and load.c share. Both stand alone: they link none of the program's objects. */
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BENCH_GROUPS "X25519MLKEM768:X25519:P-256:P-384"
enum { BENCH_BODY = 1024 };

static inline void bench_must(bool condition, const char *what)
{
	if (!condition) {
		fprintf(stderr, "%s: failed\n", what);
		exit(1);
	}
}

static inline struct sockaddr_in bench_address(const char *port)
{
	long number = strtol(port, NULL, 10);

	bench_must(number > 0 && number < 65536, port);
	return (struct sockaddr_in){ .sin_family = AF_INET,
				     .sin_port = htons((uint16_t)number),
				     .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

static inline size_t bench_answer(char *buf, size_t size)
{
	int len = snprintf(buf, size,
			   "HTTP/1.1 200 OK\r\nServer: floor\r\nContent-Type: text/plain\r\n"
			   "Content-Length: %d\r\n\r\n",
			   BENCH_BODY);

	bench_must(len > 0 && (size_t)len + BENCH_BODY < size, "answer");
	memset(buf + len, 'x', BENCH_BODY);
	return (size_t)len + BENCH_BODY;
}
