/* SPDX-License-Identifier: GPL-3.0-or-later
 * Build time only: lint one .policy file (grammar: policy/README.md) and compile it into C.
 *
 *     mkpolicy NAME.policy PREFIX     writes PREFIX.bpf.c, PREFIX.trap.c and PREFIX.text.c
 *     mkpolicy --lint NAME.policy
 *
 * libseccomp compiles the rules (default: kill the process).  In front of its program we put a few
 * instructions of our own that answer ENOSYS to calls newer than the policy: see prologue(). */
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <seccomp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "policy/constants.h"

#define MAX_RULES 256
#define MAX_LINES 1024
#define MAX_LINE 400
#define MAX_CONDS 6
#define MAX_BPF 4096 /* the kernel's limit, BPF_MAXINSNS */

/* Reasons of calls that hand out power must say more than a word. */
#define MIN_REASON 5
#define MIN_REASON_DANGEROUS 40

/* The first number of the calls that all architectures share.  What is newer than a libc may be tried by
 * the next one, which then expects ENOSYS, not death. */
#define FIRST_NEW 424
#define X32_BIT 0x40000000u

#if defined(__x86_64__)
#define NATIVE "__x86_64__"
#define NATIVE_AUDIT_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define NATIVE "__aarch64__"
#define NATIVE_AUDIT_ARCH AUDIT_ARCH_AARCH64
#else
#error "no policies for this architecture yet"
#endif

/* argN & mask == value, on all 64 bits. */
struct cond {
	unsigned arg;
	uint64_t mask, value;
};

struct rule {
	char name[32];
	int nr;       /* negative: this architecture does not have the call */
	int error;    /* 0: allow; else the errno that it answers */
	struct cond cond[MAX_CONDS];
	unsigned conds;
	size_t reason; /* its length */
	unsigned line;
};

struct source {
	const char *file;
	char name[32];
	char *line[MAX_LINES];
	unsigned lines;
	struct rule rule[MAX_RULES];
	unsigned rules;
	unsigned errors;
	char complaint[200]; /* the last one */
};

struct program {
	struct sock_filter insn[MAX_BPF];
	unsigned length;
	char *pfc;
};

/* Calls that can start, reach or change something outside of the process, or change what it may do. */
static const char *const dangerous[] = {
	"accept", "accept4", "acct", "add_key", "bind", "bpf", "chmod", "chown", "chroot", "clone",
	"clone3", "connect", "delete_module", "execve", "execveat", "fanotify_init", "fchown", "fchownat",
	"fcntl", "finit_module", "fork", "fsconfig", "fsmount", "fsopen", "init_module", "io_uring_enter",
	"io_uring_register", "io_uring_setup", "ioctl", "kcmp", "kexec_load", "keyctl", "kill", "lchown",
	"link", "listen", "memfd_create", "mknod", "mknodat", "mmap", "modify_ldt", "mount",
	"mount_setattr", "move_mount", "mprotect", "name_to_handle_at", "open", "open_by_handle_at",
	"open_tree", "openat", "openat2", "perf_event_open", "personality", "pidfd_getfd", "pidfd_open",
	"pidfd_send_signal", "pivot_root", "pkey_mprotect", "prctl", "prlimit64", "process_madvise",
	"process_vm_readv", "process_vm_writev", "ptrace", "quotactl", "reboot", "request_key",
	"rt_sigqueueinfo", "rt_tgsigqueueinfo", "seccomp", "setfsgid", "setfsuid", "setgid", "setgroups",
	"setns", "setpgid", "setpriority", "setregid", "setresgid", "setresuid", "setreuid", "setrlimit",
	"setsockopt", "setuid", "setxattr", "shmat", "socket", "socketpair", "splice", "swapon",
	"symlink", "tee", "tgkill", "tkill", "truncate", "umount2", "unlink", "unshare", "uselib",
	"userfaultfd", "vfork", "vmsplice", NULL
};

/* Old calls that aarch64 does not have, and what its C library calls instead.  Looked at on every
 * architecture: whoever has only the old one is killed there. */
static const struct {
	const char *old, *now;
} replaced[] = { { "access", "faccessat" }, { "alarm", "setitimer" }, { "chmod", "fchmodat" },
	{ "chown", "fchownat" }, { "creat", "openat" }, { "dup2", "dup3" },
	{ "epoll_create", "epoll_create1" }, { "epoll_wait", "epoll_pwait" }, { "eventfd", "eventfd2" },
	{ "fork", "clone" }, { "futimesat", "utimensat" }, { "getdents", "getdents64" },
	{ "inotify_init", "inotify_init1" }, { "lchown", "fchownat" }, { "link", "linkat" },
	{ "lstat", "newfstatat" }, { "mkdir", "mkdirat" }, { "mknod", "mknodat" }, { "open", "openat" },
	{ "pause", "ppoll" }, { "pipe", "pipe2" }, { "poll", "ppoll" }, { "readlink", "readlinkat" },
	{ "rename", "renameat" }, { "rmdir", "unlinkat" }, { "select", "pselect6" },
	{ "signalfd", "signalfd4" }, { "stat", "newfstatat" }, { "symlink", "symlinkat" },
	{ "time", "clock_gettime" }, { "unlink", "unlinkat" }, { "utime", "utimensat" },
	{ "utimes", "utimensat" }, { "vfork", "clone" } };

static const struct {
	const char *name;
	uint64_t value;
} constants[] = {
#define CONSTANT(NAME) { #NAME, (uint64_t)(NAME) & 0xffffffffu },
	POLICY_CONSTANTS(CONSTANT) POLICY_CONSTANTS_SPECIAL
#undef CONSTANT
};

static const struct {
	const char *name;
	int value;
} errnos[] = { { "EPERM", EPERM }, { "ENOENT", ENOENT }, { "EBADF", EBADF }, { "EACCES", EACCES },
	{ "EINVAL", EINVAL }, { "ENOTTY", ENOTTY }, { "ENOSYS", ENOSYS }, { "EOPNOTSUPP", EOPNOTSUPP },
	{ "ENOPROTOOPT", ENOPROTOOPT }, { "EAFNOSUPPORT", EAFNOSUPPORT }, { "ENETUNREACH", ENETUNREACH },
	/* A call that only pretends: success without doing anything. */
	{ "SUCCESS", 0 } };

/* How `errno SUCCESS' is kept in struct rule, where 0 means allow. */
#define PRETEND (-1)

static void complain(struct source *s, unsigned line, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static void
complain(struct source *s, unsigned line, const char *fmt, ...)
{
	va_list ap;

	s->errors++;
	va_start(ap, fmt);
	vsnprintf(s->complaint, sizeof(s->complaint), fmt, ap);
	va_end(ap);
	fprintf(stderr, "%s:%u: %s\n", s->file, line, s->complaint);
}

static int
is_dangerous(const char *name)
{
	for (unsigned i = 0; dangerous[i] != NULL; i++)
		if (strcmp(dangerous[i], name) == 0)
			return 1;
	return 0;
}

/* --- Reading ----------------------------------------------------------------------------------------- */

/* One number or constant of a value.  0 or -1. */
static int
parse_atom(const char *word, uint64_t *value)
{
	char *end;

	if (isdigit((unsigned char)word[0])) {
		errno = 0;
		*value = strtoull(word, &end, 0);
		return errno == 0 && *end == '\0' ? 0 : -1;
	}
	for (size_t i = 0; i < sizeof(constants) / sizeof(constants[0]); i++)
		if (strcmp(constants[i].name, word) == 0) {
			*value = constants[i].value;
			return 0;
		}
	return -1;
}

/* VALUE = ["~"] ATOM {"|" ATOM}, without spaces; "~" turns over all 64 bits of the whole. */
static int
parse_value(const char *text, uint64_t *value)
{
	char copy[MAX_LINE], *save = NULL;
	int invert = text[0] == '~';
	uint64_t atom;

	text += invert;
	if (text[0] == '\0' || text[strlen(text) - 1] == '|' || strlen(text) >= sizeof(copy))
		return -1;
	strcpy(copy, text);
	*value = 0;
	for (char *w = strtok_r(copy, "|", &save); w != NULL; w = strtok_r(NULL, "|", &save)) {
		if (parse_atom(w, &atom) != 0)
			return -1;
		*value |= atom;
	}
	if (invert)
		*value = ~*value;
	return 0;
}

static int
parse_error(const char *word, int *error)
{
	for (size_t i = 0; i < sizeof(errnos) / sizeof(errnos[0]); i++)
		if (strcmp(errnos[i].name, word) == 0) {
			*error = errnos[i].value == 0 ? PRETEND : errnos[i].value;
			return 0;
		}
	return -1;
}

/* COND = "argN" ["&" MASK] "==" VALUE, words from *W on.  Returns how many words it took, 0 if bad. */
static unsigned
parse_cond(struct source *s, unsigned line, char **w, unsigned words, struct cond *c)
{
	unsigned at = 1;

	if (strncmp(w[0], "arg", 3) != 0 || w[0][3] < '0' || w[0][3] > '5' || w[0][4] != '\0') {
		complain(s, line, "`%s' is not arg0 to arg5", w[0]);
		return 0;
	}
	c->arg = (unsigned)(w[0][3] - '0');
	c->mask = ~(uint64_t)0;
	if (words > 2 && strcmp(w[1], "&") == 0) {
		if (parse_value(w[2], &c->mask) != 0) {
			complain(s, line, "unknown mask `%s'", w[2]);
			return 0;
		}
		at = 3;
	}
	if (words < at + 2) {
		complain(s, line, "unfinished argument check");
		return 0;
	}
	if (strcmp(w[at], "==") != 0) {
		complain(s, line, "`%s': only == is allowed (libseccomp 2.5.4 miscompiles < <= > >=)", w[at]);
		return 0;
	}
	if (parse_value(w[at + 1], &c->value) != 0) {
		complain(s, line, "unknown value `%s'", w[at + 1]);
		return 0;
	}
	if (c->mask == 0 || (c->value & ~c->mask) != 0) {
		complain(s, line, "this check of arg%u matches always or never", c->arg);
		return 0;
	}
	return at + 2;
}

static unsigned
split(char *text, char **words, unsigned max)
{
	unsigned n = 0;
	char *save = NULL;

	for (char *w = strtok_r(text, " \t", &save); w != NULL && n < max; w = strtok_r(NULL, " \t", &save))
		words[n++] = w;
	return n;
}

static void
parse_rule(struct source *s, unsigned line, char *text, const char *reason)
{
	struct rule *r = &s->rule[s->rules];
	char *word[64];
	unsigned n = split(text, word, 64), at = 0;

	memset(r, 0, sizeof(*r));
	r->line = line;
	if (strcmp(word[0], "enosys") == 0) {
		r->error = ENOSYS;
		at = 1;
	} else if (strcmp(word[0], "errno") == 0) {
		if (n < 2 || parse_error(word[1], &r->error) != 0) {
			complain(s, line, "errno needs a known error name");
			return;
		}
		at = 2;
	}
	if (at >= n || strlen(word[at]) >= sizeof(r->name)) {
		complain(s, line, "no system call name");
		return;
	}
	strcpy(r->name, word[at++]);
	r->nr = seccomp_syscall_resolve_name(r->name);
	if (r->nr == __NR_SCMP_ERROR) {
		complain(s, line, "unknown system call `%s'", r->name);
		return;
	}
	while (at < n) {
		unsigned used;

		if (r->conds == MAX_CONDS) {
			complain(s, line, "too many argument checks");
			return;
		}
		used = parse_cond(s, line, word + at, n - at, &r->cond[r->conds]);
		if (used == 0)
			return;
		for (unsigned i = 0; i < r->conds; i++)
			if (r->cond[i].arg == r->cond[r->conds].arg)
				complain(s, line, "arg%u is checked twice", r->cond[i].arg);
		r->conds++;
		at += used;
	}
	r->reason = strlen(reason);
	s->rules++;
}

static void
parse_line(struct source *s, unsigned line, const char *text)
{
	char copy[MAX_LINE];
	char *hash;
	const char *reason = "";

	if (strlen(text) >= sizeof(copy)) {
		complain(s, line, "line too long");
		return;
	}
	strcpy(copy, text);
	hash = strchr(copy, '#');
	if (hash != NULL) {
		*hash = '\0';
		reason = hash + 1 + strspn(hash + 1, " \t");
	}
	if (copy[strspn(copy, " \t")] != '\0') {
		if (s->rules == MAX_RULES)
			complain(s, line, "too many rules");
		else
			parse_rule(s, line, copy, reason);
	} else if (hash != NULL && hash != copy && s->rules > 0) {
		/* An indented comment goes on with the reason of the rule above it. */
		s->rule[s->rules - 1].reason += strlen(reason);
	}
}

/* source_read(s, file, f): all lines of F, named FILE (NAME.policy, perhaps with directories). */
static void
source_read(struct source *s, const char *file, FILE *f)
{
	const char *base = strrchr(file, '/');
	char *line = NULL;
	size_t size = 0, len;
	ssize_t got;

	memset(s, 0, sizeof(*s));
	s->file = file;
	base = base == NULL ? file : base + 1;
	len = strcspn(base, ".");
	if (strcmp(base + len, ".policy") != 0 || len == 0 || len >= sizeof(s->name))
		complain(s, 0, "the file must be called NAME.policy");
	else
		memcpy(s->name, base, len);
	while ((got = getline(&line, &size, f)) >= 0) {
		if (s->lines == MAX_LINES) {
			complain(s, s->lines, "too many lines");
			break;
		}
		if (got > 0 && line[got - 1] == '\n')
			line[--got] = '\0';
		if (strlen(line) != (size_t)got)
			complain(s, s->lines + 1, "NUL byte");
		s->line[s->lines] = strdup(line);
		if (s->line[s->lines] == NULL) {
			complain(s, s->lines, "out of memory");
			break;
		}
		s->lines++;
		parse_line(s, s->lines, line);
	}
	free(line);
	if (ferror(f))
		complain(s, s->lines, "read error");
}

static void
source_free(struct source *s)
{
	for (unsigned i = 0; i < s->lines; i++)
		free(s->line[i]);
}

/* --- Lint -------------------------------------------------------------------------------------------- */

/* Can no call match both?  True if both look at one bit of one argument and want it different. */
static int
disjoint(const struct rule *a, const struct rule *b)
{
	for (unsigned i = 0; i < a->conds; i++)
		for (unsigned j = 0; j < b->conds; j++)
			if (a->cond[i].arg == b->cond[j].arg &&
			    (a->cond[i].mask & b->cond[j].mask & (a->cond[i].value ^ b->cond[j].value)) != 0)
				return 1;
	return 0;
}

static int
same_conds(const struct rule *a, const struct rule *b)
{
	unsigned found = 0;

	for (unsigned i = 0; i < a->conds; i++)
		for (unsigned j = 0; j < b->conds; j++)
			found += a->cond[i].arg == b->cond[j].arg && a->cond[i].mask == b->cond[j].mask &&
			    a->cond[i].value == b->cond[j].value;
	return a->conds == b->conds && found == a->conds;
}

static void
lint_pair(struct source *s, const struct rule *a, const struct rule *b)
{
	if (strcmp(a->name, b->name) != 0)
		return;
	if (a->conds == 0 || b->conds == 0)
		complain(s, b->line, "`%s' is in line %u already, and one of the two has no argument check",
		    b->name, a->line);
	else if (same_conds(a, b))
		complain(s, b->line, "`%s' with the same checks is in line %u already", b->name, a->line);
	else if (a->error != b->error && !disjoint(a, b))
		complain(s, b->line, "one `%s' could match this line and line %u, which answers differently",
		    b->name, a->line);
}

/* What only newer architectures call must be allowed beside its predecessor. */
static void
lint_replaced(struct source *s, const struct rule *r)
{
	for (size_t i = 0; r->error == 0 && i < sizeof(replaced) / sizeof(replaced[0]); i++) {
		unsigned j = 0;

		if (strcmp(r->name, replaced[i].old) != 0)
			continue;
		while (j < s->rules && (s->rule[j].error != 0 || strcmp(s->rule[j].name, replaced[i].now) != 0))
			j++;
		if (j == s->rules)
			complain(s, r->line, "aarch64 has no `%s': `%s' is needed, too", r->name, replaced[i].now);
	}
}

static void
source_lint(struct source *s)
{
	if (s->rules == 0 && s->errors == 0)
		complain(s, 0, "no rules");
	for (unsigned i = 0; i < s->rules; i++) {
		const struct rule *r = &s->rule[i];

		if (r->reason < MIN_REASON)
			complain(s, r->line, "`%s' needs a reason of %d characters or more", r->name,
			    MIN_REASON);
		lint_replaced(s, r);
		if (r->error == 0 && is_dangerous(r->name)) {
			if (r->conds == 0)
				complain(s, r->line, "`%s' is dangerous: it needs a check", r->name);
			if (r->reason < MIN_REASON_DANGEROUS)
				complain(s, r->line, "`%s' is dangerous: its reason needs %d characters",
				    r->name, MIN_REASON_DANGEROUS);
		}
		for (unsigned j = 0; j < i; j++)
			lint_pair(s, &s->rule[j], r);
	}
}

/* --- Compiling --------------------------------------------------------------------------------------- */

static uint32_t
rule_action(const struct rule *r)
{
	if (r->error == 0)
		return SCMP_ACT_ALLOW;
	return SCMP_ACT_ERRNO((uint32_t)(r->error == PRETEND ? 0 : r->error));
}

static int
listed(const struct source *s, int nr)
{
	for (unsigned i = 0; i < s->rules; i++)
		if (s->rule[i].nr == nr)
			return 1;
	return 0;
}

static int
add_rule(scmp_filter_ctx ctx, const struct rule *r)
{
	struct scmp_arg_cmp cmp[MAX_CONDS];

	for (unsigned i = 0; i < r->conds; i++) {
		const struct cond *c = &r->cond[i];

		/* EQ and MASKED_EQ are the same to the kernel; EQ reads better in the PFC export. */
		if (c->mask == ~(uint64_t)0)
			cmp[i] = (struct scmp_arg_cmp){ c->arg, SCMP_CMP_EQ, c->value, 0 };
		else
			cmp[i] = (struct scmp_arg_cmp){ c->arg, SCMP_CMP_MASKED_EQ, c->mask, c->value };
	}
	return seccomp_rule_add_exact_array(ctx, rule_action(r), r->nr, r->conds, cmp);
}

static int
add_rules(struct source *s, scmp_filter_ctx ctx, uint32_t kill)
{
	/* These two are older than FIRST_NEW, but every libc has lived without them. */
	static const char *const lately[] = { "statx", "rseq" };

	if (seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, kill) < 0 ||
	    seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2) < 0) {
		complain(s, 0, "libseccomp refuses an attribute");
		return -1;
	}
	for (unsigned i = 0; i < s->rules; i++) {
		int rc = s->rule[i].nr < 0 ? 0 : add_rule(ctx, &s->rule[i]);

		if (rc < 0) {
			complain(s, s->rule[i].line, "libseccomp: %s", strerror(-rc));
			return -1;
		}
	}
	for (unsigned i = 0; i < 2; i++) {
		int nr = seccomp_syscall_resolve_name(lately[i]);

		if (nr >= 0 && !listed(s, nr) &&
		    seccomp_rule_add_exact_array(ctx, SCMP_ACT_ERRNO(ENOSYS), nr, 0, NULL) < 0) {
			complain(s, 0, "libseccomp refuses the rule for %s", lately[i]);
			return -1;
		}
	}
	return 0;
}

static void
emit(struct program *p, unsigned code, uint32_t k, unsigned jt, unsigned jf)
{
	p->insn[p->length++] = (struct sock_filter){ (uint16_t)code, (uint8_t)jt, (uint8_t)jf, k };
}

/* What runs before libseccomp's program, and what it decides: a call of our architecture with a number
 * from FIRST_NEW up that no rule names is answered with ENOSYS; all else falls through.  libseccomp can
 * compare call numbers only one by one, and the newest number is not known. */
static int
prologue(struct source *s, struct program *p)
{
	uint32_t fresh[MAX_RULES];
	unsigned n = 0;

	for (unsigned i = 0; i < s->rules; i++) {
		unsigned j = 0;

		while (j < n && fresh[j] != (uint32_t)s->rule[i].nr)
			j++;
		if (s->rule[i].nr >= FIRST_NEW && j == n)
			fresh[n++] = (uint32_t)s->rule[i].nr;
	}
	if (n > 200) { /* jumps reach 255 */
		complain(s, 0, "too many new calls");
		return -1;
	}
	emit(p, BPF_LD | BPF_W | BPF_ABS, 4, 0, 0); /* struct seccomp_data: arch */
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, NATIVE_AUDIT_ARCH, 0, n + 4);
	emit(p, BPF_LD | BPF_W | BPF_ABS, 0, 0, 0); /* nr */
	emit(p, BPF_JMP | BPF_JGE | BPF_K, FIRST_NEW, 0, n + 2);
	emit(p, BPF_JMP | BPF_JGE | BPF_K, X32_BIT, n + 1, 0);
	for (unsigned i = 0; i < n; i++)
		emit(p, BPF_JMP | BPF_JEQ | BPF_K, fresh[i], n - i, 0);
	emit(p, BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS, 0, 0);
	return 0;
}

/* The bytes that WRITE(ctx, fd) puts into a file, NUL added; NULL on failure.  The caller frees. */
static char *
capture(int (*write_fd)(const scmp_filter_ctx, int), scmp_filter_ctx ctx, size_t *length)
{
	FILE *f = tmpfile();
	char *text = NULL;
	long size;

	if (f == NULL)
		return NULL;
	if (write_fd(ctx, fileno(f)) == 0 && fseek(f, 0, SEEK_END) == 0 && (size = ftell(f)) > 0 &&
	    fseek(f, 0, SEEK_SET) == 0 && (text = calloc(1, (size_t)size + 1)) != NULL) {
		*length = fread(text, 1, (size_t)size, f);
		if (*length != (size_t)size) {
			free(text);
			text = NULL;
		}
	}
	fclose(f);
	return text;
}

/* source_compile(s, kill, p): the rules as a program; KILL is what happens to unlisted calls. */
static int
source_compile(struct source *s, uint32_t kill, struct program *p)
{
	/* Killing the process is level 3.  libseccomp would ask the kernel, but it is another one that will run
	 * the filter: this one can be an emulator or a container that says no. */
	scmp_filter_ctx ctx = seccomp_api_set(3) == 0 ? seccomp_init(kill) : NULL;
	char *bpf = NULL;
	size_t size = 0, pfc_size = 0;
	int rc = -1;

	memset(p, 0, sizeof(*p));
	if (ctx == NULL) {
		complain(s, 0, "libseccomp does not start");
		return -1;
	}
	if (add_rules(s, ctx, kill) != 0 || prologue(s, p) != 0)
		goto out;
	bpf = capture(seccomp_export_bpf, ctx, &size);
	p->pfc = capture(seccomp_export_pfc, ctx, &pfc_size);
	if (bpf == NULL || p->pfc == NULL || size % sizeof(struct sock_filter) != 0 ||
	    size / sizeof(struct sock_filter) > MAX_BPF - p->length) {
		complain(s, 0, "libseccomp gives no program of usable size");
		goto out;
	}
	memcpy(p->insn + p->length, bpf, size);
	p->length += (unsigned)(size / sizeof(struct sock_filter));
	rc = 0;
out:
	free(bpf);
	seccomp_release(ctx);
	return rc;
}

/* --- Writing C --------------------------------------------------------------------------------------- */

static void
write_head(const struct source *s, FILE *f, const char *what)
{
	fprintf(f, "/* SPDX-License-Identifier: GPL-3.0-or-later\n"
	    " * Made by policy/mkpolicy from policy/%s.policy: %s */\n"
	    "#include <stddef.h>\n\n#include \"policy/policy.h\"\n\n", s->name, what);
}

static void
write_bpf(const struct source *s, const struct program *p, FILE *f, const char *suffix)
{
	write_head(s, f, suffix[0] == '\0' ? "violations kill." : "violations raise SIGSYS, for diagnosis.");
	/* A program with another architecture's numbers would allow the wrong calls. */
	fprintf(f, "#ifndef " NATIVE "\n#error \"this policy was compiled for another architecture\"\n#endif\n\n");
	fprintf(f, "static const struct sock_filter filter[] = {\n");
	for (unsigned i = 0; i < p->length; i++)
		fprintf(f, "\t{ 0x%02x, %u, %u, 0x%08x },\n", p->insn[i].code, p->insn[i].jt, p->insn[i].jf,
		    p->insn[i].k);
	fprintf(f, "};\n\nconst struct policy policy_%s%s = { \"%s\", filter, %u };\n", s->name, suffix,
	    s->name, p->length);
}

static void
write_string(FILE *f, const char *text, size_t length)
{
	fputs("\t\"", f);
	for (size_t i = 0; i < length; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c == '"' || c == '\\' || c == '?')
			fprintf(f, "\\%c", c);
		else if (isprint(c))
			fputc(c, f);
		else if (c == '\t')
			fputs("\\t", f);
		else
			fprintf(f, "\\%03o", c);
	}
	fputs("\",\n", f);
}

static void
write_pfc(const struct program *p, FILE *f)
{
	static const char *const intro[] = {
		"# Before these rules: a call of the native architecture with a number from 424 up that",
		"# is not named below is answered with ERRNO(ENOSYS).",
	};

	fputs("static const char *const pfc[] = {\n", f);
	for (unsigned i = 0; i < sizeof(intro) / sizeof(intro[0]); i++)
		write_string(f, intro[i], strlen(intro[i]));
	for (const char *at = p->pfc; *at != '\0';) {
		size_t length = strcspn(at, "\n");

		write_string(f, at, length);
		at += length;
		at += *at == '\n';
	}
	fputs("\tNULL\n};\n\n", f);
}

static void
write_text(const struct source *s, const struct program *p, FILE *f)
{
	write_head(s, f, "for people.");
	fputs("static const char *const source[] = {\n", f);
	for (unsigned i = 0; i < s->lines; i++)
		write_string(f, s->line[i], strlen(s->line[i]));
	fputs("\tNULL\n};\n\n", f);
	write_pfc(p, f);
	fprintf(f, "const struct policy_text policy_text_%s = { \"%s\", source, pfc };\n", s->name, s->name);
}

static FILE *
create(struct source *s, const char *prefix, const char *suffix)
{
	char path[PATH_MAX];
	FILE *f;

	snprintf(path, sizeof(path), "%s%s", prefix, suffix);
	f = fopen(path, "we");
	if (f == NULL)
		complain(s, 0, "cannot write %s: %s", path, strerror(errno));
	return f;
}

static void
finish(struct source *s, FILE *f)
{
	if (f != NULL && (ferror(f) | fclose(f)) != 0)
		complain(s, 0, "write error");
}

static void
source_write(struct source *s, const char *prefix)
{
	static struct program kill, trap;
	FILE *f;

	if (source_compile(s, SCMP_ACT_KILL_PROCESS, &kill) != 0 ||
	    source_compile(s, SCMP_ACT_TRAP, &trap) != 0)
		goto out;
	if ((f = create(s, prefix, ".bpf.c")) != NULL)
		write_bpf(s, &kill, f, "");
	finish(s, f);
	if ((f = create(s, prefix, ".trap.c")) != NULL)
		write_bpf(s, &trap, f, "_trap");
	finish(s, f);
	if ((f = create(s, prefix, ".text.c")) != NULL)
		write_text(s, &kill, f);
	finish(s, f);
out:
	free(kill.pfc);
	free(trap.pfc);
}

int
main(int argc, char **argv)
{
	static struct source s;
	int lint = argc == 3 && strcmp(argv[1], "--lint") == 0;
	const char *file;
	FILE *f;

	if (argc != 3) {
		fprintf(stderr, "usage: mkpolicy NAME.policy PREFIX\n       mkpolicy --lint NAME.policy\n");
		return 2;
	}
	file = argv[lint ? 2 : 1];
	f = fopen(file, "re");
	if (f == NULL) {
		fprintf(stderr, "mkpolicy: %s: %s\n", file, strerror(errno));
		return 1;
	}
	source_read(&s, file, f);
	fclose(f);
	source_lint(&s);
	if (s.errors == 0 && !lint)
		source_write(&s, argv[2]);
	source_free(&s);
	return s.errors != 0;
}
