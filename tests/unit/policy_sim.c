/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: run every compiled policy in a small BPF interpreter, over all call numbers and many arguments, and
 * compare with what the policy's text says, read here by a second, independent parser. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/constants.h"
#include "policy/policy.h"

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#else
#define ARCH AUDIT_ARCH_AARCH64
#endif
#define MAX 256
#define LAST 1100

struct check {
	unsigned arg;
	uint64_t mask, value;
};

struct line {
	int nr;
	uint32_t answer;
	unsigned n;
	struct check check[6];
};

struct text {
	struct line line[MAX];
	unsigned n;
};

/* --- The text ---------------------------------------------------------------------------------------- */

static uint64_t
constant(const char *name)
{
#define LOOK(NAME) \
	if (strcmp(name, #NAME) == 0) \
		return (uint32_t)(NAME);
	POLICY_CONSTANTS(LOOK)
	if (strcmp(name, "AT_FDCWD") == 0)
		return (uint32_t)AT_FDCWD;
	if (strcmp(name, "MASK32") == 0)
		return UINT32_MAX;
	if (strcmp(name, "CLONE_PTHREAD") == 0)
		return 0x3d0f00;
	assert_true(name[0] >= '0' && name[0] <= '9');
	return strtoull(name, NULL, 0);
}

static uint64_t
value(const char *s)
{
	char name[64];
	uint64_t v = 0;
	int invert = *s == '~', used;

	for (s += invert; sscanf(s, "%63[^|]%n", name, &used) == 1; s += *s == '|') {
		v |= constant(name);
		s += used;
	}
	assert_true(*s == '\0');
	return invert ? ~v : v;
}

static uint32_t
answer_of(const char *error)
{
	if (strcmp(error, "SUCCESS") == 0)
		return SECCOMP_RET_ERRNO;
	if (strcmp(error, "EPERM") == 0)
		return SECCOMP_RET_ERRNO | EPERM;
	if (strcmp(error, "EACCES") == 0)
		return SECCOMP_RET_ERRNO | EACCES;
	if (strcmp(error, "EAFNOSUPPORT") == 0)
		return SECCOMP_RET_ERRNO | EAFNOSUPPORT;
	if (strcmp(error, "EINVAL") == 0)
		return SECCOMP_RET_ERRNO | EINVAL;
	if (strcmp(error, "ENOTTY") == 0)
		return SECCOMP_RET_ERRNO | ENOTTY;
	if (strcmp(error, "ENOENT") == 0)
		return SECCOMP_RET_ERRNO | ENOENT;
	fail_msg("this test does not know the error %s", error);
	return 0;
}

static void
read_line(struct text *t, const char *source)
{
	char copy[512], *w, *save = NULL;
	struct line *l = &t->line[t->n];

	snprintf(copy, sizeof(copy), "%.*s", (int)strcspn(source, "#"), source);
	w = strtok_r(copy, " \t", &save);
	if (w == NULL)
		return;
	assert_true(t->n < MAX);
	memset(l, 0, sizeof(*l));
	l->answer = SECCOMP_RET_ALLOW;
	if (strcmp(w, "enosys") == 0) {
		l->answer = SECCOMP_RET_ERRNO | ENOSYS;
		w = strtok_r(NULL, " \t", &save);
	} else if (strcmp(w, "errno") == 0) {
		l->answer = answer_of(strtok_r(NULL, " \t", &save));
		w = strtok_r(NULL, " \t", &save);
	}
	l->nr = seccomp_syscall_resolve_name(w);
	assert_int_not_equal(l->nr, __NR_SCMP_ERROR);
	while ((w = strtok_r(NULL, " \t", &save)) != NULL) {
		struct check *c = &l->check[l->n++];

		c->arg = (unsigned)(w[3] - '0');
		c->mask = UINT64_MAX;
		w = strtok_r(NULL, " \t", &save);
		if (*w == '&') {
			c->mask = value(strtok_r(NULL, " \t", &save));
			w = strtok_r(NULL, " \t", &save);
		}
		assert_string_equal(w, "==");
		c->value = value(strtok_r(NULL, " \t", &save));
	}
	t->n++;
}

static void
read_text(struct text *t, const struct policy_text *p)
{
	t->n = 0;
	for (unsigned i = 0; p->source[i] != NULL; i++)
		read_line(t, p->source[i]);
	assert_true(t->n > 5);
}

static uint32_t
expect(const struct text *t, const struct seccomp_data *d, uint32_t kill)
{
	int known = 0;

	if (d->arch != ARCH || d->nr < 0 || (d->nr & 0x40000000) != 0)
		return kill;
	for (unsigned i = 0; i < t->n; i++) {
		const struct line *l = &t->line[i];
		unsigned ok = 0;

		if (l->nr != d->nr)
			continue;
		known = 1;
		for (unsigned j = 0; j < l->n; j++)
			ok += (d->args[l->check[j].arg] & l->check[j].mask) == l->check[j].value;
		if (ok == l->n)
			return l->answer;
	}
	if (!known && (d->nr >= 424 || d->nr == SCMP_SYS(statx) || d->nr == SCMP_SYS(rseq)))
		return SECCOMP_RET_ERRNO | ENOSYS;
	return kill;
}

/* --- The machine ------------------------------------------------------------------------------------- */

static uint32_t
run(const struct policy *p, const struct seccomp_data *d)
{
	uint32_t a = 0;

	for (unsigned pc = 0; pc < p->length; pc++) {
		const struct sock_filter *f = &p->filter[pc];
		int jump = 0;

		switch (f->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			assert_true(f->k % 4 == 0 && f->k + 4 <= sizeof(*d));
			memcpy(&a, (const char *)d + f->k, 4);
			continue;
		case BPF_ALU | BPF_AND | BPF_K:
			a &= f->k;
			continue;
		case BPF_JMP | BPF_JA:
			pc += f->k;
			continue;
		case BPF_JMP | BPF_JEQ | BPF_K:
			jump = a == f->k;
			break;
		case BPF_JMP | BPF_JGT | BPF_K:
			jump = a > f->k;
			break;
		case BPF_JMP | BPF_JGE | BPF_K:
			jump = a >= f->k;
			break;
		case BPF_JMP | BPF_JSET | BPF_K:
			jump = (a & f->k) != 0;
			break;
		case BPF_RET | BPF_K:
			return f->k;
		default:
			fail_msg("unexpected instruction 0x%x", f->code);
		}
		pc += jump ? f->jt : f->jf;
	}
	fail_msg("ran off the end");
	return 0;
}

/* --- Comparing --------------------------------------------------------------------------------------- */

struct job {
	const struct policy *policy;
	const struct text *text;
	uint32_t kill;
	unsigned long cases;
};

static void
compare(struct job *j, const struct seccomp_data *d)
{
	uint32_t want = expect(j->text, d, j->kill), got = run(j->policy, d);

	j->cases++;
	if (want != got)
		fail_msg("%s: nr %d arch %x args %llx %llx %llx %llx %llx %llx: 0x%x, but the text says 0x%x",
		    j->policy->name, d->nr, d->arch, d->args[0], d->args[1], d->args[2], d->args[3],
		    d->args[4], d->args[5], got, want);
}

static void
all_numbers(struct job *j)
{
	static const uint32_t archs[] = { ARCH, AUDIT_ARCH_I386, AUDIT_ARCH_ARM, 0, UINT32_MAX };
	static const uint64_t fills[] = { 0, 1, UINT32_MAX, UINT64_MAX, 1ull << 32 };

	for (unsigned a = 0; a < 5; a++)
		for (unsigned f = 0; f < 5; f++)
			for (unsigned nr = 0; nr <= LAST; nr++) {
				struct seccomp_data d = { .arch = archs[a] };

				for (unsigned i = 0; i < 6; i++)
					d.args[i] = fills[f];
				d.nr = (int)nr;
				compare(j, &d);
				d.nr = (int)(nr | 0x40000000); /* x32 */
				compare(j, &d);
				d.nr = (int)(nr | 0x80000000);
				compare(j, &d);
			}
	for (unsigned i = 0; i < 4; i++) {
		static const int odd[] = { -1, INT32_MAX, INT32_MIN, 0x3fffffff };
		struct seccomp_data d = { .nr = odd[i], .arch = ARCH };

		compare(j, &d);
	}
}

static void
satisfy(const struct line *l, struct seccomp_data *d, uint64_t fill)
{
	memset(d, 0, sizeof(*d));
	d->nr = l->nr;
	d->arch = ARCH;
	for (unsigned i = 0; i < 6; i++)
		d->args[i] = fill;
	for (unsigned i = 0; i < l->n; i++) {
		const struct check *c = &l->check[i];

		d->args[c->arg] = c->value | (fill & ~c->mask);
	}
}

/* Arguments that fit a line, then with every single bit of every argument turned over. */
static void
near_misses(struct job *j)
{
	static const uint64_t fills[] = { 0, UINT64_MAX };
	struct seccomp_data d;

	for (unsigned i = 0; i < j->text->n; i++)
		for (unsigned f = 0; f < 2; f++) {
			const struct line *l = &j->text->line[i];

			if (l->nr < 0)
				continue;
			satisfy(l, &d, fills[f]);
			assert_int_equal(run(j->policy, &d), l->answer);
			for (unsigned bit = 0; bit < 6 * 64; bit++) {
				d.args[bit / 64] ^= 1ull << bit % 64;
				compare(j, &d);
				d.args[bit / 64] ^= 1ull << bit % 64;
			}
			for (unsigned a = 0; a < 6; a++) { /* the right low word under a wrong high one */
				uint64_t keep = d.args[a];

				d.args[a] = (keep & UINT32_MAX) | 0xdeadbeef00000000ull;
				compare(j, &d);
				d.args[a] = keep << 32;
				compare(j, &d);
				d.args[a] = keep;
			}
		}
}

static uint64_t
next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Arguments put together from the values of all lines, so that checks of different lines mix. */
static void
mixtures(struct job *j)
{
	uint64_t state = 88172645463325252ull;

	for (unsigned round = 0; round < 200000; round++) {
		const struct line *l = &j->text->line[next(&state) % j->text->n];
		struct seccomp_data d;

		if (l->nr < 0)
			continue;
		satisfy(l, &d, next(&state) % 2 ? 0 : next(&state));
		for (unsigned i = 0; i < 3; i++) {
			const struct line *o = &j->text->line[next(&state) % j->text->n];
			const struct check *c = o->n == 0 ? NULL : &o->check[next(&state) % o->n];

			if (c != NULL)
				d.args[c->arg] = c->value | (next(&state) & ~c->mask);
		}
		if (next(&state) % 4 == 0)
			d.args[next(&state) % 6] ^= 1ull << next(&state) % 64;
		compare(j, &d);
	}
}

static void
simulate(const struct policy *p, const struct policy *trap, const struct policy_text *source)
{
	static struct text text;
	struct job job[2] = { { p, &text, SECCOMP_RET_KILL_PROCESS, 0 },
		{ trap, &text, SECCOMP_RET_TRAP, 0 } };

	assert_string_equal(p->name, source->name);
	read_text(&text, source);
	for (unsigned i = 0; i < 2; i++) {
		all_numbers(&job[i]);
		near_misses(&job[i]);
		mixtures(&job[i]);
		print_message("%s: %u instructions, %u lines, %lu cases\n", p->name, job[i].policy->length,
		    text.n, job[i].cases);
	}
}

#define POLICY_TEST(NAME) \
	static void test_##NAME(void **state) \
	{ \
		(void)state; \
		simulate(&policy_##NAME, &policy_##NAME##_trap, &policy_text_##NAME); \
	}

POLICY_TEST(broker)
POLICY_TEST(fetch)
POLICY_TEST(resolve)
POLICY_TEST(unpack)
POLICY_TEST(eris)

/* --- What no policy may ever allow ------------------------------------------------------------------- */

static void
never(const char *const *names, const struct policy *p)
{
	for (unsigned i = 0; names[i] != NULL; i++) {
		struct seccomp_data d = { .nr = seccomp_syscall_resolve_name(names[i]), .arch = ARCH };

		assert_int_not_equal(d.nr, __NR_SCMP_ERROR);
		for (unsigned f = 0; f < 64 * 2; f++) {
			for (unsigned a = 0; a < 6; a++)
				d.args[a] = f < 64 ? 1ull << f : (uint64_t)f - 64;
			if (run(p, &d) == SECCOMP_RET_ALLOW)
				fail_msg("%s allows %s", p->name, names[i]);
		}
	}
}

static void
test_never(void **state)
{
	static const char *const nobody[] = { "execve", "execveat", "fork", "vfork", "clone3", "ptrace",
		"kill", "tkill", "mount", "umount2", "chroot", "pivot_root", "setns", "unshare", "bpf",
		"keyctl", "setuid", "setresuid", "setgroups", "capset", "seccomp", "process_vm_writev",
		"pidfd_getfd", "listen", "accept", "accept4", "io_uring_setup", "userfaultfd",
		"perf_event_open", "init_module", "open_by_handle_at", NULL };
	static const char *const helpers[] = { "open", "creat", "clone", "unlink", "unlinkat", "rename",
		"renameat2", "mkdirat", "linkat", "symlinkat", "fchmod", "fchmodat", "fchown",
		"utimensat", "truncate", "ftruncate", "memfd_create", "prctl", "openat2", "mknodat",
		"flock", NULL };
	static const char *const sockets[] = { "socket", "socketpair", "connect", "bind", "setsockopt",
		NULL };
	static const char *const files[] = { "openat", "newfstatat", "readlink", "readlinkat", "access",
		"getdents64", NULL };
	static const struct policy *const all[] = { &policy_broker, &policy_fetch, &policy_resolve,
		&policy_unpack };
	/* It serves: accept4 is the one of nobody's calls that it has, and only for the socket it was started with. */
	static const char *const server[] = { "execve", "execveat", "fork", "vfork", "clone", "clone3", "ptrace", "kill",
		"tkill", "mount", "chroot", "unshare", "bpf", "setuid", "seccomp", "process_vm_writev", "listen", "accept",
		"socket", "socketpair", "connect", "bind", "open", "openat2", "creat", "unlink", "unlinkat", "rename",
		"renameat2", "mkdirat", "linkat", "symlinkat", "truncate", "ftruncate", "pwrite64", "memfd_create",
		"prctl", "io_uring_setup", "ioctl", "fcntl", NULL };

	(void)state;
	never(server, &policy_eris);
	for (unsigned i = 0; i < 4; i++)
		never(nobody, all[i]);
	for (unsigned i = 1; i < 4; i++)
		never(helpers, all[i]);
	never(sockets, &policy_broker);
	never(sockets, &policy_unpack);
	never(files, &policy_fetch);
	never(files, &policy_unpack);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_broker),
		cmocka_unit_test(test_fetch),
		cmocka_unit_test(test_resolve),
		cmocka_unit_test(test_unpack),
		cmocka_unit_test(test_eris),
		cmocka_unit_test(test_never),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
