/* deleted: writes to files that it deleted and holds open. mapped: to deleted files that it only
 * holds mapped. empty: makes files without content. sparse: makes one large file of nothing. All
 * go on until they are stopped. */
#include "hostile.h"
#include <sys/mman.h>

#define PART (256 << 10)

static int scratch(int number) {
  char path[64];
  snprintf(path, sizeof path, "/tmp/%d", number);
  int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
  if (fd < 0) exit(3);
  unlink(path);
  return fd;
}

static void fill(int fd) {
  static char bytes[PART];
  for (int i = 0; i < PART; i += 512) bytes[i] = rand();
  if (write(fd, bytes, PART) != PART) exit(4);
}

static void attack(int count, char **words) {
  if (count != 1) exit(2);
  for (int number = 0; number < 200; number++) {
    if (strcmp(words[0], "deleted") == 0) fill(scratch(number));
    else if (strcmp(words[0], "mapped") == 0) {
      int fd = scratch(number);
      fill(fd);
      if (mmap(NULL, PART, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED) exit(5);
      close(fd);
    } else if (strcmp(words[0], "empty") == 0) {
      char path[64];
      snprintf(path, sizeof path, "/tmp/%d", number);
      mkdir(path, 0700);
      for (int inner = 0; inner < 20; inner++) {
        snprintf(path, sizeof path, "/tmp/%d/%d", number, inner);
        close(open(path, O_WRONLY | O_CREAT, 0600));
      }
    } else if (strcmp(words[0], "sparse") == 0) {
      if (ftruncate(scratch(0), 1L << 40) == 0) exit(6);
    } else exit(2);
  }
  for (;;) pause();
}
