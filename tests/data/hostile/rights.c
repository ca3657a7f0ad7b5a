/* rights: tries to become more than it is, by what namespaces and capabilities forbid.
 * calls: system calls that no compiler makes; one that is known to the kernel and not refused by
 * the filter counts as an escape, whatever it answers. */
#include "hostile.h"
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>

static int gains_capabilities(void) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct all[2] = {{~0u, ~0u, ~0u}, {~0u, ~0u, ~0u}};
  return syscall(SYS_capset, &header, all) == 0;
}

static int has_capabilities(void) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct found[2] = {{0}};
  errno = EPERM;
  return syscall(SYS_capget, &header, found) == 0 &&
         (found[0].effective | found[1].effective | found[0].permitted | found[1].permitted);
}

static int reads_memory_of(pid_t pid) {
  char bytes[8];
  struct iovec ours = {bytes, sizeof bytes}, theirs = {(void *)0x400000, sizeof bytes};
  return process_vm_readv(pid, &ours, 1, &theirs, 1, 0) > 0;
}

static int sets_hostname(void) { return sethostname("mine", 4) == 0; }

static void rights(void) {
  tried("capset", gains_capabilities());
  tried("capabilities", has_capabilities());
  tried("setgroups", setgroups(0, NULL) == 0);
  tried("another user", setresuid(1, 1, 1) == 0);
  tried("another group", setresgid(1, 1, 1) == 0);
  tried("mount", mount("none", "/tmp", "tmpfs", 0, "") == 0);
  tried("remount", mount("none", "/", "", MS_REMOUNT | MS_BIND, "") == 0);
  tried("unmount", umount2("/proc", MNT_DETACH) == 0);
  tried("chroot", chroot("/tmp") == 0);
  tried("block device", mknod("/tmp/disk", S_IFBLK | 0600, makedev(8, 0)) == 0);
  tried("character device", mknod("/tmp/mem", S_IFCHR | 0600, makedev(1, 1)) == 0);
  tried("namespace of a mount", unshare(CLONE_NEWNS) == 0);
  tried("host name", sets_hostname());
  tried("memory of the parent", getppid() > 1 && reads_memory_of(getppid()));
  tried("higher priority", setpriority(0, 0, -20) == 0);
  tried("clock", syscall(SYS_settimeofday, &(struct { long s, u; }){1, 1}, NULL) == 0);
  tried("setting of the kernel", open("/proc/sys/kernel/printk", O_WRONLY) >= 0);
  tried("trigger of the kernel", open("/proc/sysrq-trigger", O_WRONLY) >= 0);
}

static void call(const char *what, long number, long a, long b, long c) {
  long answer = syscall(number, a, b, c, 0L, 0L, 0L);
  tried(what, answer >= 0 || errno != ENOSYS);
}

static void user_namespace(void) {
  tried("user namespace", unshare(CLONE_NEWUSER) == 0);
  long child = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
  if (child == 0) _exit(0);
  tried("process in a user namespace", child > 0);
}

#ifdef __x86_64__
/* `getpid` as a 32-bit program calls it. */
static int calls_i386(void) {
  int status;
  pid_t child = fork();
  if (child == 0) {
    int pid;
    __asm__ volatile("int $0x80" : "=a"(pid) : "a"(20) : "memory");
    _exit(pid > 0 ? 0 : 1);
  }
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}
#endif

static void calls(void) {
  char stack[64] = {0};
  long zero = (long)stack;
  user_namespace();
  call("ptrace", SYS_ptrace, PTRACE_ATTACH, -1, 0);
  call("process_vm_readv", SYS_process_vm_readv, 1, zero, 0);
  call("process_vm_writev", SYS_process_vm_writev, 1, zero, 0);
  call("kcmp", SYS_kcmp, 1, 1, 0);
  call("keyctl", SYS_keyctl, 0, -3, 0);
  call("add_key", SYS_add_key, zero, zero, zero);
  call("request_key", SYS_request_key, zero, zero, zero);
  call("bpf", SYS_bpf, 0, zero, 16);
  call("perf_event_open", SYS_perf_event_open, zero, 0, -1);
  call("userfaultfd", SYS_userfaultfd, 0, 0, 0);
  call("io_uring_setup", SYS_io_uring_setup, 1, zero, 0);
  call("socket", SYS_socket, 1, 1, 0);
  call("socketpair", SYS_socketpair, 16 /* AF_NETLINK */, 1, 0);
  call("connect", SYS_connect, -1, zero, 0);
  call("bind", SYS_bind, -1, zero, 0);
  call("sendmsg", SYS_sendmsg, -1, zero, 0);
  call("setns", SYS_setns, -1, 0, 0);
  call("mount", SYS_mount, zero, zero, zero);
  call("pivot_root", SYS_pivot_root, zero, zero, 0);
  call("open_tree", SYS_open_tree, -1, zero, 0);
  call("kexec_load", SYS_kexec_load, 0, 0, 0);
  call("init_module", SYS_init_module, zero, 0, zero);
  call("finit_module", SYS_finit_module, -1, zero, 0);
  call("open_by_handle_at", SYS_open_by_handle_at, -1, zero, 0);
  call("memfd_create", SYS_memfd_create, zero, 0, 0);
  call("shmget", SYS_shmget, 0, 4096, 01600);
  call("mq_open", SYS_mq_open, zero, O_CREAT | O_RDWR, 0600);
  call("seccomp", SYS_seccomp, 2, 0, zero);
  call("personality", SYS_personality, 0x0040000, 0, 0);
  call("clone3", SYS_clone3, 0, 0, 0);
  call("pidfd_getfd", SYS_pidfd_getfd, -1, 0, 0);
  call("swapon", SYS_swapon, zero, 0, 0);
  call("reboot", SYS_reboot, 0, 0, 0);
  call("syslog", SYS_syslog, 3, zero, 8);
  call("quotactl", SYS_quotactl, 0, zero, 0);
  call("acct", SYS_acct, zero, 0, 0);
  call("a key pressed in the terminal", SYS_ioctl, 0, 0x5412 /* TIOCSTI */, zero);
  tried("memory of no process",
        mmap(NULL, 4096, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
#ifdef __x86_64__
  call("x32", 0x40000000 | SYS_getpid, 0, 0, 0);
  tried("i386", calls_i386());
#endif
}

static void attack(int count, char **words) {
  if (count == 1 && strcmp(words[0], "rights") == 0) rights();
  else if (count == 1 && strcmp(words[0], "calls") == 0) calls();
  else exit(2);
}
