/* read PATH...: reads each. write PATH...: changes each in every way. environ WORD: looks for the
 * word in what `/proc` shows of every process. */
#include "hostile.h"
#include <dirent.h>
#include <sys/time.h>

static void reads(const char *path) {
  char bytes[64];
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  tried(path, fd >= 0 && read(fd, bytes, sizeof bytes) > 0);
}

static void changes(const char *path) {
  char other[4096];
  snprintf(other, sizeof other, "%s.other", path);
  printf("%s\n", path);
  tried("open to write", open(path, O_WRONLY | O_APPEND | O_CLOEXEC) >= 0);
  tried("truncate", truncate(path, 0) == 0);
  tried("chmod", chmod(path, 0777) == 0);
  tried("chown", chown(path, 0, 0) == 0 && getuid() != 0);
  tried("touch", utimes(path, NULL) == 0);
  tried("write through /proc/self/root",
        open(strcat(strcpy(other, "/proc/self/root"), path), O_WRONLY) >= 0);
  snprintf(other, sizeof other, "%s.other", path);
  tried("link", link(path, other) == 0);
  tried("rename", rename(path, other) == 0);
  tried("remove", unlink(path) == 0);
  tried("new file beside it", open(other, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) >= 0);
}

static int shows(const char *path, const char *word) {
  static char bytes[1 << 20];
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t size = fd < 0 ? -1 : read(fd, bytes, sizeof bytes);
  if (fd >= 0) close(fd);
  return size > 0 && memmem(bytes, size, word, strlen(word)) != NULL;
}

static void looks_for(const char *word) {
  const char *const files[] = {"environ", "cmdline", "root/proc/self/environ"};
  int found = 0;
  struct dirent *entry;
  DIR *all = opendir("/proc");
  while (all && (entry = readdir(all)))
    for (int i = 0; i < 3 && entry->d_name[0] >= '0' && entry->d_name[0] <= '9'; i++) {
      char path[512];
      snprintf(path, sizeof path, "/proc/%s/%s", entry->d_name, files[i]);
      found += shows(path, word);
    }
  tried("environment of another process", found > 0);
}

static void attack(int count, char **words) {
  for (int i = 1; i < count; i++) {
    if (strcmp(words[0], "read") == 0) reads(words[i]);
    else if (strcmp(words[0], "write") == 0) changes(words[i]);
    else if (strcmp(words[0], "environ") == 0) looks_for(words[i]);
    else exit(2);
  }
}
