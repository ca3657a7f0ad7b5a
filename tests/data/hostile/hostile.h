/* The frame of every hostile program. It takes a compiler's place: `gcc -c a.c -o a.o`. The source
 * is one line of words, which say what to try; `reference` is the honest compile that shows that
 * the toolchain works. Each try is reported as `held` or, when it got through, as `ESCAPED`. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORDS_MAX 16

static const char *output;

/* The program's own part. */
static void attack(int count, char **words);

__attribute__((unused)) static void tried(const char *what, int got_through) {
  if (got_through)
    printf("ESCAPED %s\n", what);
  else
    printf("held %s: %s\n", what, strerror(errno));
  fflush(stdout);
}

static void write_file(const char *path, const char *text) {
  FILE *file = fopen(path, "w");
  if (!file || fputs(text, file) < 0 || fclose(file) != 0) exit(3);
}

int main(int argc, char **argv) {
  static char line[4096];
  char *words[WORDS_MAX];
  int count = 0;
  if (argc != 5) return 2;
  output = argv[4];
  FILE *source = fopen(argv[2], "r");
  if (!source || !fgets(line, sizeof line, source)) return 2;
  fclose(source);
  for (char *word = strtok(line, " \n"); word && count < WORDS_MAX; word = strtok(NULL, " \n"))
    words[count++] = word;
  if (count == 1 && strcmp(words[0], "reference") == 0) {
    write_file(output, "x");
    return 0;
  }
  attack(count, words);
  return 0;
}
