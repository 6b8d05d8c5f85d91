/* Tries what copy.c gives instead of memcpy and memmove: each length that takes another way, at many distances, against bytes copied
 * one by one; and that nothing is read or written beside what is asked for. */

#define _DEFAULT_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

void *__wrap_memcpy(void *restrict to, const void *restrict from, size_t length);
void *__wrap_memmove(void *to, const void *from, size_t length);

#define EVERY 300
#define LONGEST 4200
#define PAGE 4096
#define ROOM (2 * LONGEST + 300)

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

/* Two pages between two that nobody may touch. */
static unsigned char *arena(void) {
	unsigned char *all = mmap(NULL, 4 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return all != MAP_FAILED && mprotect(all + PAGE, 2 * PAGE, PROT_READ | PROT_WRITE) == 0 ? all + PAGE : NULL;
}

/* From one edge to another: to go beyond ends the program. */
static int try_edges(unsigned char *from, unsigned char *to, size_t length) {
	for (int edges = 0; edges < 4; edges++) {
		unsigned char *a = edges & 1 ? from : from + 2 * PAGE - length, *b = edges & 2 ? to : to + 2 * PAGE - length;
		for (int moves = 0; moves < 2; moves++) {
			for (size_t i = 0; i < length; i++)
				a[i] = before[i], b[i] = ~before[i];
			(moves ? __wrap_memmove : __wrap_memcpy)(b, a, length);
			if (memcmp(b, before, length) != 0) {
				printf("%zu bytes at an edge\n", length);
				return 1;
			}
		}
	}
	return 0;
}

int main(void) {
	unsigned state = 1;
	for (size_t i = 0; i < ROOM; i++)
		before[i] = (state = state * 1103515245 + 12345) >> 16;
	unsigned char *near = arena(), *far = arena();
	if (!near || !far)
		return 1;
	const size_t distances[] = {0, 1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 47, 63, 64, 65, 100, 128, 200, 256, 1000, 2048, LONGEST};
	size_t tried = 0;
	for (size_t length = 0; length <= LONGEST; length += length < EVERY ? 1 : length < 2040 || length > 2060 ? 19 : 1) {
		if (try_edges(near, far, length))
			return 1;
		for (size_t d = 0; d < sizeof distances / sizeof *distances; d++, tried += 4)
			for (size_t offset = 0; offset < 12; offset += 7)
				if (try(100 + offset + distances[d], 100 + offset, length) || try(100 + offset, 100 + offset + distances[d], length))
					return 1;
	}
	printf("%zu moves\n", tried);
	return tried == 0;
}
