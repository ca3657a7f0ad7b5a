#include <map>
#include <string>
#include "a.h"

namespace {
struct Hidden {
    virtual ~Hidden() {}
    int value = A;
};
}

int count(const std::map<std::string, int> &words)
{
    int sum = Hidden().value, unused;
    for (auto &word : words)
        sum += [&](auto factor) { return factor * word.second; }(2);
    return sum;
}
