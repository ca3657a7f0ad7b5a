/* bomb: forks as often as it may and says how often. stay: leaves processes that do not want to end
 * and exits. outlive: the same, and does not exit. */
#include "hostile.h"
#include <signal.h>

#define FORKS_MAX 3000

static void ignore_all(void) {
  for (int number = 1; number < 65; number++) signal(number, SIG_IGN);
}

static void stay(void) {
  fflush(stdout);
  for (int i = 0; i < 3; i++) {
    if (fork() == 0) {
      setsid();
      if (fork() == 0) {
        /* The streams are closed so that nobody waits for them. */
        for (int fd = 0; fd < 3; fd++) close(fd);
        ignore_all();
        for (;;) pause();
      }
      _exit(0);
    }
  }
}

static void bomb(void) {
  int forks = 0;
  while (forks < FORKS_MAX) {
    pid_t child = fork();
    if (child == 0)
      for (;;) pause();
    if (child < 0) break;
    forks++;
  }
  printf("%d\n", forks);
}

static void attack(int count, char **words) {
  if (count != 1) exit(2);
  if (strcmp(words[0], "bomb") == 0) bomb();
  else if (strcmp(words[0], "stay") == 0) stay();
  else if (strcmp(words[0], "outlive") == 0) {
    stay();
    ignore_all();
    for (;;) pause();
  } else exit(2);
}
