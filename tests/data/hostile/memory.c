/* alone MIB: takes so much memory by itself. together MIB COUNT: so much in each of COUNT children,
 * all at once. Says how many MiB it got. */
#include "hostile.h"
#include <signal.h>
#include <sys/mman.h>

#define STEP (1 << 20)

static int take(int mib) {
  int got = 0;
  while (got < mib) {
    char *memory = mmap(NULL, STEP, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) break;
    memset(memory, 1, STEP);
    got++;
  }
  return got;
}

/* A child that the kernel ended will never be ready. */
static void give_up(int number) { _exit(number > 0 ? 4 : 5); }

static void together(int mib, int children) {
  int ready[2];
  char one;
  if (pipe(ready) != 0) exit(3);
  signal(SIGCHLD, give_up);
  for (int i = 0; i < children; i++)
    if (fork() == 0) {
      take(mib);
      if (write(ready[1], "x", 1) != 1) _exit(3);
      for (;;) pause();
    }
  close(ready[1]);
  for (int i = 0; i < children; i++)
    if (read(ready[0], &one, 1) != 1) exit(4);
  printf("%d\n", mib * children);
}

static void attack(int count, char **words) {
  if (count == 2 && strcmp(words[0], "alone") == 0) printf("%d\n", take(atoi(words[1])));
  else if (count == 3 && strcmp(words[0], "together") == 0)
    together(atoi(words[1]), atoi(words[2]));
  else exit(2);
}
