// A watchdog device for tests: preloaded into a program, it plays the device for the path in $DOG_PATH and logs to $DOG_LOG.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <linux/watchdog.h>

static int dog = -1, timeout = 60;

static void say(const char *what, int n)
{
	struct timespec t;
	FILE *f = fopen(getenv("DOG_LOG"), "a");
	clock_gettime(CLOCK_BOOTTIME, &t);
	fprintf(f, "%lld.%09ld %s %d\n", (long long)t.tv_sec, t.tv_nsec, what, n);
	fclose(f);
}

int open(const char *path, int flags, ...)
{
	int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
	va_list ap;
	va_start(ap, flags);
	int mode = va_arg(ap, int), fd;
	va_end(ap);
	if (getenv("DOG_PATH") && !strcmp(path, getenv("DOG_PATH"))) {
		fd = dog = real("/dev/null", flags, mode);
		say("open", timeout);
		return fd;
	}
	return real(path, flags, mode);
}
int open64(const char *path, int flags, ...) __attribute__((alias("open")));

int ioctl(int fd, unsigned long req, ...)
{
	int (*real)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
	va_list ap;
	va_start(ap, req);
	void *arg = va_arg(ap, void *);
	va_end(ap);
	if (fd != dog || fd < 0)
		return real(fd, req, arg);
	switch (req) {
	case WDIOC_GETSUPPORT:
		memset(arg, 0, sizeof(struct watchdog_info));
		((struct watchdog_info *)arg)->options = WDIOF_SETTIMEOUT | WDIOF_KEEPALIVEPING | WDIOF_MAGICCLOSE;
		return 0;
	case WDIOC_SETTIMEOUT:
		timeout = *(int *)arg;
		say("settimeout", timeout);
		return 0;
	case WDIOC_GETTIMEOUT:
		*(int *)arg = timeout;
		return 0;
	case WDIOC_KEEPALIVE:
		say("pet", 0);
		return 0;
	}
	return 0;
}

ssize_t write(int fd, const void *buf, size_t n)
{
	ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
	if (fd == dog && fd >= 0)
		say(n && *(const char *)buf == 'V' ? "magic" : "pet", 0);
	return real(fd, buf, n);
}

int close(int fd)
{
	int (*real)(int) = dlsym(RTLD_NEXT, "close");
	if (fd == dog && fd >= 0) {
		say("close", 0);
		dog = -1;
	}
	return real(fd);
}
