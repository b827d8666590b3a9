;;; SPDX-License-Identifier: GPL-3.0-or-later
;;; Tests: policy/guix/narlock.scm with a real Guix: everything is computed up to the derivations (what would be built, and
;;; how), nothing is built or downloaded.  guix repl -L .../policy/guix guix-code.scm; prints lines `ok' and `not ok'.
(use-modules (gnu) (gnu services) (gnu services base) (gnu services shepherd) (gnu system) (gnu system shadow)
             (guix derivations) (guix diagnostics) (guix gexp) (guix grafts) (guix packages) (guix store)
             (narlock)
             (ice-9 match) (ice-9 textual-ports)
             (srfi srfi-1) (srfi srfi-8) (srfi srfi-26) (srfi srfi-34))

(define passed 0)
(define failed 0)

(define (report good? name details)
  (format #t "~a - ~a~%" (if good? "ok" "not ok") name)
  (if good?
      (set! passed (+ passed 1))
      (begin
        (set! failed (+ failed 1))
        (format #t "    ~s~%" details))))

(define-syntax-rule (check name expression)
  (catch #t
    (lambda () (let ((value expression)) (report value name 'expression)))
    (lambda arguments (report #f name arguments))))

;; With a message of ours: any other error is a flaw.
(define-syntax-rule (refused name words expression)
  (check name
         (guard (c ((formatted-message? c)
                    (string-contains (formatted-message-string c) words)))
           expression
           #f)))

;; Grafts would have to look into what is built.
(%graft? #f)
(define store (open-connection))
(set-build-options store #:use-substitutes? #f)
(define (run value) (run-with-store store value))

;;; The package.

(define drv (run (package->derivation narlock)))
(define output (derivation->output-path drv))
(define input-names (map (compose derivation-name derivation-input-derivation) (derivation-inputs drv)))

(check "the package has a derivation" (string-suffix? "-narlock-0.1.drv" (derivation-file-name drv)))
(for-each (lambda (library)
            (check (string-append "it is built with " library)
                   (any (cut string-prefix? library <>) input-names)))
          '("curl-" "libcap-" "libgcrypt-" "libmicrohttpd-" "libseccomp-" "libsodium-" "lzlib-" "openssl-" "sqlite-"
            "zlib-" "zstd-"))
(define source (run (lower-object (package-source narlock))))
(check "its source is this tree" (file-exists? (string-append source "/broker/main.c")))
(check "without what is built in it" (not (file-exists? (string-append source "/build"))))
(check "and of the same version"
       (string-contains (call-with-input-file (string-append source "/Makefile") get-string-all)
                        (string-append "VERSION := " (package-version narlock) "\n")))

;;; The operating system.

(define* (bare #:key (daemon (guix-configuration)) (services %base-services))
  (operating-system
    (host-name "test")
    (timezone "Etc/UTC")
    (bootloader (bootloader-configuration (bootloader grub-bootloader) (targets '("/dev/null"))))
    (file-systems (cons (file-system (mount-point "/") (device "/dev/null") (type "ext4"))
                        %base-file-systems))
    (services (modify-services services (guix-service-type _ => daemon)))))

(define (extended os type)
  (service-value (fold-services (operating-system-services os) #:target-type type)))

(define (shepherd-services os)
  (shepherd-configuration-services (extended os shepherd-root-service-type)))

(define (start-of os name) ; its code, as text, and a list of what it needs built
  (let* ((service (find (lambda (s) (memq name (shepherd-service-provision s))) (shepherd-services os)))
         (lowered (run (lower-gexp (shepherd-service-start service)))))
    (values (format #f "~s" (lowered-gexp-sexp lowered))
            (map derivation-input-derivation (lowered-gexp-inputs lowered)))))

(define variable (string-append "GUIX=" output "/libexec/narlock/guix"))
(define plain (bare))
(define os
  (operating-system-with-narlock
   (bare #:daemon (guix-configuration (environment '("TMPDIR=/x"))))
   (narlock-configuration (options '(("block-server" . "http://192.0.2.1:8081")
                                     ("block-server" . "http://192.0.2.2:8081"))))
   #:landlock? #t))
(define healing (operating-system-with-narlock (bare) (narlock-configuration (heal? #t) (heal-pause 77))))

(receive (text inputs) (start-of os 'guix-daemon)
  (check "guix-daemon is started with GUIX= of exactly this package" (string-contains text (object->string variable)))
  (check "with what its environment had before" (string-contains text "\"TMPDIR=/x\""))
  (check "and the package is built before it starts"
         (any (lambda (d) (string=? (derivation-file-name d) (derivation-file-name drv))) inputs)))
(check "without narlock there is no such variable" (not (string-contains (start-of plain 'guix-daemon) "GUIX=")))

(define user
  (find (lambda (a) (and (user-account? a) (string=? (user-account-name a) "narlock")))
        (extended os account-service-type)))
(check "the user narlock is a system user, of its own group and no other"
       (and (user-account-system? user)
            (equal? (user-account-group user) "narlock")
            (null? (user-account-supplementary-groups user))))
(check "the group narlock is made"
       (any (lambda (g) (and (user-group? g) (string=? (user-group-name g) "narlock")))
            (extended os account-service-type)))
(check "the command narlock is in the system's profile"
       (memq narlock (extended os profile-service-type)))

(define (conf os)
  (match (assoc "narlock/narlock.conf" (extended os etc-service-type))
    ((_ file)
     ;; Not built: the text is in the code that would write it.
     (let ((drv (run (lower-object file))))
       (string-concatenate
        (map (cut call-with-input-file <> get-string-all)
             (remove file-is-directory? (derivation-sources drv))))))))
(check "narlock.conf has the options, each as often as given"
       (let ((text (conf os)))
         (and (string-contains text "block-server")
              (string-contains text "http://192.0.2.1:8081")
              (string-contains text "http://192.0.2.2:8081"))))
(check "and the guix of guix-configuration" (string-contains (conf os) "/bin/guix"))

(check "Landlock is asked of the kernel"
       (member %landlock-kernel-argument (operating-system-user-kernel-arguments os)))
(check "only where that was said"
       (not (any (cut string-prefix? "lsm=" <>) (filter string? (operating-system-user-kernel-arguments healing)))))
(check "other kernel arguments stay"
       (lset<= equal? (operating-system-user-kernel-arguments plain) (operating-system-user-kernel-arguments os)))

(check "narlock-heal is no service by default"
       (not (any (lambda (s) (memq 'narlock-heal (shepherd-service-provision s))) (shepherd-services os))))
(let ((text (start-of healing 'narlock-heal)))
  (check "where it is one, it is started as narlock, with its pause"
         (and (string-contains text (string-append output "/bin/narlock-heal"))
              (string-contains text "\"--pause\" \"77\"")
              (string-contains text "#:user \"narlock\""))))

(let ((text (start-of os 'narlock-audit)))
  (check "the audit log is verified and anchored every day"
         (and (string-contains text "make-timer-constructor")
              (string-contains text "(cron-string->calendar-event \"0 12 * * *\")")
              (string-contains text (string-append "\"" output "/bin/narlock\" \"audit\" \"--anchor\"")))))
(check "at other times where that is wanted"
       (string-contains (start-of (operating-system-with-narlock (bare) (narlock-configuration (anchor "5 4 * * 1")))
                                  'narlock-audit)
                        "\"5 4 * * 1\""))
(check "or never"
       (not (any (lambda (s) (memq 'narlock-audit (shepherd-service-provision s)))
                 (shepherd-services (operating-system-with-narlock (bare) (narlock-configuration (anchor #f)))))))

(check "the whole system has a derivation"
       (string-suffix? "-system.drv" (derivation-file-name (run (operating-system-derivation os)))))

(define rootless (guix-configuration (privileged? #f)))
(refused "an unprivileged daemon is refused: its helpers would have no namespace" "with an unprivileged guix-daemon"
         (operating-system-with-narlock (bare #:daemon rootless)))
(check "unless the option says that they may have none"
       (operating-system? (operating-system-with-narlock
                           (bare #:daemon rootless)
                           (narlock-configuration (options '(("required-layers" . "no-namespace")))))))
(refused "a system without guix-daemon is refused" "no guix-service-type"
         (operating-system-with-narlock
          (operating-system (inherit plain)
                            (services (remove (lambda (s) (eq? guix-service-type (service-kind s)))
                                              %base-services)))))
(format #t "~a passed, ~a failed, 0 skipped~%" passed failed)
(exit (if (zero? failed) 0 1))
