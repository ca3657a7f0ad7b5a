#include "a.h"
    .text
    .globl f
f:  mov $A, %eax
    ret
