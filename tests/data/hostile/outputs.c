/* Puts something else than a file in the place of the output, or files where none was asked for. */
#include "hostile.h"
#include <stddef.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

static void attack(int count, char **words) {
  if (count != 1) exit(2);
  const char *what = words[0];
  if (strcmp(what, "symlink") == 0) tried(what, symlink("/usr/bin/gcc", output) != 0);
  else if (strcmp(what, "dangling") == 0) tried(what, symlink("/etc/shadow", output) != 0);
  else if (strcmp(what, "pipe") == 0) tried(what, mkfifo(output, 0666) != 0);
  else if (strcmp(what, "folder") == 0) tried(what, mkdir(output, 0777) != 0);
  else if (strcmp(what, "device") == 0) tried(what, mknod(output, S_IFCHR | 0666, makedev(1, 5)) == 0);
  else if (strcmp(what, "hardlink") == 0) tried(what, link("/usr/bin/gcc", output) == 0);
  else if (strcmp(what, "socket") == 0) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, output);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    tried(what, fd >= 0 && bind(fd, (void *)&address, sizeof address) == 0);
  } else if (strcmp(what, "another") == 0) {
    write_file(output, "fine");
    write_file("other.o", "not asked for");
  } else if (strcmp(what, "elsewhere") == 0) {
    tried("above", open("../other.o", O_WRONLY | O_CREAT, 0666) >= 0);
    tried("absolute", open("/other.o", O_WRONLY | O_CREAT, 0666) >= 0);
    tried("beside the compiler", open("/usr/bin/other", O_WRONLY | O_CREAT, 0777) >= 0);
  } else exit(2);
}
