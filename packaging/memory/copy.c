/* memcpy and memmove for x86-64, instead of musl's, which begin with a string instruction however little there is to copy: tens of
 * nanoseconds, dozens of times a request. Up to 2 KiB in vectors that every x86-64 has, everything of a piece read before any of
 * it is written, so that pieces may overlap themselves; beyond that, and where nothing overlaps, by the instruction that
 * processors are good at then (Intel's optimization manual, "Enhanced REP MOVSB"). The linker's option `--wrap` gives them to
 * whoever asks for memcpy and memmove. */

#include <stddef.h>
#include <stdint.h>

typedef int64_t two __attribute__((vector_size(16), aligned(1), may_alias));
typedef uint64_t eight __attribute__((aligned(1), may_alias));
typedef uint32_t four __attribute__((aligned(1), may_alias));
typedef uint16_t short_ __attribute__((aligned(1), may_alias));

void *__wrap_memcpy(void *restrict to, const void *restrict from, size_t length);
void *__wrap_memmove(void *to, const void *from, size_t length);

#define AS(type, at) (*(type *)(at))
#define LONG 2048

/* Up to 128 bytes, which may overlap. */
static inline void copy_short(char *to, const char *from, size_t length) {
	const char *end = from + length;
	char *to_end = to + length;
	if (length > 64) {
		two a = AS(const two, from), b = AS(const two, from + 16), c = AS(const two, from + 32), d = AS(const two, from + 48);
		two e = AS(const two, end - 64), f = AS(const two, end - 48), g = AS(const two, end - 32), h = AS(const two, end - 16);
		AS(two, to) = a, AS(two, to + 16) = b, AS(two, to + 32) = c, AS(two, to + 48) = d;
		AS(two, to_end - 64) = e, AS(two, to_end - 48) = f, AS(two, to_end - 32) = g, AS(two, to_end - 16) = h;
	} else if (length > 32) {
		two a = AS(const two, from), b = AS(const two, from + 16), c = AS(const two, end - 32), d = AS(const two, end - 16);
		AS(two, to) = a, AS(two, to + 16) = b, AS(two, to_end - 32) = c, AS(two, to_end - 16) = d;
	} else if (length >= 16) {
		two a = AS(const two, from), b = AS(const two, end - 16);
		AS(two, to) = a, AS(two, to_end - 16) = b;
	} else if (length >= 8) {
		eight a = AS(const eight, from), b = AS(const eight, end - 8);
		AS(eight, to) = a, AS(eight, to_end - 8) = b;
	} else if (length >= 4) {
		four a = AS(const four, from), b = AS(const four, end - 4);
		AS(four, to) = a, AS(four, to_end - 4) = b;
	} else if (length >= 2) {
		short_ a = AS(const short_, from), b = AS(const short_, end - 2);
		AS(short_, to) = a, AS(short_, to_end - 2) = b;
	} else if (length) {
		*to = *from;
	}
}

/* More than 64 bytes, from the first to the last: they may overlap if they go down. */
static inline void copy_down(char *to, const char *from, size_t length) {
	const char *end = from + length;
	char *to_end = to + length;
	two e = AS(const two, end - 64), f = AS(const two, end - 48), g = AS(const two, end - 32), h = AS(const two, end - 16);
	for (; end - from > 64; from += 64, to += 64) {
		two a = AS(const two, from), b = AS(const two, from + 16), c = AS(const two, from + 32), d = AS(const two, from + 48);
		AS(two, to) = a, AS(two, to + 16) = b, AS(two, to + 32) = c, AS(two, to + 48) = d;
	}
	AS(two, to_end - 64) = e, AS(two, to_end - 48) = f, AS(two, to_end - 32) = g, AS(two, to_end - 16) = h;
}

/* More than 64 bytes, from the last to the first: they may overlap if they go up. */
static inline void copy_up(char *to, const char *from, size_t length) {
	const char *end = from + length;
	char *to_end = to + length;
	two a = AS(const two, from), b = AS(const two, from + 16), c = AS(const two, from + 32), d = AS(const two, from + 48);
	for (; end - from > 64; end -= 64, to_end -= 64) {
		two e = AS(const two, end - 64), f = AS(const two, end - 48), g = AS(const two, end - 32), h = AS(const two, end - 16);
		AS(two, to_end - 64) = e, AS(two, to_end - 48) = f, AS(two, to_end - 32) = g, AS(two, to_end - 16) = h;
	}
	AS(two, to) = a, AS(two, to + 16) = b, AS(two, to + 32) = c, AS(two, to + 48) = d;
}

void *__wrap_memcpy(void *restrict to, const void *restrict from, size_t length) {
	if (length <= 128) {
		copy_short(to, from, length);
	} else if (length < LONG) {
		copy_down(to, from, length);
	} else {
		void *at = to;
		__asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(length) : : "memory");
	}
	return to;
}

void *__wrap_memmove(void *to, const void *from, size_t length) {
	uintptr_t up = (uintptr_t)to - (uintptr_t)from, down = (uintptr_t)from - (uintptr_t)to;
	if (length <= 128)
		copy_short(to, from, length);
	else if (up >= length && down >= length)
		return __wrap_memcpy(to, from, length);
	else if (up < length)
		copy_up(to, from, length);
	else
		copy_down(to, from, length);
	return to;
}
