;;; SPDX-License-Identifier: GPL-3.0-or-later
;;; narlock for GNU Guix: a package of this checkout, and what makes Guix System use it.  Checked with Guix 1.5.0.
;;;
;;;   guix build -f policy/guix/narlock.scm
;;;
;;; In the configuration of a Guix System, with `guix system reconfigure -L .../policy/guix config.scm':
;;;
;;;   (use-modules (narlock))
;;;   (operating-system-with-narlock
;;;    (operating-system ...)
;;;    (narlock-configuration (options '(("block-server" . "http://192.0.2.1:8081"))))
;;;    #:landlock? #t)
;;;
;;; To switch it off, take that out again and reconfigure.
(define-module (narlock)
  #:use-module (gnu packages compression)
  #:use-module (gnu packages crypto)
  #:use-module (gnu packages curl)
  #:use-module (gnu packages gnunet)
  #:use-module (gnu packages gnupg)
  #:use-module (gnu packages linux)
  #:use-module (gnu packages sqlite)
  #:use-module (gnu packages tls)
  #:use-module ((gnu services) #:hide (delete))
  #:use-module (gnu services base)
  #:use-module (gnu services shepherd)
  #:use-module (gnu system)
  #:use-module (gnu system shadow)
  #:use-module ((gnu packages admin) #:select (shadow))
  #:use-module (guix build-system gnu)
  #:use-module (guix derivations)
  #:use-module (guix diagnostics)
  #:use-module (guix gexp)
  #:use-module (guix i18n)
  #:use-module ((guix licenses) #:prefix license:)
  #:use-module (guix packages)
  #:use-module (guix records)
  #:use-module (guix store)
  #:use-module (ice-9 match)
  #:use-module (srfi srfi-1)
  #:use-module (srfi srfi-34)
  #:export (narlock
            narlock-configuration
            narlock-configuration?
            narlock-configuration-package
            narlock-configuration-guix
            narlock-configuration-options
            narlock-configuration-heal?
            narlock-configuration-heal-pause
            narlock-configuration-anchor
            narlock-guix-variable
            narlock-service-type
            operating-system-with-narlock
            %landlock-kernel-argument))

;;; The package.

(define-public narlock
  (package
    (name "narlock")
    (version "0.1")
    (source (local-file "../.." "narlock-checkout"
                        #:recursive? #t
                        #:select? (lambda (file stat)
                                    (not (member (basename file) '(".git" "build"))))))
    (build-system gnu-build-system)
    (arguments
     (list
      ;; The tests need user namespaces, another uid and a network of their own: `make check' outside.
      #:tests? #f
      #:make-flags
      #~(list "CC=gcc" "CREATE_USER=no" "SYSCONFDIR=/etc"
              ;; With another compiler than the developers' a new warning shall not be the end.
              "CFLAGS=-O2 -g -Wno-error"
              (string-append "PREFIX=" #$output))
      #:phases
      #~(modify-phases %standard-phases
          (delete 'configure)
          (replace 'install
            ;; The programs read /etc/narlock, but nothing can be installed there: only what is below the output is taken.
            (lambda* (#:key make-flags #:allow-other-keys)
              (let ((stage (string-append (getcwd) "/stage")))
                (apply invoke "make" "install" (string-append "DESTDIR=" stage) make-flags)
                (copy-recursively (string-append stage #$output) #$output)
                (copy-recursively (string-append stage "/etc")
                                  (string-append #$output "/share/narlock/etc"))))))))
    (inputs
     (list curl libcap libgcrypt libmicrohttpd libseccomp libsodium lzlib openssl sqlite zlib
           (list zstd "lib")))
    ;; The filters are made of numbers: policy/mkpolicy.c knows those of these two.
    (supported-systems '("x86_64-linux" "aarch64-linux"))
    (home-page "https://guix.gnu.org/manual/en/html_node/Substitutes.html")
    (synopsis "Sandboxed, verifying substituter for guix-daemon")
    (description
     "narlock takes the place of @command{guix substitute}.  Helpers without rights, each under a system call filter,
touch what servers send; a broker without network writes only what an authorized key has signed and whose hash is right.
It can fetch substitutes as ERIS blocks, from IPFS and elsewhere.  @command{narlock-publish} serves them.")
    (license license:gpl3+)))

;;; The service.

(define-record-type* <narlock-configuration>
  narlock-configuration make-narlock-configuration
  narlock-configuration?
  (package    narlock-configuration-package    ;file-like
              (default narlock))
  ;; What runs for everything but substitutes.  #f: what guix-configuration has.
  (guix       narlock-configuration-guix       ;#f | file-like: the program
              (default #f))
  ;; Lines of narlock.conf(5), as pairs of strings; values may be file-like.  A key may come more than once.
  (options    narlock-configuration-options
              (default '()))
  ;; Whether blocks that IPFS lacked are put back into it; only of use beside an IPFS daemon.
  (heal?      narlock-configuration-heal?
              (default #f))
  (heal-pause narlock-configuration-heal-pause ;seconds
              (default 600))
  ;; When the audit log is verified and the hash of its newest record sent to syslog; #f: never.  At noon most machines are
  ;; on:
  ;; what was missed is not made up for.
  (anchor     narlock-configuration-anchor     ;#f | string as of cron | gexp of a calendar event
              (default "0 12 * * *")))

(define (narlock-conf config)
  (match-record config <narlock-configuration> (guix options)
    (apply mixed-text-file "narlock.conf"
           (append-map (match-lambda
                         ((key . value) (list key " = " value "\n")))
                       (if guix
                           (alist-cons "guix" guix options)
                           options)))))

(define (narlock-etc-files config)
  `(("narlock/narlock.conf" ,(narlock-conf config))))

;; The user of the helpers.  It owns no file but the fetcher's two, and must be the user of nothing else.
(define narlock-accounts
  (const (list (user-group (name "narlock") (system? #t))
               (user-account
                (name "narlock")
                (group "narlock")
                (system? #t)
                (comment "narlock helpers")
                (home-directory "/var/empty")
                (create-home-directory? #f)
                (shell (file-append shadow "/sbin/nologin"))))))

;; Where audit.log goes; everything else is made by the broker.
(define narlock-activation
  (const #~(begin
             (use-modules (guix build utils))
             (mkdir-p "/var/log/narlock")
             (chmod "/var/log/narlock" #o755))))

(define (narlock-heal-service config)
  (match-record config <narlock-configuration> (package heal-pause)
    (shepherd-service
     (provision '(narlock-heal))
     (requirement '(user-processes networking guix-daemon))
     (documentation "Put blocks of substitutes that were missing in IPFS back into it.")
     ;; It looks into its journal now and then, and locks itself up; see narlock-heal(8).
     (start #~(make-forkexec-constructor
               (list #$(file-append package "/bin/narlock-heal")
                     "--pause" #$(number->string heal-pause))
               #:user "narlock" #:group "narlock"
               #:supplementary-groups '()
               #:environment-variables '("PATH=/run/current-system/profile/bin")
               #:log-file "/var/log/narlock-heal.log"))
     (stop #~(make-kill-destructor)))))

;; What narlock-audit.timer is elsewhere; `herd trigger narlock-audit' does it now.
(define (narlock-audit-service config)
  (match-record config <narlock-configuration> (package anchor)
    (shepherd-timer '(narlock-audit) anchor
                    (list (file-append package "/bin/narlock") "audit" "--anchor")
                    #:requirement '(user-processes)
                    #:documentation "Verify narlock's audit log and anchor it in the system's log.")))

(define (narlock-shepherd-services config)
  (match-record config <narlock-configuration> (heal? anchor)
    (append (if heal? (list (narlock-heal-service config)) '())
            (if anchor (list (narlock-audit-service config)) '()))))

(define narlock-service-type
  (service-type
   (name 'narlock)
   (extensions
    (list (service-extension account-service-type narlock-accounts)
          (service-extension activation-service-type narlock-activation)
          (service-extension etc-service-type narlock-etc-files)
          (service-extension profile-service-type
                             (compose list narlock-configuration-package))
          (service-extension shepherd-root-service-type narlock-shepherd-services)))
   (default-value (narlock-configuration))
   (description "Configure @command{narlock} and make the user of its helpers.  That guix-daemon uses it takes the
variable @code{GUIX} in its environment, too: @code{operating-system-with-narlock} sees to both.")))

;;; guix-daemon's environment.
;;;
;;; Services cannot extend it (guix-extension has no such field), and the list in guix-configuration is quoted, so that
;;; its elements cannot be expressions.  Hence this object, which becomes one string with the package's place in the store.

(define-record-type* <guix-variable>
  guix-variable make-guix-variable
  guix-variable?
  (package guix-variable-package))

(define-gexp-compiler guix-variable-compiler <guix-variable>
  compiler => (lambda (variable system target)
                (lower-object (guix-variable-package variable) system #:target target))
  expander => (lambda (variable lowered output)
                (string-append "GUIX="
                               (if (derivation? lowered)
                                   (derivation->output-path lowered)
                                   lowered)
                               "/libexec/narlock/guix")))

(define (narlock-guix-variable package)
  "Return an object for the @code{environment} of guix-configuration: GUIX=, and PACKAGE's program."
  (guix-variable (package package)))

;; What linux-libre of Guix has built in, with landlock before it: there it is built, but not switched on.
(define %landlock-kernel-argument
  "lsm=landlock,yama,loadpin,safesetid,integrity,apparmor,selinux,smack,tomoyo")

;; Guix 1.5.0 has this field but does not export it; before, every daemon was privileged.
(define privileged?
  (let ((base (resolve-module '(gnu services base))))
    (if (module-variable base 'guix-configuration-privileged?)
        (eval '(lambda (config) (guix-configuration-privileged? config)) base)
        (const #t))))

(define (check-daemon daemon options)
  "Refuse what would leave a machine without substitutes, at its next reconfigure rather than at its next build."
  (unless daemon
    (raise (formatted-message (G_ "narlock: this operating system has no guix-service-type"))))
  ;; The namespace of such a daemon's helpers has neither store nor state, and here their libraries are in the store.
  (unless (or (privileged? daemon)
              (member '("required-layers" . "no-namespace") options))
    (raise (formatted-message (G_ "narlock: with an unprivileged guix-daemon the helpers can have no namespace of their \
own on Guix System; allow that with the option (\"required-layers\" . \"no-namespace\"), or set (privileged? #t)")))))

(define* (operating-system-with-narlock os #:optional (config (narlock-configuration))
                                        #:key (landlock? #f))
  "Return OS with narlock as the substituter of its guix-daemon.  With LANDLOCK?, its kernel is told to use Landlock."
  (define daemon
    (any (lambda (service)
           (and (eq? (service-kind service) guix-service-type)
                (service-value service)))
         (operating-system-user-services os)))

  (check-daemon daemon (narlock-configuration-options config))
  (operating-system
    (inherit os)
    (kernel-arguments
     (if landlock?
         (append (operating-system-user-kernel-arguments os)
                 (list %landlock-kernel-argument))
         (operating-system-user-kernel-arguments os)))
    (services
     (cons (service narlock-service-type
                    (narlock-configuration
                     (inherit config)
                     (guix (or (narlock-configuration-guix config)
                               (file-append (guix-configuration-guix daemon) "/bin/guix")))))
           (modify-services (operating-system-user-services os)
             (guix-service-type
              old =>
              (guix-configuration
               (inherit old)
               (environment
                (cons (narlock-guix-variable (narlock-configuration-package config))
                      (guix-configuration-environment old))))))))))

;; For `guix build -f'.
narlock
