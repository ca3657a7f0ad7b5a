/* PORT UNIX-PATH ABSTRACT-NAME: connects to each, and tries the other families. */
#include "hostile.h"
#include <net/if.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

static int reaches(int family, const void *address, socklen_t size) {
  int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  return fd >= 0 && connect(fd, address, size) == 0;
}

static int reaches_unix(const char *name, int abstract) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  size_t size = strlen(name);
  memcpy(address.sun_path + abstract, name, size);
  return reaches(AF_UNIX, &address, offsetof(struct sockaddr_un, sun_path) + abstract + size);
}

static int raises_loopback(void) {
  struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
  return ioctl(socket(AF_INET, SOCK_DGRAM, 0), SIOCSIFFLAGS, &request) == 0;
}

static int sees_interfaces(void) {
  struct if_nameindex *all = if_nameindex();
  int others = 0;
  for (struct if_nameindex *one = all; one && one->if_index; one++)
    others += strcmp(one->if_name, "lo") != 0 && strcmp(one->if_name, "sit0") != 0 &&
              strcmp(one->if_name, "tunl0") != 0 && strcmp(one->if_name, "ip6tnl0") != 0 &&
              strcmp(one->if_name, "erspan0") != 0 && strncmp(one->if_name, "gre", 3) != 0;
  return others > 0;
}

static void attack(int count, char **words) {
  if (count != 3) exit(2);
  struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(atoi(words[0]))};
  struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(atoi(words[0]))};
  four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  six.sin6_addr = in6addr_loopback;
  tried("tcp", reaches(AF_INET, &four, sizeof four));
  tried("tcp6", reaches(AF_INET6, &six, sizeof six));
  tried("unix socket", reaches_unix(words[1], 0));
  tried("abstract socket", reaches_unix(words[2], 1));
  tried("raw packets", socket(AF_PACKET, SOCK_RAW, 0) >= 0);
  tried("interfaces", sees_interfaces());
  tried("loopback", raises_loopback());
}
