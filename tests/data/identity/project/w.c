#include "a.h"
#define SAME(x) ((x) == "text" ? made : 1)
#warning careful
int made;
int g(char *p)
{
    int unused = 0, ünï = 1;
    if (p = 0) return SAME(p); /* a comment long enough to make this line wider than any terminal that a build may run in, or nearly so /* */
    return made << 99;
}
static inline int never(void);
void fill(void) { char b[3]; __builtin_memset(b, 0, 9); }
