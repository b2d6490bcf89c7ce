/*
 * A user of the sanlock daemon, through its library, which is found at run time so that no development package is
 * needed. Its leases end with it. It reads one command a line and answers each with one line that begins with sanlock's
 * result code. In "count" it works alone, until it is killed or its input ends.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct event { uint64_t host, generation, event, data; };

static int (*s_register)(void);
static int (*s_restrict)(int, uint32_t);
static int (*s_parse)(char *, void **);
static int (*s_acquire)(int, int, uint32_t, int, void **, void *);
static int (*s_release)(int, int, uint32_t, int, void **);
static int (*s_convert)(int, int, uint32_t, void *);
static int (*s_inquire)(int, int, uint32_t, int *, char **);
static int (*s_request)(uint32_t, uint32_t, void *);
static int (*s_set_lvb)(uint32_t, void *, char *, int);
static int (*s_get_lvb)(uint32_t, void *, char *, int);
static int (*s_reg_event)(const char *, struct event *, uint32_t);
static int (*s_get_event)(int, uint32_t, struct event *, uint64_t *, uint64_t *);
static int (*s_set_event)(const char *, struct event *, uint32_t);

static int sock, events = -1;

static void load(void) {
	void *lib = dlopen("libsanlock.so.1", RTLD_NOW);
	if (!lib) exit(2);
#define FIND(f) if (!(s_##f = dlsym(lib, "sanlock_" #f))) exit(3)
	FIND(register); FIND(restrict); FIND(acquire); FIND(release); FIND(convert); FIND(inquire); FIND(request);
	FIND(set_lvb); FIND(get_lvb); FIND(reg_event); FIND(get_event); FIND(set_event);
	if (!(s_parse = dlsym(lib, "sanlock_str_to_res"))) exit(3);
}

static void *resource(const char *s) {
	void *res;
	char *copy = strdup(s ? s : "");
	if (s_parse(copy, &res) < 0) exit(4);
	free(copy);
	return res;
}

/* version is that of the only lease held. */
static uint64_t version(void) {
	int n = 0;
	char *state = 0, *last;
	uint64_t v = 0;
	if (s_inquire(sock, -1, 0, &n, &state) >= 0 && state && (last = strrchr(state, ':'))) v = strtoull(last + 1, 0, 10);
	free(state);
	return v;
}

static void say(const char *line, int n) { if (write(1, line, n) != n) exit(5); }
#define SAY(...) do { char b[8192]; say(b, snprintf(b, sizeof b, __VA_ARGS__)); } while (0)

/*
 * The counter is one sector: magic, total, version and slot of the last increment, then the number of increments of
 * each slot. Lines: "w VERSION N" before the write of a slot's Nth increment, "d N" after it.
 */
struct counter { uint64_t magic, total, version, slot, own[60]; };
#define COUNTER_MAGIC 0x686f6c6466617374ULL

static int readsector(int fd, void *buf, off_t off) { return pread(fd, buf, 512, off) != 512; }

static void nap(unsigned int *seed, unsigned int max) { if (max) usleep(rand_r(seed) % max); }

/* increment does one under the lease of version v; it returns a complaint, or 0. */
static const char *increment(int fd, off_t off, struct counter *c, struct counter *again, int slot, uint64_t v,
			     unsigned int *seed, unsigned int hold) {
	static uint64_t mine;
	if (readsector(fd, c, off) || c->magic != COUNTER_MAGIC) return "the counter is gone";
	if (c->version >= v) return "a lease of this version or a later one wrote already";
	if (mine && c->own[slot] != mine) return "increments of ours were lost";
	nap(seed, hold);
	c->total++, c->version = v, c->slot = slot, mine = ++c->own[slot];
	SAY("w %llu %llu\n", (unsigned long long)v, (unsigned long long)mine);
	if (pwrite(fd, c, 512, off) != 512) return "writing failed";
	SAY("d %llu\n", (unsigned long long)mine);
	nap(seed, hold);
	if (readsector(fd, again, off) || memcmp(c, again, 512)) return "somebody wrote under our lease";
	return 0;
}

static void count(char *path, char *offset, char *slot, char *res, char *hold) {
	void *r = resource(res), *c, *again;
	unsigned int seed = getpid();
	int fd = open(path, O_RDWR | O_DIRECT | O_SYNC);
	struct pollfd in = { .fd = 0, .events = POLLIN };
	if (fd < 0 || posix_memalign(&c, 4096, 4096) || posix_memalign(&again, 4096, 4096)) exit(6);
	while (!poll(&in, 1, 0)) {
		int rv = s_acquire(sock, -1, 0, 1, &r, 0);
		if (rv < 0) {
			SAY("r %d\n", rv);
			nap(&seed, 5000);
			continue;
		}
		const char *bad = increment(fd, strtoll(offset, 0, 10), c, again, atoi(slot), version(), &seed, atoi(hold));
		if (bad) SAY("v %s\n", bad);
		if ((rv = s_release(sock, -1, 0, 1, &r)) < 0) SAY("v release: %d\n", rv);
		nap(&seed, 2000);
	}
}

static void event(int ms) {
	struct pollfd p = { .fd = events, .events = POLLIN };
	struct event e;
	uint64_t from, generation;
	int rv = -110;
	if (poll(&p, 1, ms) == 1) rv = s_get_event(events, 0, &e, &from, &generation);
	if (rv < 0) SAY("%d\n", rv);
	else SAY("0 %llu %llu %llu %llu %llu\n", (unsigned long long)from, (unsigned long long)generation,
		 (unsigned long long)e.generation, (unsigned long long)e.event, (unsigned long long)e.data);
}

static void command(char **a) {
	char *name = a[0], lvb[512] = "";
	void *res;
	int n = 0, rv;
	char *state = 0;
	if (!strcmp(name, "acquire")) {
		res = resource(a[2]);
		rv = s_acquire(sock, -1, strtoul(a[1], 0, 0), 1, &res, 0);
		SAY("%d %llu\n", rv, (unsigned long long)(rv < 0 ? 0 : version()));
	} else if (!strcmp(name, "release")) {
		res = resource(a[1]);
		SAY("%d\n", s_release(sock, -1, 0, 1, &res));
	} else if (!strcmp(name, "convert")) {
		SAY("%d\n", s_convert(sock, -1, 0, resource(a[1])));
	} else if (!strcmp(name, "inquire")) {
		rv = s_inquire(sock, -1, 0, &n, &state);
		SAY("%d %d %s\n", rv, n, state ? state : "");
	} else if (!strcmp(name, "request")) { /* flags force resource */
		SAY("%d\n", s_request(strtoul(a[1], 0, 0), strtoul(a[2], 0, 0), resource(a[3])));
	} else if (!strcmp(name, "restrict")) {
		SAY("%d\n", s_restrict(sock, strtoul(a[1], 0, 0)));
	} else if (!strcmp(name, "setlvb")) {
		strncpy(lvb, a[2], sizeof lvb - 1);
		SAY("%d\n", s_set_lvb(0, resource(a[1]), lvb, sizeof lvb));
	} else if (!strcmp(name, "getlvb")) {
		rv = s_get_lvb(0, resource(a[1]), lvb, sizeof lvb);
		SAY("%d %.*s\n", rv, (int)sizeof lvb, lvb);
	} else if (!strcmp(name, "listen")) {
		events = s_reg_event(a[1], 0, 0);
		SAY("%d\n", events < 0 ? events : 0);
	} else if (!strcmp(name, "event")) {
		event(atoi(a[1]));
	} else if (!strcmp(name, "send")) { /* lockspace host generation event data */
		struct event e = { strtoull(a[2], 0, 0), strtoull(a[3], 0, 0), strtoull(a[4], 0, 0), strtoull(a[5], 0, 0) };
		SAY("%d\n", s_set_event(a[1], &e, 0));
	} else if (!strcmp(name, "count")) { /* path offset slot resource hold-us */
		count(a[1], a[2], a[3], a[4], a[5]);
	} else {
		SAY("-22\n");
	}
}

int main(void) {
	char line[8192];
	load();
	if ((sock = s_register()) < 0) {
		SAY("%d\n", sock);
		return 1;
	}
	SAY("0 %d\n", getpid());
	setvbuf(stdin, 0, _IONBF, 0);
	while (fgets(line, sizeof line, stdin)) {
		char *a[8] = { "", "", "", "", "", "", "", "" }, *save = 0;
		int n = 0;
		for (char *w = strtok_r(line, " \n", &save); w && n < 8; w = strtok_r(0, " \n", &save)) a[n++] = w;
		if (n) command(a);
	}
	return 0;
}
