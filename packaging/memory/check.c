/* Tries what copy.c gives instead of memcpy and memmove at every length and distance that takes another way, against bytes copied one by one. */

#include <stdio.h>
#include <string.h>

void *__wrap_memcpy(void *restrict to, const void *restrict from, size_t length);
void *__wrap_memmove(void *to, const void *from, size_t length);

#define ROOM 9000

static unsigned char before[ROOM], after[ROOM], expected[ROOM];

static int differs(const char *name, size_t to, size_t from, size_t length, const void *returned) {
	if (returned == after + to && memcmp(after, expected, ROOM) == 0)
		return 0;
	printf("%s of %zu bytes from %zu to %zu\n", name, length, from, to);
	return 1;
}

static int try(size_t to, size_t from, size_t length) {
	for (size_t i = 0; i < ROOM; i++)
		after[i] = expected[i] = before[i];
	for (size_t i = 0; i < length; i++)
		expected[to + i] = before[from + i];
	if (differs("memmove", to, from, length, __wrap_memmove(after + to, after + from, length)))
		return 1;
	if (to < from + length && from < to + length)
		return 0;
	for (size_t i = 0; i < length; i++)
		after[to + i] = before[to + i];
	return differs("memcpy", to, from, length, __wrap_memcpy(after + to, after + from, length));
}

int main(void) {
	unsigned state = 1;
	for (size_t i = 0; i < ROOM; i++)
		before[i] = (state = state * 1103515245 + 12345) >> 16;
	const size_t lengths[] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 95, 127, 128, 129, 130, 191, 192, 193,
		255, 256, 257, 1000, 2047, 2048, 2049, 4000};
	const size_t distances[] = {0, 1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 47, 63, 64, 65, 100, 128, 200, 256, 1000, 2048, 4500};
	size_t tried = 0;
	for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++)
		for (size_t d = 0; d < sizeof distances / sizeof *distances; d++)
			for (size_t offset = 0; offset < 17; offset += 4, tried += 2)
				if (try(100 + offset + distances[d], 100 + offset, lengths[l]) || try(100 + offset, 100 + offset + distances[d], lengths[l]))
					return 1;
	printf("%zu moves\n", tried);
	return tried == 0;
}
