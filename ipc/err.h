/* SPDX-License-Identifier: GPL-3.0-or-later
 * Both sides: an error is a value with a reason. */
#ifndef NARLOCK_ERR_H
#define NARLOCK_ERR_H

/* The reason of a failure, as one line of text without a newline.  `code' is an errno where the kernel
 * said no, else 0.  Functions that take a struct err fill it exactly when they return failure. */
struct err {
	int code;
	char text[384];
};

/* err_set(e, fmt, ...): store a reason, cut to fit, what is not printable ASCII as `?'; code 0.  Returns -1, so that callers can
 * `return err_set(...)'.  E may be NULL. */
int err_set(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* err_sys(e, errnum, fmt, ...): the same, with ": strerror(errnum)" appended and code = errnum. */
int err_sys(struct err *e, int errnum, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
