/*
 * Preloaded into the sanlock daemon. It lets the daemon start where it may not raise its limits, as in containers, and
 * lets a test kill or stall it at a chosen write: the page that HOLDFAST_INTEROP_HOOK names is shared with the test.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

enum { OFF, ARMED, FIRED };
enum { KILL_BEFORE = 1, KILL_AFTER, STALL };

struct hook {
	volatile uint64_t state;
	volatile uint64_t from, to; /* only writes that begin in [from, to) */
	volatile uint64_t pass;     /* so many of them go through first */
	volatile uint64_t action;
	volatile uint64_t go;       /* ends a stall */
	volatile uint64_t seen;     /* matching writes since armed */
};

static struct hook *hook;
static int (*next_submit)(void *, long, struct iocb **);

int setrlimit(__rlimit_resource_t r, const struct rlimit *l) { (void)r; (void)l; return 0; }
int mlockall(int flags) { (void)flags; return 0; }

__attribute__((constructor)) static void start(void) {
	const char *path = getenv("HOLDFAST_INTEROP_HOOK");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	next_submit = dlsym(RTLD_NEXT, "io_submit");
	if (fd < 0) return;
	hook = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (hook == MAP_FAILED) hook = 0;
	close(fd);
}

/* fires says whether this write is the chosen one. Exactly one is. */
static int fires(struct iocb *cb) {
	if (!hook || hook->state != ARMED || cb->aio_lio_opcode != IOCB_CMD_PWRITE) return 0;
	if ((uint64_t)cb->aio_offset < hook->from || (uint64_t)cb->aio_offset >= hook->to) return 0;
	if (__sync_fetch_and_add(&hook->seen, 1) != hook->pass) return 0;
	hook->state = FIRED;
	return 1;
}

int io_submit(void *ctx, long n, struct iocb **cbs) {
	int chosen = 0, rv;
	for (long i = 0; i < n; i++) chosen |= fires(cbs[i]);
	if (chosen && hook->action == KILL_BEFORE) kill(getpid(), SIGKILL);
	if (chosen && hook->action == STALL)
		while (!hook->go) usleep(1000);
	rv = next_submit(ctx, n, cbs);
	if (chosen && hook->action == KILL_AFTER) kill(getpid(), SIGKILL);
	return rv;
}
